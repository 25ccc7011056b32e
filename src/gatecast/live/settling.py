"""What comes after orders were exported: their fills, what the account holds then, and a halt of all exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gatecast.arguments import MOST_REASON, checked, refuse_odd_text
from gatecast.errors import SettingsError, StoreError, cut, did_you_mean
from gatecast.live.blotter import ROUNDING, Blotter, Break, Halt, rest_of
from gatecast.live.ordered import releasing
from gatecast.live.positions import Fill, read_fills, read_positions, refuse_other_account
from gatecast.live.proposing import UNNAMED, account_of, refuse_to_come, step_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.notebook import Shown
from gatecast.store.schema import FillsFile, PositionsFile
from gatecast.store.store import Store


@dataclass(frozen=True)
class Filled(Shown):
    """What a file of fills brought: how many are new, how many were there; `orders`: a row an order that it fills,
    with `filled` and `left`; `warnings`: sentences on fills that came at an odd time or price."""

    store: Path
    account: str
    new: int
    seen: int
    orders: Sequence[Mapping[str, Any]]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**self.__dict__, "store": str(self.store), "warnings": list(self.warnings)}


@checked
def fills(
    store: str | Path, file: str | Path, *, by: str | None = None, now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Filled:  # fmt: skip
    """Stores the fills of a file, see `live.positions.read_fills`; those that are there already change nothing.

    Raises `SettingsError` for a fill of an order that was not exported, of another symbol or side, for more than is
    left of it, in the time to come, and for one whose id is there with other numbers.
    """
    moment = step_of(by, now)
    rows, said_account = read_fills(file)
    opened = Store.open(store, machine=machine)
    with opened.locked():
        blotter = Blotter(opened)
        known = blotter.exported()
        accounts, said = set[str](), list[str]()
        for row in rows:
            if row.order_id not in known:
                if taken := blotter.withdrawal_of(row.order_id):
                    raise SettingsError(
                        f"the fill {row.fill_id} is of the order {row.order_id}, which was withdrawn by {taken['by']} "
                        f"at {taken['now'][:16]} UTC. Where it was sent all the same, `gatecast reconcile` with the "
                        "positions after it, and --explain."
                    )
                raise SettingsError(
                    f"the fill {row.fill_id} is of an order {row.order_id} that was not exported. "
                    f"{did_you_mean(row.order_id, list(known)) if known else 'None was.'}"
                )
            account, order, when = known[row.order_id]
            accounts.add(account)
            if (row.symbol, row.side) != (order["symbol"], order["side"]):
                raise SettingsError(
                    f"the fill {row.fill_id} is a {row.side} of {row.symbol!r}, its order {row.order_id} a "
                    f"{order['side']} of {order['symbol']!r}: correct it."
                )
            if row.time > moment:
                raise SettingsError(f"the fill {row.fill_id} is of {row.time:%Y-%m-%d %H:%M} UTC, which is to come.")
            said += _odd_fill(row, order, when)
        if len(accounts) > 1:
            raise SettingsError(f"the fills are of several accounts, {', '.join(sorted(accounts))}: give a file each.")
        (account,) = accounts
        refuse_other_account(file, said_account, account)
        there = {one.fill_id: one for one in blotter.fills(account)}
        for row in rows:
            if there.get(row.fill_id, row) != row:
                raise SettingsError(f"the fill {row.fill_id} is stored with other numbers: correct its id.")
        new = [row for row in rows if row.fill_id not in there]
        filled = blotter.filled(account)
        for row in new:
            filled[row.order_id] = filled.get(row.order_id, 0.0) + row.units
            whole = known[row.order_id][1]["units"]
            if filled[row.order_id] > whole * (1 + ROUNDING):
                raise SettingsError(
                    f"the fill {row.fill_id} makes {filled[row.order_id]:g} units of the order {row.order_id}, "
                    f"which is of {whole:g}: look for a fill that is there twice under two ids."
                )
        if new:
            part = opened.put_document({"fills": [row.to_dict() for row in new]}, FillsFile)
            body = {"account": account, "by": by or UNNAMED, "new": len(new), "seen": len(rows) - len(new)}
            opened.append("fills", {**body, "parts": {"fills": part}}, moment)
    orders = [
        {
            **{name: known[one][1][name] for name in ("order_id", "symbol", "side", "units")},
            "filled": filled[one], "left": rest_of(known[one][1], filled),
        }
        for one in dict.fromkeys(row.order_id for row in rows)
    ]  # fmt: skip
    return Filled(opened.folder, account, len(new), len(rows) - len(new), orders, tuple(said))


def _odd_fill(row: Fill, order: Mapping[str, Any], exported: datetime) -> list[str]:
    """Sentences on a fill of before its order's export, of after its session, or beyond its limit price."""
    until, said = datetime.fromisoformat(order["send_before"]), []
    if row.time < exported:
        said.append(f"of before the order was exported ({exported:%Y-%m-%d %H:%M} UTC)")
    if (row.time - until).days >= 1:
        said.append(f"stale: more than a day after the open that the order was for ({until:%Y-%m-%d %H:%M} UTC)")
    if (row.price > order["limit_price"]) if row.side == "buy" else (row.price < order["limit_price"]):
        said.append(f"at {row.price:g}, beyond the limit price of {order['limit_price']:g}")
    return [f"the fill {row.fill_id} of {row.symbol!r} at {row.time:%Y-%m-%d %H:%M} UTC is {one}." for one in said]


