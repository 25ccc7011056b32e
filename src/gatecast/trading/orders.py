"""Orders: what a desk holds and the book's targets -> orders with prices, costs and reasons, and the limits they keep.

Nothing here trades or writes. The trades come from `sizing.trades_of`, as those of the backtest do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gatecast.errors import SettingsError
from gatecast.settings import Settings
from gatecast.trading.costs import BASIS_POINT, Fraction
from gatecast.trading.cuts import gate_of_trade, sentences_of
from gatecast.trading.desk import Desk
from gatecast.trading.sizing import SLACK, Cap, Sized, total

FloatArray = NDArray[np.float64]

Limit = Literal[
    "order_value", "turnover", "share_of_volume", "gross", "net", "name", "asset_class", "restricted", "price_age"
]
ID_LENGTH = 16
"""Digits of an order's id."""
MONEY_DIGITS = 4
"""Digits of money after the point."""
PRICE_DIGITS = 6
"""Digits that count of a limit price without a tick."""


class OrderSettings(Settings):
    """What orders may not exceed before they are exported, and how they are placed.

    >>> OrderSettings(collar=2)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: OrderSettings: collar = 2: input should be less than or equal to 0.5 (distance of \
the limit price from the last close, as a share of it).
    """

    order_value: Annotated[float, Field(gt=0, le=1e12)] | None = Field(default=None, examples=[250_000.0])
    """largest value of one order, in the book's currency; left out: no limit"""
    turnover: Cap = 1.0
    """largest value of a session's orders together, over capital"""
    share_of_volume: Annotated[float, Field(gt=0, le=1)] = 0.2
    """largest order, as a share of the mean value traded in its symbol over 21 sessions"""
    collar: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """distance of the limit price from the last close, as a share of it"""
    gross: Cap | None = Field(default=None, examples=[1.0])
    """largest value held long and short together after the orders, over capital; left out: `book.size.gross_cap`"""
    net: Cap | None = Field(default=None, examples=[1.0])
    """largest value held long less short, or short less long; left out: `book.size.net_cap`"""
    asset_class: Cap | None = Field(default=None, examples=[0.6])
    """largest value held long and short in one asset class; left out: `book.size.class_cap`"""
    name: Cap | None = Field(default=None, examples=[0.25])
    """largest value held in one symbol; left out: `book.size.name_cap`"""
    restricted: tuple[str, ...] = Field(default=(), examples=[["ABC"]])
    """symbols that may not be traded; a file of more is given to `gatecast orders --restricted`"""
    price_age: Annotated[int, Field(ge=0, le=60)] = 0
    """sessions of its calendar that may have closed since the price of a symbol that is held"""
    soft: tuple[Limit, ...] = ("order_value", "turnover", "share_of_volume", "price_age")
    """limits that somebody may override with a reason and an expiry; all others are hard: orders beyond them are
    refused"""
    value_tolerance: Fraction = 0.2
    """distance of a holding's value, where the positions say it, from units times the last close; a larger one is
    refused"""
    time_in_force: Literal["day", "opening"] = "day"
    """how long an order stands: for the next session, or for its opening auction"""


