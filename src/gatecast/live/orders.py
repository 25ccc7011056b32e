"""Orders of a store are approved and exported: a file, written once, or withdrawn. Each is a record in the journal.

Nothing is ever sent to a market, see `gatecast.live.proposing`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import SettingsError, StoreError, cut, did_you_mean
from gatecast.files import beside, full_path, read, sha256_of, write
from gatecast.live.blotter import Blotter
from gatecast.live.ordered import NEVER_SENT, Orders
from gatecast.live.proposing import step_of
from gatecast.live.stages import refuse_acted_on, refuse_over, traded_by, with_stage
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.reading import as_utc
from gatecast.store.store import Store


@contextmanager
def _proposed(store: str | Path, orders_id: str, machine: Machine) -> Iterator[tuple[Store, Blotter, Orders]]:
    """A store that is locked, its blotter, and orders that were proposed. Raises `StoreError` where they were not."""
    opened = Store.open(store, machine=machine)
    with opened.locked():
        blotter = Blotter(opened)
        content = blotter.content(blotter.proposed(orders_id))
        yield opened, blotter, Orders(opened.folder, orders_id, content, "proposed")


@checked
def approve(
    store: str | Path,
    orders_id: str,
    *,
    by: str,
    override: Sequence[str] = (),
    reason: str | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Orders:
    """Approves orders that were proposed; the same again changes nothing.

    `by`: who. `override`: soft limits that they may exceed, each with a `reason`, up to a moment (`until`). Raises
    `SettingsError` where a soft limit is exceeded and not overridden, `StoreError` for orders that were not proposed.
    """
    moment = step_of(by, now, reason)
    with _proposed(store, orders_id, machine) as (opened, blotter, made):
        before = blotter.of("approved", id=orders_id)
        if before and not override:
            said = f"They are approved by {before[0]['by']} already: nothing has changed."
            return with_stage(blotter, made, moment, said)
        refuse_over(blotter, made, moment)
        exceeded = {one["name"]: one["sentence"] for one in made.content["breaches"]}
        for name in override:
            if name not in exceeded:
                raise SettingsError(
                    f"these orders do not exceed the limit {cut(name)!r}: {', '.join(sorted(exceeded)) or 'none'} can "
                    "be overridden."
                )
        if override and (reason is None or until is None):
            raise SettingsError("an override needs --reason and --until: why, and up to which moment it holds.")
        ends = None if until is None else as_utc(until, "until")
        if override and ends is not None and ends <= moment:
            raise SettingsError(f"until = {ends:%Y-%m-%d %H:%M} UTC has passed: give a later moment.")
        if left := [sentence for name, sentence in exceeded.items() if name not in override]:
            names = " ".join(f"--override {name}" for name in exceeded)
            raise SettingsError(
                f'{left[0]} They are not approved. It is overridden with {names} --reason "WHY" --until MOMENT.'
            )
        told = [{"limit": name, "reason": reason, "until": ends.isoformat()} for name in override if ends is not None]
        body = {"id": orders_id, "account": made.account, "by": by, "overrides": told}
        opened.append("approved", body, moment)
        return with_stage(Blotter(opened), made, moment)


@checked
def export(
    store: str | Path,
    orders_id: str,
    out: str | Path,
    *,
    form: str = "csv",
    by: str,
    again: bool = False,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Orders:
    """Writes the file of orders that were approved, once; `again`: the same file once more, which is journalled.

    `by`: who. The record is written before the file is in its place. `form`: csv or json. Raises `StoreError` for
    orders of a session and account of which a file was written before, and where it cannot be written; `SettingsError`
    for orders that are not approved.
    """
    moment = step_of(by, now)
    if form not in ("csv", "json"):
        raise SettingsError(f"format is csv or json, not {cut(form)!r}. {did_you_mean(form, ['csv', 'json'])}")
    place = _place_of(out)
    with _proposed(store, orders_id, machine) as (opened, blotter, made):
        if place.is_relative_to(opened.folder):
            raise SettingsError(f"{place} is in the store: give another place for the file.")
        _refuse_unready(blotter, made, moment, again=again)
        file = made.file("json" if form == "json" else "csv")
        _refuse_taken(place, file)
        body = {
            "id": orders_id, "account": made.account, "by": by, "session": made.session,
            "sha256": sha256_of(file), "format": form, "halt": made.content["halt"], "again": again,
        }  # fmt: skip
        wrote = False
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with beside(place) as temporary:
                write(temporary, file)
                opened.append("exported", body, moment)
                wrote = True
                os.replace(temporary, place)
        except OSError as error:
            so = "The export is journalled: give another place, with --again." if wrote else "Nothing was exported."
            raise StoreError(f"{place} cannot be written: {error.strerror or error}. {so}") from None
        done = with_stage(Blotter(opened), replace(made, wrote=place), moment)
        return replace(done, message=f"written; {NEVER_SENT}.")


@checked
def withdraw(
    store: str | Path,
    orders_id: str,
    *,
    by: str,
    reason: str | None = None,
    now: datetime | None = None,
    machine: Machine = ONE_CORE,
) -> Orders:
    """Takes back an export whose file was not sent, or of which all was cancelled; the same again changes nothing.

    The orders are approved as before, and can be exported again. `by`: who; `reason`: why. Raises `StoreError` for
    orders that were not exported, of which something was filled, or after which other orders of the account were
    approved, and `SettingsError` once the open that they were for has passed: what came of them is told with `fills`.
    """
    moment = step_of(by, now, reason)
    with _proposed(store, orders_id, machine) as (opened, blotter, made):
        exports, before = blotter.exports(id=orders_id), blotter.of("withdrawn", id=orders_id)
        if not exports and before:
            last = before[-1]
            said = f"They were withdrawn by {last['by']} at {last['now'][:16]} UTC already: nothing has changed."
            return with_stage(blotter, made, moment, said)
        if not exports:
            raise StoreError(f"orders {orders_id} were never exported: there is nothing to withdraw.")
        refuse_acted_on(blotter, made, exports[0]["record"], moment)
        body = {"id": orders_id, "account": made.account, "by": by, "session": made.session}
        opened.append("withdrawn", body | ({"reason": reason} if reason else {}), moment)
        return with_stage(Blotter(opened), made, moment, "Their export is withdrawn: delete the file.")


def _place_of(out: str | Path) -> Path:
    """Where a file of orders goes. Raises `SettingsError` for what is no place for a file."""
    place = full_path(out)
    if str(out) == "-":
        raise SettingsError("out = -: a file was expected. `--format csv` without --out prints the orders.")
    if Path(out).expanduser().is_symlink() and not place.exists():
        raise SettingsError(f"{cut(str(out))} is a link to {place}, which is not there: give the file itself.")
    return place


def _refuse_taken(place: Path, file: bytes) -> None:
    """Raises `SettingsError` where another file is in the place of one of orders."""
    try:
        taken = place.exists() and (not place.is_file() or read(place, at_most=len(file)) != file)
    except OSError:  # a longer one, or one that cannot be read
        taken = True
    if taken:
        raise SettingsError(f"{place} is there already and something else: give another name, so that nothing is lost.")


def _refuse_unready(blotter: Blotter, made: Orders, now: datetime, *, again: bool) -> None:
    """Raises where no file of orders may be written."""
    name = made.orders_id
    before = blotter.exports(account=made.account, session=made.session)
    same = [one for one in before if one["id"] == name]
    if again and not same:
        taken = blotter.of("withdrawn", id=name)
        so = "their export was withdrawn" if taken else "they were never exported"
        raise StoreError(f"orders {name}: {so}. Leave --again out.")
    if same and not again:
        raise StoreError(
            f"orders {name} were exported by {same[0]['by']} at {same[0]['now'][:16]} UTC already: sent twice they "
            "would be done twice. `--again` writes the same file once more."
        )
    if again:
        return
    refuse_over(blotter, made, now)
    approved = blotter.of("approved", id=name)
    if not approved:
        raise SettingsError(
            f"orders {name} are proposed and not approved: `{made.approval}`, then the same command again writes the "
            "file."
        )
    overrides = {one["limit"]: one for event in approved for one in event["overrides"]}
    for one in made.content["breaches"]:
        if one["name"] not in overrides or datetime.fromisoformat(overrides[one["name"]]["until"]) < now:
            raise SettingsError(f"{one['sentence']} The override has expired: approve the orders again.")


def proposed_orders(store: Store) -> pl.DataFrame:
    """The orders of the book's newest session, of each account those that are exported and still good, else the newest:
    account, orders_id, status, order_id, symbol, side, units, limit_price, value, cost and reason; without a row where
    none were proposed.
    """
    blotter = Blotter(store)
    session = max((one.session[:10] for one in store.state.issued if one.session), default="")
    accounts = sorted({one["account"] for one in blotter.of("proposed", session=session)})
    rows = [
        {
            "account": account, "orders_id": one.made.orders_id, "status": one.made.status,
            **{name: row[name] for name in SHOWN},
        }
        for account in accounts if (one := traded_by(blotter, account, session))
        for row in one.made.rows
    ]  # fmt: skip
    texts = dict.fromkeys(("account", "orders_id", "status", "order_id", "symbol", "side"), pl.String)
    numbers = dict.fromkeys(("units", "limit_price", "value", "cost"), pl.Float64)
    return pl.DataFrame(rows, schema={**texts, **numbers, "reason": pl.String})


SHOWN = ("order_id", "symbol", "side", "units", "limit_price", "value", "cost", "reason")
"""What of an order `proposed_orders` has."""