@dataclass(frozen=True)
class Reconciled(Shown):
    """Positions beside what was expected. `breaks`: holdings that differ; `clean`: whether all of them are explained.

    `first`: whether nothing was expected yet.
    """

    store: Path
    account: str
    breaks: tuple[Break, ...] = ()
    first: bool = False

    @property
    def clean(self) -> bool:
        """Whether no break is left that nobody explained."""
        return all(one.reason for one in self.breaks)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "account": self.account, "clean": self.clean, "first": self.first,
            "breaks": [one.to_dict() for one in self.breaks],
        }  # fmt: skip


@checked
def reconcile(
    store: str | Path,
    positions: str | Path,
    *,
    account: str | None = None,
    new_account: bool = False,
    explain: Mapping[str, str] | None = None,
    by: str | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Reconciled:
    """Compares what an account holds with what its last positions, fills and actions since add up to; journalled.

    `explain`: symbol -> why it differs. `new_account`: the account may be one that the store has not seen. Positions
    without a break that nobody explained are what is expected from then on. Raises `SettingsError` for an explanation
    of a symbol that does not differ, `BarsFileError` for a file that cannot be read.
    """
    moment = step_of(by, now)
    held = read_positions(positions)
    refuse_to_come(held, moment)
    opened = Store.open(store, machine=machine)
    with opened.locked():
        owner, blotter = account_of(held, account), Blotter(opened)
        for symbol in held.units:
            if symbol not in opened.state.symbols:
                raise SettingsError(
                    f"the store has no symbol {cut(symbol)!r}. {did_you_mean(symbol, opened.state.symbols)}"
                )
        if not new_account:
            blotter.refuse_new(owner)
        first = blotter.baseline(owner) is None
        breaks, reasons = blotter.breaks(owner, held), dict(explain or {})
        for symbol, reason in reasons.items():
            if symbol not in [one.symbol for one in breaks]:
                raise SettingsError(f"{cut(symbol)!r} does not differ from what was expected: nothing is to explain.")
            refuse_odd_text(f"the reason for {symbol!r}", reason, MOST_REASON)
        told = tuple(Break(one.symbol, one.expected, one.found, reasons.get(one.symbol, one.reason)) for one in breaks)
        part = opened.put_document(held.to_dict(), PositionsFile)
        body = {
            "account": owner, "breaks": [one.to_dict() for one in told], "parts": {"positions": part},
            "by": by or UNNAMED,
        }  # fmt: skip
        last = next(iter(blotter.of("reconciled", account=owner)[-1:]), {})
        if any(last.get(name) != body[name] for name in ("breaks", "parts")):
            opened.append("reconciled", body, moment)
    return Reconciled(opened.folder, owner, told, first)


@checked
def halt(
    store: str | Path,
    *,
    by: str,
    reason: str,
    flatten: bool = False,
    release: bool = False,
    record: int | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> str:
    """Stops all exports of a store until it is released; `flatten`: but for orders that close what is held.

    Each halt stays in force until it is released itself, and the strictest counts. `release`: ends one; `record`: the
    number of its record, where several are in force. Returns what is so now, in a sentence. Raises `SettingsError`
    without a name and a reason, and where it is not said which of several halts is released; `StoreError` where there
    is no such halt, and for one with `flatten` beside one without: it would let orders pass that another stopped.
    """
    moment = step_of(by, now, reason)
    if flatten and release:
        raise SettingsError("a halt is released, or flattens: give one of the two.")
    if record is not None and not release:
        raise SettingsError("a record names the halt that is released: give it with release alone.")
    opened = Store.open(store, machine=machine)
    with opened.locked():
        halts = Blotter(opened).halts
        if release:
            if _is_released(Blotter(opened), by, reason, record):
                return "released already: nothing has changed."
            ended = _released(opened, halts, record)
            opened.append("released", {"by": by, "reason": reason, "halt": ended.record}, moment)
            left = " ".join(str(one["sentence"]) for one in Blotter(opened).halted)
            return f"released: {left or f'orders of {opened.folder} may be exported again.'}"
        for one in halts:
            if (one.by, one.reason, one.flatten) == (by, reason, flatten):
                return f"{one} already: nothing has changed."
        if flatten and (full := [one for one in halts if not one.flatten]):
            raise StoreError(
                f"{opened.folder} is {full[0]}, for all orders: a halt with --flatten beside it would change nothing. "
                "Release that one first, where orders that close what is held may pass."
            )
        opened.append("halted", {"by": by, "reason": reason, "flatten": flatten}, moment)
        *others, own = Blotter(opened).halted
    but = " but orders that close what is held" if flatten else ""
    said = f"halted: nothing{but} is exported until it is released: `{releasing(opened.folder, own['record'])}`."
    return " ".join([said, *(str(one["sentence"]) for one in others)])


def _is_released(blotter: Blotter, by: str, reason: str, record: int | None) -> bool:
    """Whether the same release was given before: of the halt of that record, else as the last one, with none since."""
    same = [one.get("halt") for one in blotter.of("released", by=by, reason=reason)]
    if record is not None:
        return record in same
    return not blotter.halts and bool(same) and blotter.of("released")[-1].get("halt") == same[-1]


def _released(store: Store, halts: Sequence[Halt], record: int | None) -> Halt:
    """The halt that is released. Raises as `halt` does."""
    listed = "; ".join(map(str, halts))
    if not halts:
        raise StoreError(f"{store.folder} is not halted: nothing is to release.")
    if record is None and len(halts) > 1:
        raise SettingsError(f"{len(halts)} halts are in force: {listed}. Say which is released, with --record NUMBER.")
    found = [one for one in halts if record in (None, one.record)]
    if not found:
        raise StoreError(f"record {record} is no halt that is in force. In force: {listed}.")
    return found[0]
