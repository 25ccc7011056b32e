"""What actions give for a share, beside its price and in one currency: last returns, and what cannot be.

Prices of two symbols are compared at the rate by which a book converts them: the newest close of a pair of currencies
that is known, pence as hundredths of a pound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError
from gatecast.market.actions import GIVES, GOES, KINDS, PAYS, SCHEMA, with_terms
from gatecast.market.bars import session_date
from gatecast.market.classes import MINOR, currencies_of, rate_pair

FloatArray = NDArray[np.float64]
RENAMED = 0.3
"""Return of a change of symbol, between the last closes of both, above which it is none."""
SOON = timedelta(days=10)
"""Time after an action within which the first close of what it gives says what that is worth."""


# ── one currency ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Currencies:
    """The currencies of prices: `named`, symbol -> currency; `home`, that of all others but pairs of currencies.

    >>> known = Currencies({"VOD.L": "GBX"})
    >>> known.of("VOD.L", "equity"), known.of("SPY", "etf"), known.of("EURJPY", "fx")
    ('GBX', 'USD', 'JPY')
    """

    named: Mapping[str, str] = field(default_factory=dict)
    home: str = "USD"

    def of(self, symbol: str, asset_class: str) -> str:
        """The currency of a symbol's prices."""
        pair = currencies_of(symbol) if asset_class == "fx" else None
        return pair[1] if pair else self.named.get(symbol, self.home)

    def after(self, told: Mapping[str, str]) -> Currencies:
        """The same with the currencies that a table says of symbols that are not named."""
        return Currencies({**told, **self.named}, self.home)


def conversion_rates(
    currencies: Sequence[str], book: str, pairs: Mapping[str, FloatArray], sessions: int
) -> FloatArray:
    """(sessions, symbols) money of the book for one unit of each currency, from closes of pairs, such as "EURUSD".

    `pairs`: name -> (sessions,) closes. A pair the other way round is turned. Raises `BarsError` for a currency without
    a pair with that of the book. Of `MINOR` currencies, such as pence, the rate is that of their share.

    >>> conversion_rates(["USD", "JPY"], "USD", {"USDJPY": np.array([100.0, 125.0])}, 2).tolist()
    [[1.0, 0.01], [1.0, 0.008]]
    """
    found = []
    for given in currencies:
        pair, share, turned = conversion_of(given, book, pairs)
        if pair is None:
            found.append(np.full(sessions, share))
        else:
            found.append(share / pairs[pair] if turned else share * pairs[pair])
    return np.column_stack(found) if found else np.ones((sessions, 0))


def conversion_of(given: str, book: str, pairs: Collection[str]) -> tuple[str | None, float, bool]:
    """A currency -> the pair whose rate converts it to that of the book, None for its own; its share of a unit of the
    pair's; and whether the pair is the other way round.

    Raises `BarsError` where there is no such pair.

    >>> conversion_of("GBX", "USD", ["GBPUSD"]), conversion_of("USD", "USD", [])
    (('GBPUSD', 0.01, False), (None, 1.0, False))
    """
    if given == book:
        return None, 1.0, False
    currency, share = MINOR.get(given, (given, 1.0))
    if currency == book:
        return None, share, False
    for pair, turned in ((currency + book, False), (book + currency, True)):
        if pair in pairs:
            return pair, share, turned
    raise BarsError(
        f"no rate from {currency} to {book}: a pair {currency}{book} or {book}{currency} is needed. Give its bars, or "
        f"leave the symbols in {currency} out of the book."
    )


