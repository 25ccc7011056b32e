"""`gatecast orders|approve|withdraw|fills|reconcile|halt`: targets of the book to orders and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.cli.options import AsJson, as_moment, machine_of
from gatecast.cli.show import counted, make_console, make_table, print_json, say, show_rows
from gatecast.cli.store import IndexAddress, Now, StoreFolder
from gatecast.errors import SettingsError

if TYPE_CHECKING:
    from gatecast.live.ordered import Orders

OrdersId = Annotated[str, typer.Argument(metavar="ORDERS_ID", help="Id of orders, which `gatecast orders` shows.")]
PositionsFile = Annotated[
    Path, typer.Option("--positions", help="CSV of what is held: symbol, units; above it `# as_of: DATE`.")
]
Account = Annotated[str | None, typer.Option(help="Account of the positions.", show_default="that of the file")]
NewAccount = Annotated[bool, typer.Option("--new-account", help="The account may be one that the store has not seen.")]
By = Annotated[str | None, typer.Option("--by", envvar="GATECAST_BY", help="Who does it.", show_default="unnamed")]
ByWhom = Annotated[str, typer.Option("--by", envvar="GATECAST_BY", help="Who does it.")]
NEVER_TRADES = "gatecast never trades: it writes a file, and sends nothing to a market."


def orders(
    folder: StoreFolder,
    positions: PositionsFile,
    capital: Annotated[float, typer.Option(help="Money of the account, in the book's currency.")],
    open_orders: Annotated[
        Path | None,
        typer.Option(
            "--open-orders", help="CSV of open orders: order_id, symbol, side, remaining.", show_default="none"
        ),
    ] = None,
    account: Account = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            help="The newest session up to this day.",
            show_default="the newest session",
        ),
    ] = None,
    restricted: Annotated[
        Path | None, typer.Option(help="CSV of symbols that may not be traded: symbol.", show_default="none")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Symbol that is not traded now; may be repeated.", show_default="none")
    ] = None,
    new_account: NewAccount = False,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv or json: of --out; without --out the file is printed.", show_default="csv"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Export: write the file of approved orders, once; it needs --by.", show_default="not exported"
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Write a file that was exported before once more.")] = False,
    by: By = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Propose the orders that bring an account to the book's targets, and export them once they are approved.

    gatecast never trades: it writes a file, and sends nothing to a market. Targets are those of the newest session that
    the store has decided, in shares of the capital; units, bands, lots, caps and tickets are those of the backtest,
    with what is really held. The same again gives the same bytes. A file is written once, and only of orders that
    `gatecast approve` has approved. Positions that are old, unreadable or of another account, a hard limit that is
    exceeded, a halt, and a holding that nobody can explain are refused. Of an earlier session (--as-of) nothing is
    journalled.
    """
    from gatecast.live import export, propose

    machine = machine_of(1, index=index)
    if form not in (None, "csv", "json"):
        raise SettingsError(f"--format must be csv or json, got {form!r}.")
    if again and out is None:
        raise SettingsError("--again needs --out: it writes a file that was exported before once more.")
    if out is not None and by is None:
        raise SettingsError("--out needs --by WHO, or GATECAST_BY: the journal says who exported the orders.")
    made = propose(
        folder, positions, capital=capital, open_orders=open_orders, account=account,
        as_of=as_of.date() if as_of else None, restricted=restricted, without=without or (),
        new_account=new_account, by=by, now=as_moment(now), machine=machine,
    )  # fmt: skip
    if out is not None and by is not None:
        made = export(
            folder, made.orders_id, out, form=form or "csv", again=again, by=by, now=as_moment(now), machine=machine
        )  # fmt: skip
    if as_json:
        print_json(made.to_dict())
    elif form is not None and out is None:
        typer.echo(made.file("json" if form == "json" else "csv").decode(), nl=False)
    else:
        _show(made)
    say(NEVER_TRADES)


