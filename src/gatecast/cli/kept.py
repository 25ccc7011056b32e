"""Commands on a store: new bars, a refit, the way back, what to hold today, and whether live says what batch says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.cli.options import AsJson, Jobs, as_moment, machine_of, with_bars_options
from gatecast.cli.show import counted, make_console, print_json, say, show_rows
from gatecast.cli.store import IndexAddress, Now, StoreFolder
from gatecast.errors import InterruptedRunError
from gatecast.notebook import moment_text, share_text

if TYPE_CHECKING:
    from rich.console import Console

    from gatecast.live import Today
    from gatecast.live.book import HeldNow


@with_bars_options("start", "end", "as_of")
def update(
    folder: StoreFolder,
    bars: Annotated[str, typer.Option(help="File with new bars; it may repeat older ones.")],
    *,
    options: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings (TOML) of a store that is made.", show_default="the default settings"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for stale, missing or revised bars.")] = False,
    now: Now = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Store new bars and issue a decision for every symbol; a store that is not there is made.

    Late, repeated, corrected and unfinished bars are told apart, in any order; the same file again changes nothing.
    What does not fit to the bars that are there (another market or level) is refused; a symbol whose newest bar looks
    like a split waits until `gatecast actions resolve` says what it is. Exit status 0, also where there is no model
    yet; 1 where a forecast is not finite, where the model in force forecasts other numbers under the versions of
    libraries that are installed, and with --strict for problems of the data.
    """
    from gatecast.experiment import Experiment
    from gatecast.live import update as update_store
    from gatecast.live.book import left_out_in_words
    from gatecast.live.newest import FAILS, NOT_FINITE, OTHER_VERSIONS

    experiment = Experiment.from_toml(config) if config else None
    machine = machine_of(1, index=index)
    done = update_store(folder, bars, now=as_moment(now), experiment=experiment, machine=machine, **options)
    kinds = {problem.kind for problem in done.problems}
    if as_json:
        print_json(done.to_dict())
    else:
        for text in done.warnings:
            say(f"warning: {text}")
        console = make_console()
        counts = ", ".join(f"{name} {count}" for name, count in done.counts.items() if count) or "nothing new"
        made = " (made)" if done.created else ""
        console.print(f"{done.store}{made}: bars: {counts}.", markup=False, soft_wrap=True)
        if done.decisions:
            _show_decisions(folder, done.decisions, console)
            if done.book:
                told = [f"finding: {one}" for one in done.book.booked_late]
                told += [text] if (text := left_out_in_words(done.book.left_out)) else []
                for text in (done.book.sentence, *told):
                    console.print(text, markup=False, soft_wrap=True)
                _show_missed(done.book)
        console.print(done.message, markup=False, soft_wrap=True)
    if kinds & {NOT_FINITE, OTHER_VERSIONS} or (strict and kinds & set(FAILS)):
        raise typer.Exit(1)


NARROW = ("symbol", "held", "target", "trade", "of risk", "limited by", "expected", "strategies' gate")
"""What of a decision is shown where there is no room for all."""
EXPLAINED = {
    "held": "share of the book's equity once the trade (in units) is filled",
    "tilt": "what strategies add to the target, the rest is the core",
    "of risk": "share of the variance of the book, below 0 for a hedge",
    "limited by": "what cut the book's target (a cap), and what keeps its trade from it (the band, lots)",
    "strategies' gate": "what decided on the strategies' position; the book's core needs no evidence",
}
"""Column of a decision -> what it is."""