class _Prices:
    """The closes of sessions by symbol, and what one currency is worth in another.

    `bars`: raw, with symbol, asset_class, time (the close, UTC) and close. `names`: the symbols that are asked for.
    """

    def __init__(self, bars: pl.DataFrame, currencies: Currencies, names: set[str]) -> None:
        classes = bars.group_by("symbol").agg(pl.col("asset_class").first()).sort("symbol").rows()
        self.home = currencies.home
        self.currency = {symbol: currencies.of(symbol, name) for symbol, name in classes}
        self.pairs = dict[str, str]()
        if len({self.currency.get(name, self.home) for name in names}) > 1:
            for symbol, name in classes:
                if pair := rate_pair(symbol, name, self.currency[symbol]):
                    self.pairs.setdefault(pair, symbol)
        wanted = sorted({*names, *self.pairs.values()})
        priced = bars.filter(pl.col("close") > 0, pl.col("symbol").is_in(wanted)).sort("time")
        closes = priced.group_by("symbol", day=session_date(pl.col("time"))).agg(pl.col("close").last())
        self.closes = {
            str(symbol): (own["day"].to_list(), own["close"].to_list())
            for (symbol,), own in closes.sort("symbol", "day").group_by("symbol", maintain_order=True)
        }

    def last(self, symbol: str | None, day: date) -> tuple[date, float] | None:
        """The session of a symbol's last close before a day, and that close; None without one."""
        days, closes = self.closes.get(symbol or "", ([], []))
        place = bisect_left(days, day)
        return (days[place - 1], closes[place - 1]) if place else None

    def close(self, symbol: str, day: date, *, soon: bool) -> float | None:
        """A symbol's last close before a day; `soon`: without one its first within ten days after."""
        if last := self.last(symbol, day):
            return last[1]
        days, closes = self.closes.get(symbol, ([], []))
        return closes[0] if soon and days and days[0] <= day + SOON else None

    def rate(self, symbol: str, other: str, day: date, *, soon: bool) -> float | None:
        """Money in the currency of `symbol` for one unit of that of `other`, see `close`; None without a pair."""
        own, given = (self.currency.get(name, self.home) for name in (symbol, other))
        known = {pair: self.close(name, day, soon=soon) for pair, name in self.pairs.items()}
        pairs = {pair: np.array([close]) for pair, close in known.items() if close is not None}
        for home in (self.home, MINOR.get(own, (own, 1.0))[0]):
            try:
                of_own, of_given = conversion_rates([own, given], home, pairs, 1)[0]
            except BarsError:
                continue
            return float(of_given / of_own)
        return None

    def said(self, price: float, symbol: str, other: str, rate: float) -> str:
        """A price of `other` in words, where it has another currency in that of `symbol` too."""
        own, given = (self.currency.get(name, self.home) for name in (symbol, other))
        return f"{price:g}" if own == given else f"{price:g} {given} ({price * rate:g} {own})"


def _names_in(actions: pl.DataFrame) -> set[str]:
    """The symbols of actions, and those that they give."""
    return {*actions["symbol"], *actions["into"].drop_nulls()}


# ── what is given ─────────────────────────────────────────────────────────────────────────────────


def with_ends(actions: pl.DataFrame, bars: pl.DataFrame, currencies: Currencies | None = None) -> pl.DataFrame:
    """Actions (`known_at` filled) and, of each merger and change of symbol, the delisting that it is.

    `bars`: raw, with symbol, asset_class, time (the close, UTC) and close. `currencies`: of the prices, None: the same
    of all but pairs. The last return is what is given over the last close before the date, in the currency of that
    close, 0 where the symbol that is given has no bar, or its currency no rate; dated at that close's session and known
    with the action. A symbol without a bar before, and one whose delisting is there, has no other.

    Raises `BarsError` for a return outside -1 to 1, and for a change of symbol above `RENAMED`.

    >>> from datetime import UTC, datetime
    >>> bars = {"symbol": "A", "asset_class": "equity", "time": [datetime(2024, 1, 5, 21, tzinfo=UTC)], "close": [40.0]}
    >>> from gatecast.market.actions import read_actions
    >>> merger = pl.DataFrame({"symbol": ["A"], "kind": ["merger"], "date": ["2024-01-08"], "value": [42.0]})
    >>> with_ends(read_actions(merger), pl.DataFrame(bars)).select("kind", "date", pl.col("value").round(6)).row(0)
    ('delisting', datetime.date(2024, 1, 5), 0.05)
    """
    gone = with_terms(actions.filter(pl.col("kind").is_in(GOES)))
    if gone.is_empty():
        return actions
    prices, found = _Prices(bars, currencies or Currencies(), _names_in(gone)), []
    for row in gone.iter_rows(named=True):
        symbol, day, into = row["symbol"], row["date"], row["into"]
        own, other = prices.last(symbol, day), prices.last(into, day)
        there = actions.filter(pl.col("kind") == "delisting", pl.col("symbol") == symbol)
        if own is None or (there["date"] >= own[0]).any():
            continue
        rate = prices.rate(symbol, into, day, soon=False) if other else None
        cash, ratio = _terms_of(row)
        given = cash + (ratio * other[1] * rate if other and rate else 0.0)
        value = given / own[1] - 1 if into is None or rate else 0.0
        if row["kind"] == "symbol_change" and abs(value) > RENAMED:
            raise BarsError(
                f"the change of {symbol!r} into {into!r} on {day} gives {given:g} for a last "
                f"close of {own[1]:g}, a return of {value:+.0%}: a share keeps its price under another name. "
                "Give its ratio (units of the new one for each share) or the right symbol; if so much was lost in "
                "truth, a delisting with that return."
            )
        if not KINDS["delisting"][0](value):
            raise BarsError(
                f"the {row['kind']} of {symbol!r} on {day} gives {given:g} for a last close of "
                f"{own[1]:g}, a return of {value:+.0%}: from -100% to +100% is expected. Correct its value, "
                "such as pence for pounds, or leave the row out."
            )
        found.append((symbol, "delisting", own[0], value, row["known_at"]))
    ends = pl.DataFrame(found, schema=SCHEMA, orient="row")
    return pl.concat([with_terms(actions), with_terms(ends)]).sort("symbol", "kind", "date")


