"""A new bar in, a forecast out: the run's own stages on the newest bars, with the models of its last refit.

It is the chain over the run's bars and the newer ones, with the run as its past and without refits: what the run has
issued stays, and a forecast made live is the forecast that a later run makes of that bar. The features are the run's,
by name and class: what it left out stays left out on the longer file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from gatecast.arguments import checked, takes
from gatecast.chain import Chain, ClassResult, Past, make_chain
from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.forecasting.checks import LARGEST
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Issued
from gatecast.market.actions import read_actions, recorded_delistings, with_terms
from gatecast.market.awaited import with_awaited
from gatecast.market.bars import COLUMNS, PRICES, Finding, refuse_lacking, session_date, session_of, without_idle
from gatecast.market.calendar import OLDEST_SESSIONS, usual_spacing
from gatecast.market.classes import AssetClass, asset_class
from gatecast.market.ends import Ended
from gatecast.market.facts import facts_of
from gatecast.market.merging import DataProblem, Kind, merge_bars, names_of, new_symbols
from gatecast.market.reading import BarsSettings, as_utc
from gatecast.market.rows import Source, symbols_of
from gatecast.market.sessions import GRACE, LONGER, calendar_of, named_calendars, open_days, sessions_missed
from gatecast.market.sources import IN_MEMORY, LEFT_OUT, read_with_findings
from gatecast.newest import BEHIND, newest_rows
from gatecast.notebook import Shown
from gatecast.runs import Run, without_doubtful
from gatecast.samples.features.compute import find_features
from gatecast.samples.windows import Samples
from gatecast.store import load_run, past_of
from gatecast.trading.decisions import keys_of, why_position

NOT_FINITE: Kind = "not finite"
"""Kind of the problem of a forecast that is no number."""
OLD_MODEL: Kind = "old model"
"""Kind of the problem of a model that was not refitted for so long that nothing is forecast with it."""
OTHER_VERSIONS: Kind = "other versions"
"""Kind of the problem of a model that forecasts other numbers under the versions of libraries that are installed."""
FAILS = ("stale", "missing", "awaited", "revised", "left out", "doubtful bar", NOT_FINITE, OLD_MODEL)
"""Kinds of problems for which `--strict` ends with status 1."""
MOST_SAID = 20
"""Findings of a reading on new symbols that are said one by one."""
ROUND_THE_WEEK = "24/5"
"""The calendar of currencies, which knows no holiday."""
NOT_OF_NEWEST = ("symbols", "start", "end", "as_of")
"""Settings of a run's bars that do not hold for newer ones."""
EXPECTED = {"probability_up": "direction", "expected_return_log": "return", "volatility": "volatility"}
"""What a forecast of today must have -> the head that it is of."""
Splits = str | pl.DataFrame | Literal[False] | None