@dataclass(frozen=True)
class Order:
    """One order. Units are above 0; money is in the book's currency, prices are in the symbol's.

    `held`, `open_units`: units that are there and those of orders that are open, below 0 where they are sold;
    `target_units`: after the order. `send_before`: the next open by the calendar, UTC. `gate`: what cut it, see
    `sizing`.
    """

    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    units: float
    order_type: Literal["limit"]
    limit_price: float
    currency: str
    time_in_force: str
    send_before: datetime
    last_close: float
    held: float
    open_units: float
    target_units: float
    value: float
    commission: float
    spread: float
    impact: float
    cost: float
    cost_bps: float
    gate: str
    reason: str

    @property
    def signed(self) -> float:
        """Units, below 0 to sell."""
        return self.units if self.side == "buy" else -self.units

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; the moment as text."""
        return {**asdict(self), "send_before": self.send_before.isoformat()}


@dataclass(frozen=True)
class Breach:
    """A limit that orders exceed. `symbol`: whose order it is, "" for all together; `value` is beyond `limit`."""

    name: str
    symbol: str
    value: float
    limit: float
    soft: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def order_id(account: str, session: date, symbol: str, target_units: float) -> str:
    """The id of an order: the same account, session, symbol and target give the same, so that sending twice is seen.

    >>> order_id("main", date(2024, 1, 2), "SPY", 100.0)
    'fcca8232b37317a7'
    """
    parts = [account, session.isoformat(), symbol, repr(float(target_units)), ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:ID_LENGTH]


def orders_of(
    desk: Desk, sized: Sized, held: FloatArray, open_units: FloatArray, account: str, settings: OrderSettings,
    splits: Mapping[str, float] | None = None,
) -> tuple[Order, ...]:  # fmt: skip
    """The orders of a session, one a symbol that is traded, by symbol.

    `held`, `open_units`: (names,) units; `sized` was made of their sum. What an order and open ones add to what is held
    is the target: units = target - held - open. `splits`: symbol -> what one unit becomes before the fill: units and
    prices of its order are those after it, rounded toward zero to lots; the backtest's orders grow with it, too.

    Raises `SettingsError` for a target that is no number, and where no limit price is within the collar.
    """
    commission, spread, impact = desk.costs(sized.trades)
    found = []
    for place in np.flatnonzero(sized.trades).tolist():
        symbol, ratio = desk.names[place], (splits or {}).get(desk.names[place], 1.0)
        trade = in_lots(float(sized.trades[place]) * ratio, float(desk.view.lot[place]) if ratio != 1 else 0.0)
        if trade == 0:
            continue
        send_before = desk.cut_off(place)
        if not math.isfinite(trade) or send_before is None:
            raise SettingsError(f"{symbol!r}: an order of {trade:g} units without a next open cannot be placed.")
        close, value = float(desk.price[place]) / ratio, abs(trade) / ratio * float(desk.view.price[place])
        own, still_open = float(held[place]) * ratio, float(open_units[place]) * ratio
        target = own + still_open + trade
        try:
            limit = limit_price(close, trade > 0, settings.collar, float(desk.instruments.tick[place]))
        except SettingsError as error:
            raise SettingsError(f"{symbol!r}: {error} Or leave it out with --without {symbol}.") from None
        paid = [round(float(one[place]), MONEY_DIGITS) for one in (commission, spread, impact)]
        cost = math.fsum(paid)
        found.append(
            Order(
                order_id=order_id(account, desk.day, symbol, target), symbol=symbol,
                side="buy" if trade > 0 else "sell", units=abs(trade), order_type="limit",
                limit_price=limit, currency=desk.instruments.currency[place], time_in_force=settings.time_in_force,
                send_before=send_before, last_close=close, held=own, open_units=still_open, target_units=target,
                value=round(value, MONEY_DIGITS), commission=paid[0], spread=paid[1], impact=paid[2],
                cost=round(cost, MONEY_DIGITS),
                cost_bps=round(cost / value / BASIS_POINT, MONEY_DIGITS) if value > 0 else 0.0,
                gate=gate_of_trade(sized, place),
                reason=_reason(sized, place, target)
                + (f"; in units after a split of {ratio:g} that comes before the fill" if ratio != 1 else ""),
            )
        )  # fmt: skip
    return tuple(found)


def in_lots(units: float, lot: float) -> float:
    """Units rounded toward zero to whole lots; a lot of 0: as they are.

    >>> in_lots(-15.7, 10.0), in_lots(0.3 * 10, 3.0), in_lots(1.5, 0.0)
    (-10.0, 3.0, 1.5)
    """
    return math.copysign(math.floor(abs(units) / lot + SLACK) * lot, units) if lot > 0 else units


def limit_price(close: float, buys: bool, collar: float, tick: float = 0.0) -> float:
    """The worst price at which an order is filled: the close and a share of it, rounded toward the close.

    `tick`: least step of the price; 0: six digits are kept, and more where the collar is narrower than they are.
    Raises `SettingsError` for a close that is not above 0, and where no step lies between it and the worst price.

    >>> limit_price(101.2345678, True, 0.05), limit_price(101.2345678, False, 0.05)
    (106.296, 96.1729)
    """
    if not 0 < close < math.inf:
        raise SettingsError(f"close = {close:g}: expected a price above 0. Correct its bars.")
    worst = close * (1 + collar if buys else 1 - collar)
    finest = min(math.floor(math.log10(worst)) - PRICE_DIGITS + 1, math.floor(math.log10(close * collar)))
    step = tick if tick > 0 else 10.0**finest
    count = math.floor(worst / step + SLACK) if buys else math.ceil(worst / step - SLACK)
    price = float(f"{count * step:.12g}")
    if (price - close if buys else close - price) < -SLACK * close or price <= 0:
        raise SettingsError(
            f"no step of {step:g} lies between the close {close:.6g} and {worst:.6g}, {collar:.1%} away, so that no "
            "limit price is within the collar: correct its tick, or widen `collar` in [orders]."
        )
    return price


def _reason(sized: Sized, place: int, target: float) -> str:
    """Why an order is placed, in words."""
    aimed, after = float(sized.target[place]), float(sized.weights[place])
    if target == 0:
        said = "closes the position"
    else:
        core, tilt = float(sized.core[place]), float(sized.tilt[place])
        parts = f" (core {core:+.1%}, strategies {tilt:+.1%})" if abs(tilt) >= SLACK else ""
        said = f"target {aimed:+.1%} of the capital{parts}, {after:+.1%} once it is filled"
    return "; ".join([said, *sentences_of(sized, place)])


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


def breaches(
    desk: Desk, orders: Sequence[Order], held: FloatArray, capital: float, settings: OrderSettings,
    restricted: Collection[str] = (), splits: Mapping[str, float] | None = None,
) -> tuple[Breach, ...]:  # fmt: skip
    """The limits that orders exceed, hard ones first; `held`: (names,) units with those of open orders; `splits`: see
    `orders_of`.

    A limit on what is held is exceeded where orders make it worse: orders that bring a book nearer to it are let pass.
    """
    found, size = list[Breach](), desk.size

    def note(name: Limit, symbol: str, value: float, limit: float, what: str) -> None:
        soft = name in settings.soft
        owner = f"{symbol!r}: " if symbol else ""
        rule = "soft" if soft else "hard"
        found.append(Breach(name, symbol, value, limit, soft, f"{owner}{what} ({rule} limit {name})."))

    usual = dict(zip(desk.names, desk.volume.tolist(), strict=True))
    for order in orders:
        if order.symbol in {*settings.restricted, *restricted}:
            note("restricted", order.symbol, order.value, 0.0, "it is on the restricted list, and may not be traded")
        most = settings.order_value
        if most is not None and order.value > most:
            note("order_value", order.symbol, order.value, most, f"an order of {order.value:,.2f}, beyond {most:,.2f}")
        volume, limit = usual[order.symbol], settings.share_of_volume
        if math.isfinite(volume) and order.value > limit * volume * (1 + SLACK):
            share = order.value / volume if volume > 0 else 1e9
            note(
                "share_of_volume", order.symbol, share, limit, f"{share:.1%} of a session's volume, beyond {limit:.1%}"
            )
    traded = math.fsum(order.value for order in orders) / capital
    if traded > settings.turnover * (1 + SLACK):
        said = f"the orders trade {traded:.1%} of the capital, beyond {settings.turnover:.1%}"
        note("turnover", "", traded, settings.turnover, said)
    for place in np.flatnonzero((held != 0) & (desk.age > settings.price_age)).tolist():
        age, oldest = int(desk.age[place]), settings.price_age
        said = f"its price is {age} sessions old, {oldest} are allowed: what it is worth is not known"
        note("price_age", desk.names[place], age, oldest, said)
    unit = np.where(desk.view.price > 0, desk.view.price, 0.0) / capital
    traded_units = {one.symbol: one.signed / (splits or {}).get(one.symbol, 1.0) for one in orders}
    after = held + np.array([traded_units.get(name, 0.0) for name in desk.names])
    before, then = held * unit, after * unit
    kinds = np.array(desk.view.classes, dtype=object)
    sums: list[tuple[Limit, str, float | None, FloatArray, bool]] = [
        ("gross", "", _either(settings.gross, size.gross_cap), np.ones(len(unit)), False),
        ("net", "", _either(settings.net, size.net_cap), np.ones(len(unit)), True),
        *(("asset_class", str(kind), _either(settings.asset_class, size.class_cap), (kinds == kind) * 1.0, False)
          for kind in sorted(set(desk.view.classes))),
        *(("name", name, _either(settings.name, size.name_cap), (np.arange(len(unit)) == place) * 1.0, False)
          for place, name in enumerate(desk.names)),
    ]  # fmt: skip
    for name, owner, cap, share, signed in sums:
        was, held_then = (abs(total(one * share)) if signed else total(np.abs(one) * share) for one in (before, then))
        if cap is not None and held_then > cap + SLACK and held_then > was + SLACK:
            said = f"{held_then:.2%} of the capital is held after the orders, beyond {cap:.2%}"
            note(name, owner, held_then, cap, said)
    return tuple(sorted(found, key=lambda one: one.soft))


def _either(own: float | None, of_book: float | None) -> float | None:
    return of_book if own is None else own
