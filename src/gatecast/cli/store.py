"""`gatecast store list|check|export|prune`: what is in a store, whether it is whole, its tables, what can go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.options import AsJson, as_moment
from gatecast.cli.show import counted, make_console, make_table, print_json
from gatecast.errors import SettingsError
from gatecast.notebook import moment_text

StoreFolder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a store.")]
IndexAddress = Annotated[
    str | None,
    typer.Option(
        "--index", help="Address of a shared index, a PostgreSQL database.", envvar="GATECAST_INDEX",
        show_default="a file in the store",
    ),
]  # fmt: skip
Now = Annotated[str | None, typer.Option(help="Moment that the command takes for now.", show_default="the clock")]

store = typer.Typer(
    name="store", help="What is in a store, whether it is whole, its tables, what can go.", no_args_is_help=True
)


def _opened(folder: Path, index: str | None) -> Any:
    from gatecast.machine import Machine
    from gatecast.store import Store

    return Store.open(folder, machine=Machine(index=index))


def _moment(text: str | None) -> Any:
    from datetime import UTC, datetime

    return as_moment(text) or datetime.now(UTC)


def card(
    folder: StoreFolder,
    out: Annotated[Path | None, typer.Option(help="File to write, .md or .html.", show_default="printed")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            help="Of the records up to the end of this day, UTC.",
            show_default="of all",
        ),
    ] = None,
    now: Now = None,
    as_json: AsJson = False,
) -> None:
    """Write the card of a store: purpose, data, assumptions, rivals, failures, limits, changes, orders (approved,
    exported) and overrides.

    Everything is read from the journal: the same journal gives the same bytes, and so does an earlier day (--as-of) or
    moment (--now), whatever came since.
    """
    from gatecast.files import full_path, write_whole
    from gatecast.report import card as card_of

    if out is not None and out.suffix not in (".md", ".html"):
        raise SettingsError(f"--out: expected a file that ends in .md or .html, got {out.name!r}.")
    if as_of is not None and now is not None:
        raise SettingsError("--as-of and --now both say up to when records count: give one of the two.")
    until = as_moment(now) if as_of is None else as_of.replace(tzinfo=UTC) + timedelta(days=1, microseconds=-1)
    found = card_of(folder, now=until)
    text = found.html() if out is not None and out.suffix == ".html" else found.markdown()
    if out is not None:
        try:
            write_whole(full_path(out), text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise SettingsError(f"--out: {out} cannot be written: {error.strerror or error}.") from None
    if as_json:
        print_json({**found.to_dict(), "out": str(out) if out else None})
    elif out is not None:
        make_console().print(f"{out}: the card as of record {found.number}.", markup=False, soft_wrap=True)
    else:
        make_console().print(text, markup=False, soft_wrap=True)


@store.command("list")
def list_records(
    folder: StoreFolder,
    last: Annotated[int, typer.Option(min=0, max=100_000, help="Records shown, the newest.")] = 20,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show what a store holds and its newest records."""
    from gatecast.store.about import about
    from gatecast.store.state import refuse_misfit

    opened = _opened(folder, index)
    state = opened.state
    records = [one for one in opened.journal.records(since=max(1, state.number - last + 1)) if last]
    for one in records:
        refuse_misfit(one.kind, one.body)
    found = {
        "path": str(opened.folder), "id": opened.id, "records": state.number, "written": state.time, "now": state.now,
        "symbols": dict(state.symbols), "bars": sum(part.rows for part in state.bars),
        "years": sorted({part.year for part in state.bars}), "issued": len(state.issued), "models": len(state.models),
        "serving": state.serving, "previous": state.previous, "missed": list(state.missed),
        "heartbeat": opened.heartbeat(),
    }  # fmt: skip
    if as_json:
        print_json({**found, "newest": [one.to_dict() for one in records]})
        return
    console = make_console()
    years = f" of {found['years'][0]} to {found['years'][-1]}" if found["years"] else ""
    model = f"model {state.serving} serves" if state.serving else "no model serves"
    console.print(
        f"{opened.folder}: {counted(len(state.symbols), 'symbol')}, {counted(found['bars'], 'version')} of "
        f"bars{years}, {counted(len(state.models), 'refit')} ({model}), issued {counted(len(state.issued), 'time')}.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    rows = ((one.number, moment_text(one.now), one.kind, about(one)) for one in records)
    console.print(make_table(("record", "now", "kind", "what"), rows))


@store.command()
def check(
    folder: StoreFolder,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the index again from the journal first.")] = False,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Read all of a store and list what is wrong; exit status 0 when it is whole, 1 when it is not.

    Every line of the journal, the hash of every file, the newest snapshot, the bars and the index are checked. What
    killed processes left behind is said and is no fault.
    """
    from gatecast.errors import StoreError
    from gatecast.machine import Machine
    from gatecast.store import Fault, Store

    machine = Machine(index=index)
    rebuilt, failed = None, []
    if rebuild:
        try:
            rebuilt = Store.open(folder, machine=machine).rebuild_index()
        except StoreError as error:
            failed = [Fault(folder, str(error))]
    found = [*Store.faults(folder, machine=machine), *failed]
    faults = [one for one in found if not one.is_harmless]
    if as_json:
        notes = [one.sentence for one in found if one.is_harmless]
        told = [{"file": str(one.file), "fault": one.what} for one in faults]
        print_json({"path": str(folder), "whole": not faults, "faults": told, "notes": notes, "rebuilt": rebuilt})
    else:
        console = make_console()
        for one in found:
            word = "note" if one.is_harmless else "fault"
            console.print(f"{word}: {one.sentence}", markup=False, soft_wrap=True)
        said = f"is not whole: {counted(len(faults), 'fault')}" if faults else "is whole"
        again = f"; its index was made again from {counted(rebuilt, 'record')}" if rebuilt is not None else ""
        console.print(f"{folder} {said}{again}.", markup=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)


@store.command()
def export(
    folder: StoreFolder,
    out: Annotated[Path, typer.Option(help="Folder for the tables; it is made.")],
    form: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Write bars as known now, decisions and forecasts as tables.

    In CSV, texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    from gatecast.store.export import export as export_store

    done = export_store(_opened(folder, index).as_of(as_moment(now)), out, _moment(now), form)  # type: ignore[arg-type]
    if as_json:
        print_json({"path": str(out), "files": done})
    else:
        for name, count in done.items():
            make_console().print(f"{out / name}: {counted(count, 'row')}", markup=False, soft_wrap=True)


@store.command()
def prune(
    folder: StoreFolder,
    keep: Annotated[int | None, typer.Option(min=1, max=10_000, help="Accepted models that stay, the newest.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; else they are only listed.")] = False,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Remove files that no record names, those of older snapshots and, with --keep, those of older models.

    What the book went on from before its newest sessions is removed as well. The model that serves and the one before
    it always stay. Without --yes nothing is removed.
    """
    opened = _opened(folder, index)
    found = opened.prune(_moment(now), keep) if yes else opened.prunable(keep)
    groups = {"unnamed": found.unnamed, "superseded": found.superseded, "models": found.models}
    if as_json:
        print_json({"path": str(folder), "removed": yes, "bytes": sum(found.all.values()), **groups})
        return
    words = {
        "unnamed": "that no record names",
        "superseded": "of older snapshots and sessions of the book",
        "models": "of older models",
    }
    console = make_console()
    for name, files in groups.items():
        if files:
            said = f"{counted(len(files), 'file')} {words[name]}: {sum(files.values()):,} bytes"
            console.print(said, markup=False, soft_wrap=True)
    verb = "were removed" if yes else "can be removed: add --yes"
    console.print(f"{sum(found.all.values()):,} bytes {verb}." if found.all else "Nothing to remove.", markup=False)