SHOWN = ("symbol", "side", "units", "limit", "send before, UTC", "value", "cost", "bps", "target", "held", "why")


def _show(made: Orders) -> None:
    """Orders as a table, their limits and what comes next."""
    told, console = made.content, make_console()
    if made.exported not in ("", made.orders_id):
        console.print(
            f"Orders {made.exported} of this account and session were exported, and their file is still good. "
            "Below are others.", markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"Orders {made.orders_id} ({made.status}): account {told['account']}, session {told['session']}, capital "
        f"{told['capital']:,.2f} {told['currency']}.", markup=False, soft_wrap=True,
    )  # fmt: skip
    if made.wrote:
        console.print(f"{made.wrote}: {made.message}", markup=False, soft_wrap=True)
        return
    if made.rows:
        show_rows(SHOWN, map(_row, made.rows), console, narrow=("symbol", "side", "units", "limit", "value", "why"))
        console.print(
            f"{counted(len(made.rows), 'order')} of {told['value']:,.2f}, expected to cost {told['cost']:,.2f} "
            f"{told['currency']}: commission {_sum(made, 'commission')}, spread {_sum(made, 'spread')}, impact "
            f"{_sum(made, 'impact')}.", markup=False, soft_wrap=True,
        )  # fmt: skip
    elif made.status == "computed":
        console.print("Nothing is to be traded.")
    for one in told["breaches"]:
        say(f"warning: {one['sentence']} It needs --override {one['name']} to be approved.")
    for note in told["notes"]:
        say(f"note: {note}")
    console.print(made.message, markup=False, soft_wrap=True)


def _sum(made: Orders, name: str) -> str:
    return f"{sum(row[name] for row in made.rows):,.2f}"


def _row(row: Mapping[str, Any]) -> tuple[object, ...]:
    """The cells of an order."""
    return (
        row["symbol"], row["side"], f"{row['units']:,.8g}", f"{row['limit_price']:,.8g} {row['currency']}",
        row["send_before"][:16].replace("T", " "), f"{row['value']:,.2f}", f"{row['cost']:,.2f}",
        f"{row['cost_bps']:.1f}",
        f"{row['target_units']:,.8g}", f"{row['held']:,.8g}", row["reason"],
    )  # fmt: skip


