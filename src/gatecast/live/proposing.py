"""Orders of a store's book are proposed: what an account holds and the targets of a session -> orders, journalled.

Targets are the book's decision of a session that is stored; trades come from the function that the backtest uses. No
model is fitted and no server is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import MOST_REASON, checked, refuse_odd_text
from gatecast.errors import SettingsError, StoreError, cut
from gatecast.files import sha256_of
from gatecast.live.blotter import Blotter, Break, Halt, rest_of
from gatecast.live.book import bars_waiting
from gatecast.live.ordered import Orders
from gatecast.live.positions import INSTANT, Clock, Positions, read_open_orders, read_positions, read_restricted
from gatecast.live.stages import desks_of, refuse_withdrawn, with_stage
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.actions import GOES, LEVELS
from gatecast.market.reading import as_utc
from gatecast.store.journal import canonical, moment_of
from gatecast.store.schema import OrdersFile
from gatecast.store.store import Store
from gatecast.trading.cuts import BAND, GATES, limit_of
from gatecast.trading.orders import ID_LENGTH, Breach, breaches, orders_of
from gatecast.trading.sizing import TARGET_CAPS

if TYPE_CHECKING:
    from gatecast.store.state import Issued
    from gatecast.trading.desk import Desk
    from gatecast.trading.orders import OrderSettings

MAIN = "main"
"""Account of a store whose positions name none."""
UNNAMED = "unnamed"
"""Who did something and did not say who it was."""
MOST_GROSS = 2.0
"""Value of positions over what may be held, beyond which the capital is no capital of an account that is not known."""
MOST_CAPITAL = 2.0
"""Capital over the last one, or the last one over it, from which on it is overridden or not approved."""
MOST_SHOWN = 10
"""Symbols of a restricted list that are not in the book and are named."""
LEFT_OUT = "left out of these orders, with --without."
WITHIN_BAND = "what is held is within the band about its target, or at it"


# ── proposing ─────────────────────────────────────────────────────────────────────────────────────


@checked
def propose(
    store: str | Path,
    positions: str | Path,
    *,
    capital: float,
    open_orders: str | Path | None = None,
    account: str | None = None,
    as_of: date | None = None,
    restricted: str | Path | None = None,
    without: Sequence[str] = (),
    new_account: bool = False,
    by: str | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Orders:
    """The orders that bring what an account holds to the book's targets of the newest session; they are journalled.

    Parameters
    ----------
    positions: a file of what is held, see `live.positions.read_positions`. capital: money of the account in the book's
        currency, of which the targets are shares. open_orders: a file of orders that are open, which count at what is
        left of them. account: whose positions they must be. as_of: the newest session up to this day instead of the
        newest of all; of an earlier one nothing is journalled. restricted: a file of symbols that may not be traded.
        without: symbols that are not traded now. new_account: the account may be one that the store has not seen,
        where it has seen others. by: who asks. now: the moment (default: the clock).

    The same again gives the same orders, with the same ids, and no further record. Raises `BarsFileError` for files
    that cannot be read, `SettingsError` for positions that are not those of the session, a hard limit that is exceeded
    and an open that has passed, `StoreError` while a halt or a break that nobody explained is there.
    """
    moment = step_of(by, now)
    if not 1 <= capital <= 1e15:
        raise SettingsError(f"capital = {capital:g}: expected the money of the account, from 1 to 1e15.")
    held = read_positions(positions)
    opened = Store.open(store, machine=machine)
    with opened.locked():
        issued, part, is_past = _session(opened, as_of)
        desk, settings = opened.desk_of(part)
        owner = account_of(held, account)
        named = read_restricted(restricted, owner) if restricted is not None else frozenset()
        open_now = read_open_orders(open_orders, owner) if open_orders is not None else None
        blotter = Blotter(opened)
        halt = None if is_past else blotter.flattens
        known = opened.bars.actions_as_of(desk.last_cut_off or moment_of(issued.now)) if is_past else opened.actions
        inputs = _Inputs(
            held, open_now, owner, float(capital), named, tuple(sorted({*without})), halt, known,
            blotter.last_capital(owner, desk.day), blotter.baseline(owner) is not None, blotter.clock,
        )  # fmt: skip
        content = _content(opened, desk, settings, inputs)
        made = Orders(opened.folder, _id_of(content), content, "computed")
        if is_past:
            return with_stage(blotter, made, moment, "They are of an earlier session: nothing is journalled.")
        if not new_account:
            blotter.refuse_new(owner)
        if not blotter.exports(id=made.orders_id):
            _refuse_now(blotter, inputs, made, moment)
        if not blotter.of("proposed", id=made.orders_id):
            part = opened.put_document(content, OrdersFile)
            body = {
                "id": made.orders_id, "account": owner, "by": by or UNNAMED, "session": str(desk.day),
                "halt": content["halt"], "parts": {"orders": part},
            }  # fmt: skip
            opened.append("proposed", body, moment)
        return with_stage(Blotter(opened), made, moment)


def _id_of(content: Mapping[str, Any]) -> str:
    """The id of orders: what they were made of, what is to be done, and the limits that they exceed."""
    parts = [content[name] for name in ("account", "session", "capital", "as_of", "positions", "open", "halt")]
    parts += [content["splits_until"]] if "splits_until" in content else []
    rows = [[one["order_id"], one["side"], one["units"], one["limit_price"]] for one in content["orders"]]
    exceeded = [[one["name"], one["symbol"]] for one in content["breaches"]]
    return sha256_of(canonical([*parts, rows, exceeded]))[:ID_LENGTH]


@dataclass(frozen=True)
class _Inputs:
    """What orders are made of beside the desk. `actions`: those that are known, of an earlier session by its open.

    `halt`: the one for which all that is held is closed. `last_capital`: of the account's last export; `is_known`:
    whether its holdings were seen before; `clock`: see `Blotter.clock`.
    """

    positions: Positions
    open_orders: Mapping[str, tuple[str, float]] | None
    account: str
    capital: float
    restricted: frozenset[str]
    without: tuple[str, ...]
    halt: Halt | None
    actions: pl.DataFrame
    last_capital: float | None
    is_known: bool
    clock: Clock


def _session(store: Store, as_of: date | None) -> tuple[Issued, str, bool]:
    """The record of the newest session of the book up to a day, its desk, and whether there is a newer one.

    Raises `StoreError` where there is none, and for one that has no desk.
    """
    issued = [one for one in store.state.issued if one.book and one.session]
    if not issued:
        raise StoreError(
            f"{store.folder} has no book yet: `gatecast retrain {store.folder}` makes the model that decides on it."
        )
    newest = max(one.session[:10] for one in issued)
    decided = desks_of(issued)
    found = [one for one in decided if as_of is None or one[0] <= str(as_of)]
    if not found:
        raise StoreError(
            f"{store.folder}: the book decided nothing up to {as_of}; its first session is {decided[0][0]}."
        )
    session, last, part = found[-1]
    if part is None:
        raise StoreError(
            f"{store.folder}: the session {session} was decided by a version of gatecast that kept nothing for orders. "
            "The next `gatecast update` does."
        )
    return last, part, session < newest


def account_of(positions: Positions, asked: str | None) -> str:
    """Whose positions they are. Raises `SettingsError` for those of another account."""
    refuse_odd_text("account", asked)
    if asked and positions.account and asked != positions.account:
        raise SettingsError(
            f"the positions are of the account {cut(positions.account)!r}, orders were asked for {cut(asked)!r}: give "
            "the positions of that account."
        )
    return asked or positions.account or MAIN


def _content(store: Store, desk: Desk, settings: OrderSettings, inputs: _Inputs) -> dict[str, Any]:
    """The orders and what they were made of. Raises `SettingsError` for positions that cannot be acted on."""
    positions = inputs.positions
    flatten = inputs.halt is not None
    ahead, splits = _refuse_other_moment(desk, inputs)
    if positions.currency not in ("", desk.money.currency):
        raise SettingsError(
            f"the positions are in {positions.currency}, the book is in {desk.money.currency}: give them, and the "
            f"capital, in {desk.money.currency}."
        )
    units = desk.of(positions.units, "positions")
    for symbol in inputs.without:
        desk.of({symbol: 0.0}, "without")
    left = dict[str, float]()
    for symbol, one in (inputs.open_orders or {}).values():
        left[symbol] = left.get(symbol, 0.0) + one
    open_units = desk.of(left, "open orders")
    _refuse_odd_values(desk, settings, inputs, units, flatten=flatten)
    banned, strange = _restricted(desk, settings, inputs)
    left_as_is = banned | ahead
    without = {*inputs.without, *left_as_is}
    sized = desk.sized(units + open_units, inputs.capital, flatten=flatten, without=without)
    told = positions.to_dict()
    number = inputs.halt.record if inputs.halt else None
    orders = orders_of(desk, sized, units, open_units, inputs.account, settings, splits)
    found = breaches(desk, orders, units + open_units, inputs.capital, settings, inputs.restricted, splits)
    found += _odd_capital(desk, inputs)
    if flatten:
        found = tuple(one for one in found if not one.soft or one.name == "restricted")
    hard = [one for one in found if not one.soft]
    if hard:
        more = f" ({len(hard) - 1} more)" if len(hard) > 1 else ""
        raise SettingsError(
            f"{hard[0].sentence}{more} No orders are proposed: leave symbols out with --without SYMBOL, or change "
            f"[orders] with `gatecast retrain {store.folder} --settings FILE`."
        )
    traded, waiting = {one.symbol for one in orders}, bars_waiting(store)
    why_not = dict(left_as_is)
    why_not |= {symbol: LEFT_OUT for symbol in inputs.without if symbol not in why_not}
    for place, symbol in enumerate(desk.names):
        limit = limit_of(sized, place, desk.size)
        gate = limit.kept or limit.gate
        if gate and symbol not in {*traded, *why_not}:
            why = waiting.get(symbol, GATES[gate]) if gate == "halt" else GATES[gate]
            why_not[symbol] = f"not traded: {WITHIN_BAND if gate in (BAND, *TARGET_CAPS) else why}."
    return {
        "account": inputs.account, "session": str(desk.day), "currency": desk.money.currency,
        "capital": inputs.capital, "positions": told.pop("units"), **told,
        "open": {name: list(one) for name, one in sorted((inputs.open_orders or {}).items())},
        "restricted": sorted(inputs.restricted), "without": sorted(without), "halt": number,
        "volatility": float(sized.volatility), "value": sum(one.value for one in orders),
        "cost": sum(one.cost for one in orders), "orders": [one.to_dict() for one in orders],
        "breaches": [one.to_dict() for one in found],
        "notes": [one.sentence for one in sized.findings] + _grouped(why_not) + strange,
    }  # fmt: skip


def _restricted(desk: Desk, settings: OrderSettings, inputs: _Inputs) -> tuple[dict[str, str], list[str]]:
    """Symbol -> why it is left as it is, of those that may not be traded; and what to tell of others that are listed.

    Raises `SettingsError` for a symbol in other letters, upper or lower case, than the book has it in.
    """
    listed, names = {*settings.restricted, *inputs.restricted}, {one.upper(): one for one in desk.names}
    for symbol in sorted(listed - {*desk.names}):
        if own := names.get(symbol.upper()):
            raise SettingsError(f"the restricted list has {symbol!r}, the book {own!r}: correct it.")
    other = sorted(map(cut, listed - {*desk.names}))
    more = f" and {len(other) - MOST_SHOWN} more" if len(other) > MOST_SHOWN else ""
    told = f"{', '.join(map(repr, other[:MOST_SHOWN]))}{more}: on the restricted list, and not in the book."
    banned = [] if "restricted" in settings.soft else sorted(listed & {*desk.names})
    return dict.fromkeys(banned, "on the restricted list: left as it is."), [told] if other else []


def _odd_capital(desk: Desk, inputs: _Inputs) -> tuple[Breach, ...]:
    """The soft limit `capital`: a capital far from that of the account's last export, else from the book's equity."""
    last, own = inputs.last_capital, inputs.capital
    known = float(desk.view.equity) if last is None else last
    if known / MOST_CAPITAL <= own <= known * MOST_CAPITAL:
        return ()
    what = "the book's equity" if last is None else "the capital of the account's last export"
    said = (
        f"the capital of {own:,.0f} is {own / known:.3g} times {what}, {known:,.0f}: look for a digit too many or too "
        "few (soft limit capital)."
    )
    return (Breach("capital", "", own, known * MOST_CAPITAL, True, said),)


def _grouped(why_not: Mapping[str, str]) -> list[str]:
    """Symbol -> why it is not traded, as a sentence for each reason."""
    found = dict[str, list[str]]()
    for symbol, why in sorted(why_not.items()):
        found.setdefault(why, []).append(symbol)
    return [
        f"{', '.join(map(repr, symbols))}: {why}" if len(symbols) == 1
        else f"{len(symbols)} symbols ({', '.join(map(repr, symbols))}): {why}"
        for why, symbols in found.items()
    ]  # fmt: skip


def _refuse_other_moment(desk: Desk, inputs: _Inputs) -> tuple[dict[str, str], dict[str, float]]:
    """Symbol -> why it is not traded, where it becomes something else before the next fill, and where an order of it is
    open at a split; symbol -> what a split before the next fill makes of one unit, of all others.

    Raises `SettingsError` for positions of before the session, or of after its next open, and for units that are not
    those of its prices.
    """
    positions, day = inputs.positions, desk.day
    close, until = desk.close, desk.last_cut_off
    ahead, splits = dict[str, str](), dict[str, float]()
    are_open = {symbol for symbol, _ in (inputs.open_orders or {}).values()}
    named = {*positions.units, *are_open}
    rows = inputs.actions.filter(pl.col("kind").is_in([*LEVELS, *GOES])).sort("date", "symbol")
    for row in rows.iter_rows(named=True):
        symbol, kind, then = row["symbol"], row["kind"].replace("_", " "), row["date"]
        if symbol not in desk.names or (row["value"] == 1 and row["kind"] in LEVELS):
            continue
        said = positions.split_day(symbol, inputs.clock)
        opens = desk.cut_off(desk.names.index(symbol)) or until
        if opens is not None and day < then <= inputs.clock(symbol, opens):
            when = f"a {kind} comes on {then}, before the order could be filled"
            if row["kind"] != "split":
                ahead[symbol] = f"{when}, and what its units and prices are after it is not known: not traded today."
            elif symbol in are_open:
                ahead[symbol] = f"{when}, and what it makes of the open orders is not known: not traded today."
            elif symbol in named and said >= then:
                ahead[symbol] = f"{when}, and whether the units of {said} have it is not known: not traded today."
            else:
                splits[symbol] = splits.get(symbol, 1.0) * row["value"]
        if symbol not in named:
            continue
        what = f"{symbol!r} had a {kind} ({row['value']:g}) on {then}"
        if said < then <= day or (then == said == day and positions.splits_until is None):
            raise SettingsError(
                f"{what}, between the positions ({said}) and the prices ({day}): it is not known whether the units "
                f"have it. Give positions that do, and say so above them: `# splits_until: {then}`."
            )
        if day < then <= said and positions.splits_until is not None:
            raise SettingsError(
                f"{what}, after the newest prices ({day}), and the units have it already: bring the bars of {then} "
                "with `gatecast update` first."
            )
    if positions.day < day if close is None else positions.as_of + INSTANT < close:
        closed = "" if close is None else f", which closed at {close:%Y-%m-%d %H:%M} UTC"
        raise SettingsError(
            f"the positions are of {positions.as_of:%Y-%m-%d %H:%M} UTC, the book's session is {day}{closed}: give the "
            "positions after the close of that session."
        )
    if until is not None and positions.as_of > until:
        raise SettingsError(
            f"the positions are of {positions.as_of:%Y-%m-%d %H:%M} UTC, after the next open of {day} "
            f"({until:%Y-%m-%d %H:%M} UTC): bring the bars since with `gatecast update`, or give positions of before "
            "it, with their time."
        )
    return ahead, {symbol: ratio for symbol, ratio in splits.items() if symbol not in ahead}


def _refuse_odd_values(
    desk: Desk, settings: OrderSettings, inputs: _Inputs, units: Any, *, flatten: bool
) -> None:  # fmt: skip
    """Raises `SettingsError` for positions whose prices or values are not those of the store, or beyond the capital."""
    positions = inputs.positions
    for symbol, held in positions.units.items():
        place = desk.names.index(symbol)
        price, value = float(desk.price[place]), held * float(desk.view.price[place])
        for told, own, what in (
            (positions.prices.get(symbol), price, "price"), (positions.values.get(symbol), value, "value"),
        ):  # fmt: skip
            if told is None or (held == 0 and what == "price"):
                continue
            if not abs(told - own) <= settings.value_tolerance * abs(own):
                raise SettingsError(
                    f"{symbol!r}: the positions say a {what} of {told:,.6g}, the store's close of {desk.day} makes it "
                    f"{own:,.6g}: look for a split, another unit or another symbol, then correct the positions."
                )
    gross = float(np.abs(np.where(units == 0, 0.0, units * desk.view.price)).sum())
    most = MOST_GROSS * max(settings.gross or 0.0, desk.size.gross_cap, 1.0) * inputs.capital
    if gross > most and not flatten and not inputs.is_known:
        raise SettingsError(
            f"the positions are worth {gross:,.0f} {desk.money.currency}, {gross / inputs.capital:.1f} times the "
            f"capital of {inputs.capital:,.0f}: check --capital and the units. Where both are right, `gatecast "
            "reconcile` with these positions makes them known."
        )


def _refuse_now(blotter: Blotter, inputs: _Inputs, made: Orders, now: datetime) -> None:
    """Raises where orders of the newest session may not be proposed now: a halt, a break, an open that has passed."""
    store = blotter.store
    if now < moment_of(store.state.now):
        raise SettingsError(
            f"now = {now:%Y-%m-%d %H:%M} UTC is before the store's newest record, {store.state.now[:16]} UTC: give a "
            "later --now, or mend the computer's clock."
        )
    if inputs.halt is None and (halts := blotter.halts):
        raise StoreError(
            f"{store.folder} is {'; '.join(map(str, halts))}: no orders are made until `gatecast halt {store.folder} "
            "--release --by WHO --reason TEXT`."
        )
    refuse_to_come(inputs.positions, now)
    _refuse_filled_since(blotter, inputs)
    _refuse_open_orders(blotter, inputs, now)
    left = [one for one in blotter.breaks(inputs.account, inputs.positions) if one.reason is None]
    if left and inputs.halt is None:
        raise StoreError(
            f"{_in_words(left)} Nobody has explained it: `gatecast reconcile {store.folder} --positions FILE` shows "
            f'all, and `--explain {left[0].symbol} "REASON"` says why.'
        )
    passed = [one for one in made.rows if datetime.fromisoformat(one["send_before"]) < now]
    if passed:
        raise SettingsError(
            f"the open that orders of {made.content['session']} are for has passed ({passed[0]['symbol']!r}: "
            f"{passed[0]['send_before'][:16]} UTC): the prices are stale. Bring the bars since with `gatecast update`."
        )


def refuse_to_come(positions: Positions, now: datetime) -> None:
    """Raises `SettingsError` for positions of a day that is to come."""
    if positions.as_of > now and positions.day > now.date():
        raise SettingsError(f"the positions are of {positions.day}, which is to come: correct `as_of`.")


def _refuse_filled_since(blotter: Blotter, inputs: _Inputs) -> None:
    """Raises `SettingsError` for positions of before a fill: what was filled would be ordered again."""
    as_of = inputs.positions.as_of
    since = [one for one in blotter.fills(inputs.account) if one.time > as_of]
    if since:
        last = max(since, key=lambda one: one.time)
        raise SettingsError(
            f"the positions are of {as_of:%Y-%m-%d %H:%M} UTC, before the fill {last.fill_id} of {last.symbol!r} at "
            f"{last.time:%Y-%m-%d %H:%M} UTC: give the positions after it."
        )


def _refuse_open_orders(blotter: Blotter, inputs: _Inputs, now: datetime) -> None:
    """Raises `SettingsError` where orders that were exported may be open and nothing is said of them, and for open ones
    that say more than is left of them."""
    exported, filled = blotter.exported(inputs.account), blotter.filled(inputs.account)
    unsaid = [
        (order, rest) for _, order, _ in exported.values()
        if datetime.fromisoformat(order["send_before"]) >= now and (rest := rest_of(order, filled))
    ]  # fmt: skip
    if unsaid and inputs.open_orders is None:
        order, rest = unsaid[0]
        more = f" and {len(unsaid) - 1} more" if len(unsaid) > 1 else ""
        raise SettingsError(
            f"the order {order['order_id']} to {order['side']} {order['symbol']!r}{more} was exported and may be open "
            f"until {order['send_before'][:16]} UTC, {rest:g} units are not filled: cancel it or not, and say what is "
            "open now with --open-orders; where nothing is, its file has the line `# positions: 0`."
        )
    refuse_withdrawn(blotter, inputs.open_orders or {})
    for name, (symbol, left) in (inputs.open_orders or {}).items():
        if name not in exported:
            continue
        order = exported[name][1]
        rest = rest_of(order, filled)
        same = order["symbol"] == symbol and (order["side"] == "buy") == (left >= 0)
        if not same or abs(left) > rest + 1e-9 * max(1.0, rest):
            raise SettingsError(
                f"the open order {name} is {left:+g} {symbol!r}, and of the order that was exported {rest:g} are left "
                f"to {order['side']} of {order['symbol']!r}: give the orders that are open now."
            )


def step_of(by: str | None, now: datetime | None, reason: str | None = None) -> datetime:
    """The moment of a step that somebody takes: `now`, or the clock. Raises `SettingsError` for a name or a reason that
    a journal does not take."""
    refuse_odd_text("by", by)
    refuse_odd_text("reason", reason, MOST_REASON)
    return datetime.now(UTC) if now is None else as_utc(now, "now")


def _in_words(breaks: Sequence[Break]) -> str:
    first = breaks[0]
    more = f" and {len(breaks) - 1} more" if len(breaks) > 1 else ""
    return (
        f"the positions are not what the last ones, fills and actions add up to: {first.symbol!r}{more}, "
        f"{first.expected:g} units were expected, {first.found:g} are there."
    )