def _show_decisions(folder: Path, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The table of decisions, of `update` and `today` alike."""
    from gatecast.live.shown import decided
    from gatecast.store.store import Store

    experiment = Store.open(folder).experiment
    table = decided(rows, experiment.strategy_titles)
    columns = list(table[0]) if table else []
    cells = (tuple(one.values()) for one in table)
    shown = show_rows(columns, cells, console, narrow=[name for name in NARROW if name in columns])
    words = " ".join(f"{name.capitalize()}: {said}." for name, said in EXPLAINED.items() if name in shown)
    say(f"Forecasts are of the next {counted(experiment.horizon, 'bar')}, as log returns. {words}")


def retrain(
    folder: StoreFolder,
    if_due: Annotated[bool, typer.Option("--if-due", help="Do nothing where no refit is due.")] = False,
    settings: Annotated[
        Path | None,
        typer.Option(help="Other settings (TOML) from this refit on.", show_default="as before"),
    ] = None,
    now: Now = None,
    jobs: Jobs = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Refit the models of a store; the first time all refits of its history.

    A refit is due at the first session of each period of the schedule; without --if-due one is made at the newest close
    all the same. Of several that were missed the latest is made
    and the others are listed. The new models take over unless the guard refuses them; `gatecast rollback` brings the
    ones before back, with the settings that they had. --settings may change what decides, not what forecasts are made
    with; where no refit is made they are not taken, and the exit status is 1.
    """
    from gatecast.cli.progress import progress_of
    from gatecast.live import retrain as retrain_store
    from gatecast.live.retrain import settings_over

    done = retrain_store(
        folder, if_due=if_due, settings=settings_over(folder, settings) if settings else None, now=as_moment(now),
        progress=progress_of(quiet), machine=machine_of(jobs, index=index),
    )  # fmt: skip
    if as_json:
        print_json(done.to_dict())
        if done.settings_not_taken:
            raise typer.Exit(1)
        return
    for text in done.warnings:
        say(f"warning: {text}")
    console = make_console()
    for text in done.missed:
        console.print(f"missed: {text}", markup=False, soft_wrap=True)
    for name, alarms in done.alarms.items():
        for one in alarms:
            text = f"alarm since the refit before: {name} {one['time'][:10]}: {one['sentence']}"
            console.print(text, markup=False, soft_wrap=True)
    for name, why in done.refused.items():
        console.print(f"refused: {name}: {why}", markup=False, soft_wrap=True)
    for head, verdict in done.verdicts.items():
        console.print(f"{head:<11}{verdict}", markup=False, soft_wrap=True)
    console.print(f"{done.store}: {done.message}", markup=False, soft_wrap=True)
    if done.settings_not_taken:
        raise typer.Exit(1)


def rollback(
    folder: StoreFolder, now: Now = None, index: IndexAddress = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Bring the models before back into force; a second time undoes that. The forecasts that change are shown."""
    from gatecast.live import rollback as roll_back

    done = roll_back(folder, now=as_moment(now), machine=machine_of(1, index=index))
    if as_json:
        print_json(done.to_dict())
        return
    console = make_console()
    rows = (
        (
            row["symbol"], moment_text(row["time"]),
            *(share_text(row[f"expected_return_log_{when}"], "+.2%") for when in ("before", "after")),
            *(share_text(row[f"standard_deviation_{when}"], ".2%") for when in ("before", "after")),
            *(share_text(row[f"{name}_{when}"], "+.1%")
              for name in ("weight", "held", "target") for when in ("before", "after")),
        )
        for row in done.changes
    )  # fmt: skip
    names = ("expected", "s.d.", "strategies", "book holds", "book's target")
    columns = ("symbol", "close", *(text for name in names for text in (f"{name}, was", "is")))
    show_rows(columns, rows, console)
    console.print(f"{done.store}: {done.message}", markup=False, soft_wrap=True)


def today(folder: StoreFolder, now: Now = None, as_json: AsJson = False) -> None:
    """Show what the book may lose, what to hold of every symbol and why it is not what was held before.

    Below: the live record beside what was expected of it, findings, positions that are not what was expected, and
    alarms that are on. Causes of a change: new bars, a refit or a rollback, other settings, the age of the model, no
    forecast.
    """
    from gatecast.live import today as what_today
    from gatecast.live.kept import first_decision
    from gatecast.live.today import WHY_UNDECIDED

    found = what_today(folder, now=as_moment(now))
    if as_json:
        print_json(found.to_dict())
        return
    console = make_console()
    if not found.rows and found.lost:
        say(f"{folder} has no decision that was not lost: what it says is not what was decided.")
        _show_halts(found)
        return
    if not found.rows:
        say(first_decision(folder, found.model))
        _show_halts(found)
        return
    if found.sentence:
        console.print(found.sentence, markup=False, soft_wrap=True)
    for text in found.morning.risk.sentences if found.morning else ():
        console.print(text, markup=False, soft_wrap=True)
    _show_decisions(folder, found.rows, console)
    for text in found.reasons:
        console.print(text, markup=False, soft_wrap=True)
    for text in found.morning.sentences if found.morning else ():
        console.print(text, markup=False)
    _show_halts(found)
    if found.book:
        _show_missed(found.book)
    if found.due:
        say(f"{found.due}: `gatecast retrain {found.store} --if-due` makes up for it.")
    if found.undecided:
        say(f"no decision yet of {', '.join(found.undecided)}: {WHY_UNDECIDED}.")
    for one in found.alarms:
        console.print(f"alarm since {one['time'][:10]}: {one['sentence']}", markup=False, soft_wrap=True)


def _show_missed(book: HeldNow) -> None:
    """Sessions on which no account could trade."""
    if book.missed:
        make_console().print(book.missed_sentence, markup=False, soft_wrap=True)


def _show_halts(found: Today) -> None:
    """What orders are not made of (of halts, and of symbols that are restricted), and files that are out of date."""
    for one in [*found.halts, *found.restricted]:
        make_console().print(f"halt: {one['sentence']}", markup=False, soft_wrap=True)
    for text in found.superseded:
        make_console().print(f"orders: {text}", markup=False, soft_wrap=True)


def replay(
    folder: StoreFolder,
    last: Annotated[int, typer.Option(min=1, help="Closes that are replayed, the newest.")] = 20,
    now: Now = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Feed the newest history bar by bar through the live code, and compare each close with a run over all bars.

    Exit status 1 where a close differs; the first bar, symbol and stage that do are named.
    """
    from gatecast.live import replay_store

    _show_parity(replay_store(folder, last=last, now=as_moment(now), machine=machine_of(jobs)), as_json)


def parity(
    folder: StoreFolder,
    last: Annotated[int, typer.Option(min=1, help="Closes that are compared, the newest.")] = 20,
    now: Now = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Compare what was issued with a run over all bars: the first bar, symbol and stage that differ are named.

    Exit status 1 where a close differs.
    """
    from gatecast.live import parity as compare

    _show_parity(compare(folder, last=last, now=as_moment(now), machine=machine_of(jobs)), as_json)


def _show_parity(found: Any, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(found.message, markup=False, soft_wrap=True)
    if not found.equal:
        raise typer.Exit(1)


@with_bars_options("symbols", "start", "end", "as_of")
def fetch(
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="As the vendor calls them: SPY TLT.")],
    into: Annotated[Path, typer.Option("--into", help="Folder of the store; one that is not there is made.")],
    *,
    options: dict[str, Any],
    since: Annotated[
        str | None, typer.Option(help="First session of symbols that are new: 2005, 2005-01-31.", show_default="2000")
    ] = None,
    vendor: Annotated[str, typer.Option(help="yfinance, ccxt:EXCHANGE, or one of your own.")] = "yfinance",
    pause: Annotated[float, typer.Option(help="Seconds between two questions.")] = 1.0,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings (TOML) of a store that is made.", show_default="the default settings"),
    ] = None,
    now: Now = None,
    as_json: AsJson = False,
) -> None:
    """Fetch symbols from a vendor and store their bars; asked one after the other, and again where one fails.

    Interrupted, the same command goes on where it stopped. What is shown of a symbol is what is stored of it since the
    first session that was asked for. Exit status 1 where nothing was stored of a symbol, as where the vendor answered
    with another one; the others are stored.
    """
    from gatecast.compute.progress import TerminalBars
    from gatecast.experiment import Experiment
    from gatecast.live import fetch as fetch_into

    experiment = Experiment.from_toml(config) if config else None
    try:
        with TerminalBars() as progress:
            done = fetch_into(
                symbols, into, vendor=vendor, since=since, now=as_moment(now), pause_seconds=pause,
                experiment=experiment, progress=progress, options=options,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted. What came is kept: the same command goes on from there.") from None
    if as_json:
        print_json(done.to_dict())
    else:
        console = make_console()
        show_rows(
            ("symbol", "rows", "first", "last"),
            [(name, one["rows"], one["first"], one["last"]) for name, one in done.symbols.items()], console,
        )  # fmt: skip
        for text in done.updated.warnings:
            say(f"warning: {text}")
        console.print(done.updated.message, markup=False, soft_wrap=True)
    for name, why in done.missing.items():
        say(f"{name}: no bars were stored: {why.removesuffix('.')}.")
    if done.missing:
        raise typer.Exit(1)


def health(folder: StoreFolder, now: Now = None, as_json: AsJson = False) -> None:
    """Say how old bars, decisions and models of a store are, in sessions of its calendars; for a monitor.

    Exit status 0: all is well; 1: something should be looked at; 2: the feed is dead, or the store cannot be read.
    """
    from gatecast.live import health as how_is

    found = how_is(folder, now=as_moment(now))
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(str(found), markup=False, soft_wrap=True)
    if found.status:
        raise typer.Exit(found.status)


@with_bars_options("start", "end", "as_of")
def live(
    folder: StoreFolder,
    source: Annotated[
        str, typer.Option(help="Folder in which files with bars appear, or a vendor: yfinance, ccxt:EXCHANGE.")
    ],
    *,
    options: dict[str, Any],
    config: Annotated[Path | None, typer.Option("--config", help="Settings (TOML) of a store that is made.")] = None,
    every: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds between two looks at the source.")] = 60.0,
    rounds: Annotated[int | None, typer.Option(min=1, help="Looks, then it ends.", show_default="without end")] = None,
    hook: Annotated[
        str | None, typer.Option("--webhook", help="Address that alerts are posted to.", envvar="GATECAST_WEBHOOK")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--mail", help="Address that alerts are mailed to, through GATECAST_SMTP=HOST:PORT.")
    ] = None,
    jobs: Jobs = None,
    index: IndexAddress = None,
) -> None:
    """Watch a folder or a vendor: each new file or bar updates the store, refits are made when due, and what breaks is
    alerted once.

    A vendor is asked for the store's symbols (or --symbols) when a bar should be there by the calendar.

    It places no orders: it says what it would hold. Ctrl-C or SIGTERM ends it, with exit status 0: a step that it was
    at has not happened, and is done at the next start.
    """

    def tell(done: Any) -> None:
        at = f"{done.now:%Y-%m-%d %H:%M:%S}"
        for text in done.refused:
            say(f"{at} {text}")
        if done.files:
            say(f"{at} {', '.join(done.files)}: {done.updated.message}")
        if done.retrained is not None:
            say(f"{at} {done.retrained.message}")
        for text in done.alerted:
            say(f"{at} alert: {text}")

    try:
        from gatecast.experiment import Experiment
        from gatecast.live import watch
        from gatecast.live.alerts import each_of, mail, webhook

        alerts = [webhook(hook)] if hook else []
        alerts += [mail(to, os.environ.get("GATECAST_SMTP"))] if to else []

        say(f"watching {source}; it places no orders. Ctrl-C ends it.")
        watch(
            folder, source, seconds=every, rounds=rounds, experiment=Experiment.from_toml(config) if config else None,
            alert=each_of(alerts), on_round=tell, machine=machine_of(jobs, index=index),
            options=options,
        )  # fmt: skip
    except KeyboardInterrupt:  # its usual end
        say("ended; what is stored is whole.")