def approve(
    folder: StoreFolder,
    orders_id: OrdersId,
    by: ByWhom,
    override: Annotated[
        list[str] | None,
        typer.Option(help="Soft limit that the orders may exceed; may be repeated.", show_default="none"),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why a limit may be exceeded.", show_default="none")] = None,
    until: Annotated[
        str | None, typer.Option(help="Moment up to which the override holds.", show_default="none")
    ] = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Approve orders that were proposed, so that they can be exported; the same again changes nothing.

    Where they exceed a soft limit, it has to be overridden with a reason and a moment up to which that holds.
    """
    from gatecast.live import approve as approve_orders

    made = approve_orders(
        folder, orders_id, by=by, override=override or (), reason=reason, until=as_moment(until, "--until"),
        now=as_moment(now), machine=machine_of(1, index=index),
    )  # fmt: skip
    _show_step(made, as_json=as_json)


def withdraw(
    folder: StoreFolder,
    orders_id: OrdersId,
    by: ByWhom,
    reason: Annotated[str | None, typer.Option(help="Why.", show_default="none")] = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Take back an export whose file was not sent, or of which all was cancelled; the same again changes nothing.

    The orders are approved as before, and can be exported again. Refused once something was filled, other orders of the
    account were approved since, or the open that they were for has passed.
    """
    from gatecast.live import withdraw as withdraw_orders

    made = withdraw_orders(
        folder, orders_id, by=by, reason=reason, now=as_moment(now), machine=machine_of(1, index=index)
    )  # fmt: skip
    _show_step(made, as_json=as_json)


def _show_step(made: Orders, *, as_json: bool) -> None:
    """What a step has made of orders."""
    if as_json:
        print_json(made.to_dict())
        return
    make_console().print(f"Orders {made.orders_id} ({made.status}): {made.message}", markup=False, soft_wrap=True)


def fills(
    folder: StoreFolder,
    file: Annotated[Path, typer.Option(help="CSV of fills: fill_id, order_id, symbol, side, units, price, time.")],
    by: By = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Tell a store of fills of orders that were exported; partial ones, and the same again, are seen as such.

    Fills of unknown orders, of more than an order's units, and two that differ under one id are refused. Fills of
    before the export, of after the session, and beyond the limit price are stored and told.
    """
    from gatecast.live import fills as store_fills

    done = store_fills(folder, file, by=by, now=as_moment(now), machine=machine_of(1, index=index))
    if as_json:
        print_json(done.to_dict())
        return
    console = make_console()
    for one in done.warnings:
        say(f"warning: {one}")
    rows = [
        (
            one["order_id"],
            one["symbol"],
            one["side"],
            f"{one['units']:,.8g}",
            f"{one['filled']:,.8g}",
            f"{one['left']:,.8g}",
        )
        for one in done.orders
    ]
    console.print(make_table(("order", "symbol", "side", "units", "filled", "left"), rows))
    console.print(f"account {done.account}: {counted(done.new, 'new fill')}, {done.seen} were there.", markup=False)


def reconcile(
    folder: StoreFolder,
    positions: PositionsFile,
    account: Account = None,
    new_account: NewAccount = False,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="SYMBOL REASON", help="Why a holding differs; one at a time.", show_default="none"),
    ] = None,
    by: By = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Compare what an account holds with what its last positions, fills and actions since add up to.

    Exit status 1 while a difference is there that nobody has explained: no orders are made until then. Positions
    without one are what is expected from then on.
    """
    from gatecast.live import reconcile as reconcile_positions

    done = reconcile_positions(
        folder, positions, account=account, new_account=new_account, explain=dict([explain]) if explain else None,
        by=by, now=as_moment(now), machine=machine_of(1, index=index),
    )  # fmt: skip
    if as_json:
        print_json(done.to_dict())
    else:
        console = make_console()
        rows = [
            (
                one.symbol,
                f"{one.expected:,.8g}",
                f"{one.found:,.8g}",
                f"{one.found - one.expected:+,.8g}",
                one.reason or "-",
            )
            for one in done.breaks
        ]
        if rows:
            console.print(make_table(("symbol", "expected", "found", "difference", "explained"), rows))
        left = sum(one.reason is None for one in done.breaks)
        said = "what is held from here on" if done.first else "as expected" if not rows else "explained"
        said = f"{counted(left, 'difference')} that nobody has explained" if left else said
        console.print(f"account {done.account}: {said}.", markup=False)
    if not done.clean:
        raise typer.Exit(1)


def halt(
    folder: StoreFolder,
    by: ByWhom,
    reason: Annotated[str, typer.Option(help="Why.")],
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Export orders that close what is held, and no others.")
    ] = False,
    release: Annotated[bool, typer.Option("--release", help="End a halt.")] = False,
    record: Annotated[
        int | None,
        typer.Option(min=1, help="Record of the halt that is released.", show_default="the only one in force"),
    ] = None,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Stop all exports of orders until the halt is released; with --flatten all but those that close what is held.

    Each halt stays in force until it is released itself. Beside one that stops all orders, --flatten is refused.
    """
    from gatecast.live import halt as halt_store
    from gatecast.live.blotter import Blotter
    from gatecast.store import Store

    said = halt_store(
        folder, by=by, reason=reason, flatten=flatten, release=release, record=record, now=as_moment(now),
        machine=machine_of(1, index=index),
    )  # fmt: skip
    if as_json:
        halts = Blotter(Store.open(folder)).halted
        print_json({"store": str(folder), "halted": bool(halts), "halts": halts, "message": said})
        return
    make_console().print(f"{folder}: {said}", markup=False, soft_wrap=True)