def _terms_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Money a share, and units of the other symbol for each share."""
    return (row["value"], row["ratio"] or 0.0) if row["kind"] == "merger" else (0.0, row["value"])


def refuse_above_price(actions: pl.DataFrame, bars: pl.DataFrame, currencies: Currencies | None = None) -> None:
    """Raises BarsError for what is given a share and is worth more than the close before its date.

    Money mostly is pence for pounds. Units of another symbol are worth its last close before the date, else its first
    within ten days, in the currency of the share. What a merger or a change of symbol gives may be worth twice the
    close: its return is +100% at most. `bars` and `currencies`: see `with_ends`. A symbol without a bar before, and
    units without a price or a rate, are not judged.

    >>> from datetime import UTC, datetime
    >>> rows = {"symbol": ["A", "B"], "asset_class": "equity", "time": datetime(2024, 1, 5, 21, tzinfo=UTC)}
    >>> bars = pl.DataFrame({**rows, "close": [300.0, 4.0]})
    >>> from gatecast.market.actions import read_actions
    >>> table = {"symbol": ["A"], "kind": ["spin_off"], "date": ["2024-01-08"], "value": [1.0], "into": ["B"]}
    >>> refuse_above_price(read_actions(pl.DataFrame(table)), bars, Currencies({"A": "GBX", "B": "GBP"}))
    Traceback (most recent call last):
        ...
    gatecast.errors.BarsError: the spin_off of 'A' on 2024-01-08 gives 1 of 'B' at 4 GBP (400 GBX), more than the \
close before, 300. Give the units of 'B' for each share, or leave the row out.
    """
    _refuse_money_above_price(actions.filter(pl.col("kind").is_in(PAYS), pl.col("kind") != "merger"), bars)
    units = _of_units(actions)
    if units.is_empty():
        return
    prices = _Prices(bars, currencies or Currencies(), _names_in(units))
    for row in units.iter_rows(named=True):
        symbol, day, into = row["symbol"], row["date"], row["into"]
        own, price = prices.last(symbol, day), prices.close(into, day, soon=True)
        rate = prices.rate(symbol, into, day, soon=True)
        if own is None or price is None or rate is None:
            continue
        cash, ratio = _terms_of(row)
        times = 2 if row["kind"] in GOES else 1
        if cash + ratio * price * rate > times * own[1]:
            raise BarsError(
                f"the {row['kind']} of {symbol!r} on {day} gives {ratio:g} of {into!r} at "
                f"{prices.said(price, symbol, into, rate)}, "
                f"more than {'twice ' if times > 1 else ''}the close before, {own[1]:g}. "
                f"Give the units of {into!r} for each share, or leave the row out."
            )


def unpriced(actions: pl.DataFrame, bars: pl.DataFrame, currencies: Currencies) -> pl.DataFrame:
    """The actions that give units which no bar prices, or whose currency has no rate; arguments as `with_ends`."""
    units = _of_units(actions)
    prices = _Prices(bars, currencies, _names_in(units))
    pairs = zip(units["symbol"], units["into"], units["date"], strict=True)
    known = [
        bool(prices.close(into, day, soon=True) and prices.rate(symbol, into, day, soon=True))
        for symbol, into, day in pairs
    ]
    return units.filter(~pl.Series(known, dtype=pl.Boolean))


def _of_units(actions: pl.DataFrame) -> pl.DataFrame:
    units = with_terms(actions).filter(pl.col("kind").is_in(GIVES), pl.col("into").is_not_null())
    return units.sort("symbol", "date", "kind")


def _refuse_money_above_price(money: pl.DataFrame, bars: pl.DataFrame) -> None:
    if money.is_empty():
        return
    closes = bars.filter(pl.col("close") > 0).select(
        "symbol", "close", day=session_date(pl.col("time")).dt.offset_by("1d")
    )
    found = money.sort("date").join_asof(
        closes.sort("day"), left_on="date", right_on="day", by="symbol", strategy="backward", check_sortedness=False
    )  # fmt: skip
    for row in found.filter(pl.col("value") > pl.col("close")).sort("symbol", "date").iter_rows(named=True):
        raise BarsError(
            f"the {row['kind']} of {row['symbol']!r} on {row['date']} is {row['value']:g} a share, more than the close "
            f"before, {row['close']:g}. Give it in the unit of the prices, such as pounds, or leave the row out."
        )