@dataclass(frozen=True)
class Newest(Shown):
    """What `forecast` found: a row a symbol, problems of the data, and what else must be said.

    `rows`: see `gatecast.newest.newest_rows`; each has `warnings` (those of all symbols and its own) and
    `data_problems` (its own, and those of all) as well. `problems`: what is wrong or new about the bars. `warnings`:
    sentences.
    """

    rows: list[dict[str, Any]]
    problems: tuple[DataProblem, ...]
    warnings: tuple[str, ...]

    @property
    def broken(self) -> bool:
        """Whether a forecast is not finite."""
        return any(problem.kind == NOT_FINITE for problem in self.problems)

    @property
    def sound(self) -> bool:
        """Whether no data are stale, missing or revised."""
        return not any(problem.kind in FAILS for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """`forecasts`, `data_problems` (kind, symbols, sentence), `new_symbols`, `warnings`, `sound`."""
        strange = [symbol for problem in self.problems if problem.kind == "new symbol" for symbol in problem.symbols]
        return {
            "forecasts": self.rows,
            "data_problems": [asdict(problem) for problem in self.problems],
            "new_symbols": strange,
            "warnings": list(self.warnings),
            "sound": self.sound,
        }


@dataclass(frozen=True)
class NewestBars:
    """What `read_newest` read: `bars` (a Bars frame) of a source, and what goes with them into `forecast`.

    `splits`: those that apply to the bars, False where every step is a true move. `actions`: delistings. `findings`: of
    the reading. `others`: symbols of the source beyond those of `bars`. `calendars`: symbol -> calendar of the symbols
    file, where it is not the class's.
    """

    bars: pl.DataFrame
    splits: Splits
    actions: pl.DataFrame
    findings: tuple[Finding, ...]
    others: tuple[str, ...]
    calendars: Mapping[str, str] = field(default_factory=dict)


def read_newest(run: Run, source: Source, *, splits: Any = None, actions: Any = None, **options: Any) -> NewestBars:
    """The newest bars of a source, read as the run read its own; `options` of `read_bars` win over the run's.

    Of a source with more symbols than the run chose from it, the run's symbols are kept. Raises `BarsError` as
    `read_bars` does, and `SettingsError` where a run that was loaded names a table (`splits`, `actions`, `delisting`,
    `symbols_file`) that is not given again: the settings in a folder open no other file.
    """
    given = {**options, "splits": splits, "actions": actions}
    names = run.bars["symbol"].unique().sort().to_list()
    asked = {name: one for name, one in run.experiment.bars.options.items() if name not in NOT_OF_NEWEST}
    if len(names) == 1:  # it names bars that carry no symbol
        asked["symbols"] = names
    if run.is_loaded:
        run.experiment.bars.refuse_tables([name for name, one in given.items() if one is not None])
    asked |= options
    asked |= {name: one for name, one in (("splits", splits), ("actions", actions)) if one is not None}
    prices = run.experiment.book.money.prices
    reading = read_with_findings(source, currencies=prices, **asked)
    newest, listed = reading.bars, reading.actions.filter(pl.col("kind") == "split")  # of both tables
    table: pl.DataFrame | Literal[False] | None = listed if len(listed) else None
    if asked.get("splits") is False:
        table = False
    chosen = "symbols" in options or run.experiment.bars.symbols is not None  # of more: who chooses knows the others
    if chosen and newest["symbol"].is_in(names).any():
        newest = newest.filter(pl.col("symbol").is_in(names))
    others = symbols_of(source) if len(names) == 1 and not chosen else []
    delisted = reading.actions.filter(pl.col("kind") == "delisting")
    if asked.get("actions") is not None:  # of symbols that ended, and so have no bar here, as well
        every = read_actions(asked["actions"]).filter(pl.col("kind") == "delisting")
        delisted = delisted.vstack(every.filter(~pl.col("symbol").is_in(newest["symbol"].unique().to_list())))
    return NewestBars(newest, table, delisted, reading.findings, tuple(others), reading.calendars)


@checked
@takes(BarsSettings, without=(*IN_MEMORY, "start", "end", "as_of"))
def forecast_newest(
    run: Run | str | Path,
    bars: Source,
    *,
    splits: Splits = None,
    actions: pl.DataFrame | str | Path | None = None,
    now: datetime | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The newest forecast of every symbol of a run, one dictionary a symbol: the rows of `forecast`.

    Parameters
    ----------
    run: a Run, or the folder of one. bars: the newest bars, which may repeat those of the run: a path or a frame of
        pandas or Polars, read as the run read its own (`options` are those of `read_bars`), or a Bars frame, taken as
        it is.
    splits, actions, now: see `forecast`.

    Raises as `forecast` and `read_bars` do.

    >>> from gatecast import Experiment, forecast_newest, run
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(1000, seed=1)
    >>> cheap = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=bars[:-1], schedule={"refit": "1Y"}, **cheap))
    >>> [(row["symbol"], row["time"] == bars["time"][-1]) for row in forecast_newest(done, bars)]
    [('A1', True)]
    """
    known = run if isinstance(run, Run) else load_run(run)
    if isinstance(bars, pl.DataFrame) and set(COLUMNS) <= set(bars.columns):
        if options:
            raise SettingsError(f"{', '.join(sorted(options))}: these bars are read already; leave the options out.")
        given = actions if actions is None or isinstance(actions, pl.DataFrame) else read_actions(actions)
        return forecast(known, bars, splits=splits, actions=given, now=now).rows
    read = read_newest(known, bars, splits=splits, actions=actions, **options)
    return forecast(
        known, read.bars, splits=read.splits, actions=read.actions, now=now, findings=read.findings,
        others=read.others, calendars=read.calendars,
    ).rows  # fmt: skip


@checked
def forecast(
    run: Run | str | Path,
    bars: pl.DataFrame,
    *,
    splits: Splits = None,
    actions: pl.DataFrame | None = None,
    now: datetime | None = None,
    findings: Sequence[Finding] = (),
    others: Sequence[str] = (),
    calendars: Mapping[str, str] | None = None,
) -> Newest:
    """The newest forecast of every symbol of a run, and what is wrong with the bars.

    Parameters
    ----------
    run: a Run, or the folder of one. bars: Bars frame with the newest bars; it may repeat those of the run, and what it
        has beyond them is added. Symbols that the run does not know are left out and named, and so are newer bars
        without a price and bars that close after `now`. splits: the table with which the bars were read, see
        `market.merging.merge_bars`. actions: delistings beside those that the run has recorded, as
        `market.actions.read_actions` gives them; their symbols need no bars here. now: the moment against which bars
        are stale (default: the computer's clock).
    findings: of the reading (`Reading.findings`): rows newer than the run's that it left out are named. others: symbols
        of the source beyond those of `bars`, which are named as well. calendars: symbol -> calendar
        (`Reading.calendars`) by which a symbol is behind, where it is not that of its class.

    Returns
    -------
    Newest. Its rows have the fields of `gatecast.newest.newest_rows`.

    Raises `BarsError` when no symbol of the run is among the bars, when they do not go on from the run's (an unlisted
    split, another class or length) or lack a column of its features; `StoreError` for a run that cannot be trusted,
    `SettingsError` for bars of a sealed hold-out.
    """
    if now is not None and now.tzinfo is None:
        raise SettingsError(f"now = {now} has no time zone. Give one: now.replace(tzinfo=datetime.UTC) for UTC.")
    refuse_lacking(bars)
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    run = run if isinstance(run, Run) else load_run(run)
    past, experiment = past_of(run), run.experiment
    if not past.forecasts:
        raise StoreError(f"{run.path or experiment.name}: no asset class of the run could be forecast.")
    bars, unusable = usable(run.bars, bars, moment)
    refuse_sealed(run, bars)
    actions = known_delistings(run, actions, moment)
    merged = merge_bars(run.bars, bars, splits, actions)
    for name, features in past.features.items():
        _refuse_empty_columns(run.bars, merged.bars.filter(pl.col("asset_class") == name), features)
    ended = facts_of(merged.bars, actions).symbols_ended
    bars, awaited = with_awaited(run.bars, merged.bars, ended, open_days(merged.bars, calendars))
    chain = make_chain(experiment, bars, actions=actions, past=past, refit="never", watch=False)
    problems = (
        *new_symbols(sorted(set(others) - set(bars["symbol"].unique()) - set(run.bars["symbol"].unique()))),
        *unusable, *say_findings(run.bars, findings), *merged.problems, *stale(merged.bars, moment, ended, calendars),
        *say_missed(run.bars, merged.bars, calendars),
        *say_ended(ended), *say_awaited(merged.bars, awaited),
    )  # fmt: skip
    return told_of(run, past, chain, problems, awaited, calendars)


def told_of(
    run: Run, past: Past, chain: Chain, problems: Sequence[DataProblem] = (), awaited: pl.DataFrame | None = None,
    calendars: Mapping[str, str] | None = None,
) -> Newest:  # fmt: skip
    """The newest forecast of every symbol of a chain, with what must be said of it.

    In: `chain`, made of a run's bars and newer ones without a refit, with what the run has issued as its `past`;
    `problems` of the bars; `awaited`: symbol and time of rows that may still come, see `market.awaited`;
    `calendars`: see `forecast`. Of a run that is in doubt nothing is held.
    """
    experiment, ended = run.experiment, chain.facts.symbols_ended
    merged = _without(chain.bars, awaited)
    warnings = [problem.sentence for problem in problems]
    override = experiment.selection.evidence
    if override is not None:
        said, verdict = why_position(override), run.warning.removeprefix(f"The settings set evidence = {override:g}. ")
        warnings.insert(0, f"{said[:1].upper()}{said[1:]}, whatever the record says. {verdict}".strip())
    elif run.doubtful:
        warnings.insert(0, f"{run.warning} No position is taken until the cause is found.")
    elif run.untradable:
        warnings.insert(0, "No position: a claim of the run is gone with decisions one bar late.")
    chain = without_doubtful(run, chain)
    for name, one in chain.classes.items():
        due = refits_due(experiment.schedule, one.samples, past.forecasts[name])
        if due:
            are = "refit is" if due == 1 else "refits are"
            warnings.append(f"{name}: {due} {are} due; until one is made the models of before forecast on.")
    newest = {name: newest_of(one, awaited) for name, one in chain.classes.items()}
    decisions = chain.decisions.of(newest)
    rows = newest_rows(
        merged.filter(pl.col("asset_class").is_in(list(newest))),
        pl.concat([one.forecasts.to_frame() for one in newest.values()]).lazy(),
        decisions.signals, decisions.weights, run.verdicts,
        signal_model=experiment.signals.model, confirmed_by=experiment.signals.confirmed_by,
        abstain=experiment.strategies.abstain, titles=decisions.titles, names=experiment.model_titles, ended=ended,
        calendars=calendars,
    )  # fmt: skip
    rows, broken = without_broken(
        rows,
        {name: set(one.values.get(ENSEMBLE, ())) for name, one in past.forecasts.items()},
        [name for name, one in past.forecasts.items() if "return" in one.values.get(experiment.signals.model, ())],
    )
    every, warnings = (*problems, *broken), [*warnings, *(problem.sentence for problem in broken)]
    with_warnings = []
    for row in rows:
        own = [problem for problem in every if not problem.symbols or row["symbol"] in problem.symbols]
        found = [asdict(problem) for problem in own]
        with_warnings.append({**row, "warnings": [*warnings, *_not_today(row)], "data_problems": found})
    return Newest(with_warnings, every, tuple(dict.fromkeys(warnings)))


def without_broken(
    rows: Sequence[dict[str, Any]], heads: Mapping[str, Collection[str]], signalling: Collection[str] = ()
) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    """Rows of `newest_rows` -> the same with nothing held where a forecast of today cannot be; and what was wrong.

    It cannot be where it is not finite, of a path any step, or above `LARGEST`. `heads`: asset class -> heads that the
    run forecasts of it; `signalling`: classes in which the signalling model forecasts returns.

    >>> row = {"symbol": "A", "asset_class": "equity", "current": True, "weight": 0.1, "probability_up": None}
    >>> rows, problems = without_broken([row], {"equity": ("direction",)})
    >>> rows[0]["weight"], problems[0].kind
    (0.0, 'not finite')
    """
    safe, broken = [], []
    for row in rows:
        promised = heads.get(row["asset_class"], ())
        lost = [name for name, head in EXPECTED.items() if head in promised and not _can_be(row.get(name))]
        if "return" in promised and "path" in row and not (row["path"] and all(map(_can_be, row["path"]))):
            lost = [name for name in lost if name != "volatility"] + ["path"]  # which is read out of the return
        if row["asset_class"] in signalling and not _can_be(row.get("signal_return_log")):
            lost.append(f"signal_return_log of {row.get('signal_model')}")
        if not row["current"] or not lost:
            safe.append(row)
            continue
        safe.append({**row, **{name: 0.0 for name in ("weight", "book") if name in row}})
        said = f"{row['symbol']!r}: {', '.join(lost)} of today is no possible number. No position: make a new run."
        broken.append(DataProblem(NOT_FINITE, (row["symbol"],), said))
    return safe, broken


def _can_be(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= LARGEST


def usable(known: pl.DataFrame, bars: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, list[DataProblem]]:
    """Bars -> the bars that can be forecast from, and problems that name the others.

    Left out are bars after the run's last that have no price, and bars that close after `now`.

    Raises `BarsError` where none is left.
    """
    ends = known.group_by("symbol").agg(_last=pl.col("time").max())
    placed = bars.join(ends, on="symbol", how="left", maintain_order="left")
    newer = (pl.col("time") > pl.col("_last")).fill_null(False)
    priced = pl.all_horizontal((pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(False) for name in PRICES)
    future = pl.col("time") > now
    problems = []
    for fault, why in (
        (future, f"close after the present moment, {now:%Y-%m-%d %H:%M} UTC: correct the dates or the clock (--now)"),
        (newer & ~priced & ~future, "lack a price: fill them, or wait for it"),
    ):
        for own in placed.filter(fault).partition_by("symbol"):
            symbol = str(own["symbol"][0])
            first = f"the first of {min(own['time'].to_list()):%Y-%m-%d %H:%M} UTC"
            said = f"{symbol!r}: {len(own)} bar(s) are left out, {first}, as they {why}."
            problems.append(DataProblem("left out", (symbol,), said))
    kept = placed.filter(~future, ~newer | priced).select(bars.columns)
    if len(kept) == 0 and len(bars):
        raise BarsError(f"no bar is left to forecast from. {' '.join(problem.sentence for problem in problems)}")
    return kept, problems


def without_untraded(known: pl.DataFrame, bars: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
    """New rows without those of sessions in which nothing was traded, and one finding for each symbol that had some.

    In: the bars before and newer ones on their level (Bars frames). As `market.bars.without_idle` says inside a file:
    the row before one may be a known one. What is known stays.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(5, seed=1, symbols=1)
    >>> still = bars.tail(1).with_columns(time=pl.col("time") + timedelta(days=1), volume=pl.lit(0.0))
    >>> still = still.with_columns(pl.col("close").alias(name) for name in ("open", "high", "low"))
    >>> kept, found = without_untraded(bars, still)
    >>> len(kept), [one.rule for one in found]
    (0, ['no_trade'])
    """
    keys = ["symbol", "time"]
    fresh = bars.join(known.select(keys), on=keys, how="anti", maintain_order="left")
    placed = known.join(fresh.group_by("symbol").agg(_first=pl.col("time").min()), on="symbol", maintain_order="left")
    before = placed.filter(pl.col("time") < pl.col("_first")).group_by("symbol").agg(_before=pl.col("time").max())
    beside = placed.join(before, on="symbol", how="left").filter(pl.col("time") >= pl.coalesce("_before", "_first"))
    columns = [*keys, *PRICES, "volume"]
    rows = pl.concat([beside.select(columns), fresh.select(columns)]).sort(keys)
    idle = fresh.join(without_idle(rows)[0].select(keys), on=keys, how="anti", maintain_order="left")
    advice = "Sessions without a trade are no bars: nothing is learned or forecast from them."
    found = [
        Finding("warning", symbol, first, "no_trade", count, advice)
        for symbol, first, count in idle.group_by("symbol", maintain_order=True)
        .agg(pl.col("time").min(), pl.len()).iter_rows()
    ]  # fmt: skip
    return bars.join(idle.select(keys), on=keys, how="anti", maintain_order="left"), found


def say_findings(known: pl.DataFrame, findings: Sequence[Finding], *, others: bool = False) -> list[DataProblem]:
    """Warnings of a reading as problems, of symbols that `known` has: of rows after its last bar, or where it cannot
    say when; what holds of a whole source, such as the class that a name looks like, is not said again.

    `others`: of symbols that `known` has not, all of them; of many the first are told.
    """
    ends = dict(known.group_by("symbol").agg(pl.col("time").max()).iter_rows())
    found, of_others = [], 0
    for one in findings:
        out, new = one.rule in LEFT_OUT, one.symbol not in ends
        if one.severity == "info" or (new and not others) or (ends and one.rule == "action_unmatched"):
            continue
        if not new and (one.rule == "far_out" or not (out if one.time is None else one.time > ends[one.symbol])):
            continue  # what is far out of all known bars is said where both are joined
        of_others += new
        if of_others > MOST_SAID and new:
            continue
        name = "the bars" if one.symbol is None else repr(one.symbol)
        said = f"{name}{_place(one)}: {one.rule.replace('_', ' ')}. {one.advice}"
        found.append(DataProblem("left out" if out else "odd", (one.symbol,) if one.symbol else (), said))
    if of_others > MOST_SAID:
        said = f"of symbols that are new {of_others - MOST_SAID} findings more: `gatecast check` lists all of them."
        found.append(DataProblem("odd", (), said))
    return found


def say_missed(
    known: pl.DataFrame, bars: pl.DataFrame, calendars: Mapping[str, str] | None = None
) -> list[DataProblem]:
    """A problem for each class that lacks whole sessions of its calendar between its last known bar and its newest.

    In: the bars before and all bars (Bars frames); symbol -> calendar where it is not that of its class. Of a class
    whose bars are no bars of its calendar, going by its holidays, nothing is said.
    """
    problems = []
    day = session_date(pl.col("time"))
    for name in bars["asset_class"].unique().sort().to_list():
        own, before = (frame.filter(pl.col("asset_class") == name) for frame in (bars, known))
        kind, usual = asset_class(name), usual_spacing(own)
        if before.is_empty() or usual is None or usual > LONGER:
            continue
        begin, end = (frame.select(day.max()).item() for frame in (before, own))
        traded = own.select(day.unique().sort()).to_series()
        days = pl.date_range(begin, end, closed="none", eager=True)
        absent = days.filter(~days.is_in(traded.implode()))
        if kind.periods_per_year != 365:
            absent = absent.filter(absent.dt.weekday() <= 5)
        if kind.calendar == ROUND_THE_WEEK:
            absent = absent.filter(~absent.dt.strftime("%m-%d").is_in(["01-01", "12-25"]))  # no currency is quoted
        symbols = own["symbol"].unique().sort().to_list()
        named = {(calendars or {}).get(symbol, kind.calendar) for symbol in symbols}
        for one in sorted(named) if len(absent) else ():
            calendar = calendar_of(one, own["time"].max(), begin=begin)  # type: ignore[arg-type]
            if one == kind.calendar and not calendar.fits(before.select(day).to_series().to_numpy()):
                absent = absent.clear()
            absent = absent.filter(absent.is_in(calendar.session.tolist()))
        if len(absent):
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            said = (
                f"{name}: no symbol has a bar of {absent[0]}{more}, when {', '.join(sorted(named))} traded: give the "
                "bars that are missing, or name the calendar of the symbols in a symbols file."
            )
            problems.append(DataProblem("missing", tuple(symbols), said))
    return problems


def _place(one: Finding) -> str:
    """When and where the row of a finding is."""
    at = f" {one.time:%Y-%m-%d %H:%M} UTC" if one.time else ""
    return f"{at} (line {one.line})" if one.line else at


def known_delistings(run: Run, actions: pl.DataFrame | None, now: datetime) -> pl.DataFrame:
    """The delistings that a run has recorded, and after them those of `actions` that are known and dated up to now."""
    recorded = recorded_delistings(run.scores.get("delistings"))
    if actions is None:
        return recorded
    today = session_date(pl.lit(now).cast(pl.Datetime("us", "UTC")))
    with_warnings = actions.filter(
        pl.col("kind") == "delisting", pl.col("date") <= today, (pl.col("known_at") <= now).fill_null(True)
    )
    fresh = with_warnings.join(recorded, on=["symbol", "date"], how="anti", maintain_order="left")
    return pl.concat([recorded, with_terms(fresh)])


def say_ended(ended: Mapping[str, Ended]) -> list[DataProblem]:
    """One problem of the kind "ended" for the symbols that ended in the same way and session; not one for `strict`."""
    alike: dict[tuple[str, date], list[str]] = {}
    for one in ended.values():
        alike.setdefault((one.state, session_of(one.last)), []).append(one.symbol)
    found = []
    for (state, day), symbols in sorted(alike.items()):
        said = f"{names_of(symbols)}: {state}; last bar of {day}. Nothing is forecast or held of it."
        found.append(DataProblem("ended", tuple(symbols), said))
    return found


def say_awaited(bars: pl.DataFrame, awaited: pl.DataFrame) -> list[DataProblem]:
    """One problem of the kind "awaited" for each symbol that goes on after a row which may still come."""
    ends = dict(bars.group_by("symbol").agg(pl.col("time").max()).iter_rows())
    found = []
    for (name,), own in awaited.group_by("symbol", maintain_order=True):
        times = [time for time in own["time"].to_list() if time < ends[name]]
        if times:
            many = f"{len(times)} bars, the first" if len(times) > 1 else "the bar"
            said = (
                f"{name!r} lacks {many} of {times[0]:%Y-%m-%d %H:%M} UTC, when the others of its class traded. It may "
                "come late, as to a later run: nothing is forecast of the symbol until it is there, for "
                f"{OLDEST_SESSIONS} sessions at most. Then it counts as a session without a trade, over which the "
                "window steps."
            )
            found.append(DataProblem("awaited", (str(name),), said))
    return found


def _without(rows: pl.DataFrame, awaited: pl.DataFrame | None) -> pl.DataFrame:
    if awaited is None:
        return rows
    return rows.join(awaited, on=["symbol", "time"], how="anti", maintain_order="left")


def _not_today(row: dict[str, Any]) -> list[str]:
    """Why a row's forecast is not of today's bar."""
    return [] if row["current"] else row["notes"][:1]


def refits_due(schedule: Schedule, samples: Samples, past: Issued) -> int:
    """How many refits are due since the newest close that a past has forecast."""
    moments = np.unique(samples.times)
    if not (moments[schedule.due(moments)] > past.cutoffs[-1]).any():
        return 0  # most days; the folds of years of refits take a while
    folds = schedule.folds(samples.times, samples.known_at, past.cutoffs, past.until)
    return len(folds) - len(past.cutoffs)


def _refuse_empty_columns(known: pl.DataFrame, bars: pl.DataFrame, names: tuple[str, ...]) -> None:
    """Raises `BarsError` for a symbol whose new bars have none of a column that the run's features need."""
    ends = known.group_by("symbol").agg(_last=pl.col("time").max())
    fresh = bars.join(ends, on="symbol").filter(pl.col("time") > pl.col("_last"))
    for feature in find_features(fresh, names):
        for column in (name for name in feature.needs if name in fresh.columns):
            empty = fresh.group_by("symbol").agg(pl.col(column).is_null().all()).filter(pl.col(column))
            had = known.group_by("symbol").agg(pl.col(column).is_not_null().any()).filter(pl.col(column))
            lost = sorted(set(empty["symbol"]) & set(had["symbol"]))
            if lost:
                raise BarsError(
                    f"the run's feature {feature.name!r} needs the column {column!r}, which the new bars of "
                    f"{lost[0]!r} do not have: add it."
                )


