"""`gatecast actions list|add|resolve|remove`: actions of companies that a store is told, and bars that wait."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.cli.options import AsJson, as_moment, machine_of
from gatecast.cli.show import make_console, make_table, print_json
from gatecast.cli.store import IndexAddress, Now, StoreFolder
from gatecast.compute.progress import printable
from gatecast.notebook import moment_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatecast.live.actions import Actions

Symbol = Annotated[str, typer.Option(help="Symbol of the store.")]
Day = Annotated[
    datetime,
    typer.Option(
        "--date",
        formats=["%Y-%m-%d"],
        help="Session: the first that an action moves, the last of a symbol that is delisted.",
    ),
]

Kind = Annotated[
    str,
    typer.Option(
        help="split, unit (of prices, such as pence), delisting, dividend, special_dividend, return_of_capital, "
        "rights, spin_off, merger or symbol_change."
    ),
]

actions = typer.Typer(
    name="actions", help="Splits, dividends and ends that a store is told, and bars that wait.", no_args_is_help=True
)


@actions.command("list")
def list_all(
    folder: StoreFolder,
    symbol: Annotated[str | None, typer.Option(help="This symbol alone.", show_default="all")] = None,
    now: Now = None,
    as_json: AsJson = False,
) -> None:
    """Show the actions that a store was told, bars that are errors (value: the open), and bars that wait until somebody
    says what they are."""
    from gatecast.live.actions import list_actions

    _show(list_actions(folder, symbol=symbol, now=as_moment(now)), as_json)


@actions.command()
def add(
    folder: StoreFolder,
    symbol: Symbol,
    day: Day,
    kind: Kind,
    ratio: Annotated[
        float | None,
        typer.Option(help="2 is a split of two for one, 0.01 pence where pounds were; else units of --into a share."),
    ] = None,
    last_return: Annotated[
        float | None, typer.Option("--return", help="Of a delisting: the last return, such as -0.3.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(help="Of a delisting, in place of its return: what was paid at the end.")
    ] = None,
    cash: Annotated[
        float | None, typer.Option(help="Money a share, of a dividend, a return of capital, rights or a merger.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(help="The symbol that is given, in a spin-off, a merger or a change of symbol.")
    ] = None,
    pay_day: Annotated[
        datetime | None,
        typer.Option("--pay-date", formats=["%Y-%m-%d"], help="When cash is paid.", show_default="the date"),
    ] = None,
    known_at: Annotated[
        str | None, typer.Option("--known-at", help="When it became known.", show_default="now")
    ] = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Tell a store of a split, a dividend, a merger, the end of a symbol and the like; the same again changes nothing.

    Bars stay as they came, with the split as a factor beside them; what was issued stays. A split of bars that are in
    the store is known from now on at the earliest. A merger and a change of symbol end the old one at its last bar,
    with the return that they give. Dividends, returns of capital, rights and spin-offs change no forecast.
    """
    from gatecast.live.actions import add_action

    done = add_action(
        folder, symbol=symbol, day=_day(day), kind=kind, ratio=ratio, last_return=last_return, price=price,
        cash=cash, into=into, pay_day=None if pay_day is None else _day(pay_day),
        known_at=as_moment(known_at, "--known-at"), now=as_moment(now), machine=machine_of(1, index=index),
    )  # fmt: skip
    _show(done, as_json)


@actions.command()
def resolve(
    folder: StoreFolder,
    symbol: Symbol,
    day: Day,
    what: Annotated[str, typer.Option("--as", help="split, unit, real-move or error.")],
    ratio: Annotated[
        float | None, typer.Option(help="2 is a split of two for one, 0.01 pence where pounds were.")
    ] = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Say what a bar is that waits: the first after a split or in another unit, a real move, or an error.

    The symbol's bars are known from now on, those of an error without the bar itself, until it comes corrected. Said
    again, otherwise than before, it takes the place of what was said; what was issued stays.
    """
    from gatecast.live.actions import resolve as resolve_bar

    done = resolve_bar(
        folder, symbol=symbol, day=_day(day), what=what, ratio=ratio, now=as_moment(now),
        machine=machine_of(1, index=index),
    )  # fmt: skip
    _show(done, as_json)


@actions.command()
def remove(
    folder: StoreFolder,
    symbol: Symbol,
    day: Day,
    kind: Kind = "split",
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Take an action back, or what was said of a bar, which waits again then; what was issued stays."""
    from gatecast.live.actions import remove_action

    done = remove_action(
        folder, symbol=symbol, day=_day(day), kind=kind, now=as_moment(now), machine=machine_of(1, index=index)
    )
    _show(done, as_json)


def _day(given: datetime) -> date:
    return given.date()


def _given(row: Mapping[str, Any]) -> str:
    """The symbol that an action gives, with the units of a merger."""
    return " ".join(filter(None, (f"{row['ratio']:g}" if row["ratio"] else "", row["into"] or "")))


def _show(found: Actions, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
        return
    console = make_console()
    if found.message:
        console.print(printable(f"{found.store}: {found.message}"), markup=False, soft_wrap=True)
    rows = [
        (row["symbol"], row["kind"], row["date"], f"{row['value']:g}", _given(row), moment_text(row["known_at"]))
        for row in found.actions.to_dicts()
    ] + [
        (row["symbol"], "error", row["date"], f"{row['open']:g}", "", moment_text(row["known_at"]))
        for row in found.left_out
    ]  # fmt: skip
    if rows:
        console.print(make_table(("symbol", "kind", "date", "value", "into", "known at"), sorted(rows)))
    for text in found.warnings:
        console.print(printable(f"warning: {text}"), markup=False, soft_wrap=True)
    for one in found.waiting if not found.message else ():
        console.print(printable(one["sentence"]), markup=False, soft_wrap=True)
    if not found.message and not rows and not found.waiting:
        console.print(f"{found.store}: no actions, and no bar waits.", markup=False, soft_wrap=True)