def newest_of(one: ClassResult, awaited: pl.DataFrame | None = None) -> ClassResult:
    """A class with the forecast of each symbol's newest row alone, but `awaited` ones."""
    samples, rows = one.samples, one.forecasts.rows
    if awaited is not None and len(awaited):
        keys = keys_of(samples, samples.decided[rows]).with_row_index("_at")
        rows = rows[_without(keys, awaited)["_at"].to_numpy()]
    number = samples.symbol[samples.decided[rows]]
    last = rows[np.diff(number, append=-1) != 0]  # rows are sorted by symbol and time
    return replace(one, forecasts=replace(one.forecasts, folds=(replace(one.forecasts.folds[-1], test=last),)))


def stale(
    bars: pl.DataFrame, now: datetime, ended: Collection[str] = (), calendars: Mapping[str, str] | None = None
) -> tuple[DataProblem, ...]:
    """Symbols behind their class, and classes behind their calendar, by more than a session.

    `calendars`: symbol -> calendar where it is not that of its class, see `market.sessions`. A class whose bars are no
    bars of its calendar, going by its holidays, is behind once its newest bar is older than a gap may be: the class's
    limit, or five times the usual spacing if that is longer. Symbols that have `ended` are no longer expected; until
    then a symbol that stopped is stale.
    """
    problems, by_symbol = [], named_calendars(bars, calendars)
    for name in bars["asset_class"].unique().sort().to_list():
        own = bars.filter(pl.col("asset_class") == name)
        usual, known = usual_spacing(own), asset_class(name)
        limit = max(known.gap_limit, 5 * usual) if usual else known.gap_limit
        ends = own.group_by("symbol").agg(pl.col("time").max()).sort("symbol")
        newest = max(ends["time"].to_list())
        ends = ends.filter(~pl.col("symbol").is_in(list(ended)))
        named = {symbol: by_symbol.get(symbol) for symbol in ends["symbol"]}
        days = own.select(session_date(pl.col("time")).unique().sort()).to_series()
        if len(ends) and now - newest > limit:
            said = f"{name}: the newest bar is of {newest:%Y-%m-%d %H:%M} UTC, more than {limit.days} days old."
            problems.append(DataProblem("stale", tuple(ends["symbol"]), said))
        elif len(ends):
            missed = _class_behind(newest, now, known, usual, set(named.values()), days)
            if missed > BEHIND:
                said = (
                    f"{name}: the newest bar is of {newest:%Y-%m-%d %H:%M} UTC, {missed} sessions behind its calendar."
                )
                problems.append(DataProblem("stale", tuple(ends["symbol"]), said))
        for symbol, time in ends.iter_rows():
            behind = len(days) - int(days.search_sorted(session_of(time), side="right"))
            if behind > BEHIND and named[symbol]:
                behind = min(behind, sessions_missed(time, newest, known, usual, named[symbol]))
            if behind > BEHIND:
                said = f"{symbol!r} has no bar since {time:%Y-%m-%d %H:%M} UTC, {behind} sessions behind its class."
                problems.append(DataProblem("stale", (symbol,), said))
    return tuple(problems)


def _class_behind(
    newest: datetime, now: datetime, known: AssetClass, usual: timedelta | None, named: set[str | None], days: pl.Series
) -> int:
    """Sessions that all calendars of a class's symbols have had since its newest bar, GRACE included.

    0 where it is the class's own calendar alone and the bars of these `days` are not of it.
    """
    missed = min(
        sessions_missed(newest, now, known, usual, calendar, grace=GRACE, tolerated=BEHIND) for calendar in named
    )
    if missed > BEHIND and named == {None} and not calendar_of(known.calendar, now).fits(days.to_numpy()):
        return 0
    return missed


def refuse_sealed(run: Run, bars: pl.DataFrame) -> None:
    """A forecast that reads the sealed hold-out would open it bar by bar. Raises `SettingsError`."""
    first = run.experiment.holdout
    if first is None or (run.scores.get("holdout") or {}).get("heads"):
        return
    if bars.select((session_date(pl.col("time")) >= pl.lit(first).str.to_date()).any()).item():
        raise SettingsError(
            f"the sessions from {first} on are sealed, and these bars have some: open them with `gatecast unseal`, or "
            "make a run without holdout to forecast from today's bars."
        )
