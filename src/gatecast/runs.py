"""Runs: an experiment -> chain, verdicts, scores and the planted market beside it, as one `Run`."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from textwrap import wrap
from typing import Any, cast

import numpy as np
import polars as pl

from gatecast import provenance
from gatecast.arguments import checked
from gatecast.audits.quick import audit_of
from gatecast.chain import Chain, ClassResult, Plan, Progress, make_chain
from gatecast.compute.disk import Disk, StoredFile
from gatecast.compute.estimate import Cost
from gatecast.compute.notices import notices
from gatecast.compute.progress import shown
from gatecast.evaluation.delay import DIES, Later, one_bar_later, without_repeated_ranges, without_what_dies
from gatecast.evaluation.gate import gate_of
from gatecast.evaluation.knowing import most_to_blame
from gatecast.evaluation.ledger import (
    Data,
    Trial,
    daily_profit,
    independent_trials,
    ledger_path,
    problems,
    read_trials,
    record_trials,
    trials_are_missing,
    unrecorded,
)
from gatecast.evaluation.plausible import TOO_GOOD, VOID, too_good, without_what_is_too_good
from gatecast.evaluation.record import Record, records_of
from gatecast.evaluation.risk import Risk, judge_risk, sentences_of, verdict_on
from gatecast.evaluation.search_worth import searches_of
from gatecast.evaluation.shortfall import LEVEL as TAIL
from gatecast.evaluation.shortfall import judge_shortfall
from gatecast.evaluation.tables import score_tables
from gatecast.evaluation.verdict import Tilt, Verdict, judge, with_trials_unknown
from gatecast.experiment import Control, Experiment, Volatility
from gatecast.files import jsonable
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.panel import ENSEMBLE, EWMA_OF_RETURNS, RIVAL
from gatecast.forecasting.walkforward import Forecasts
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.bars import session_date
from gatecast.market.sources import Reading
from gatecast.market.stale import repeated_ranges, untradable
from gatecast.metrics.returns import per_session, sharpe
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.samples.features.catalogue import BUILT_IN
from gatecast.samples.windows import Samples
from gatecast.scores import book_scores, line_held, scores_of
from gatecast.trading.book import (
    TILTED,
    Book,
    Line,
    Sessions,
    core_path,
    lines_of,
    no_holdings,
    sessions_by,
    tail_paths_of,
    tilted_at,
)
from gatecast.trading.core import Core
from gatecast.trading.costs import Costs
from gatecast.trading.plausible import PLANTED, too_good_so_far


@dataclass(frozen=True, repr=False)
class Run:
    """The experiment and all that it produced. Frames are Polars; `path` is its folder once it has one.

    `forecasts`: symbol, time, model, head, step, value, known_at, kept as the Parquet file that they are saved as, in
    memory or on disk, see `forecasts_file`. `signals`: symbol, time, z, signal, consensus, strategy, evidence, reason.
    `weights`: symbol, time, weight (of the symbol by itself) and book (in the portfolio). `equity`: time, gross, net,
    equity, benchmark. `book`: what gatecast's line of the book held and decided, see `trading.book.holdings_of`.
    `actions`: those that it was made with, see `market.actions`; None: of a folder of an older version, which kept the
    delistings alone. `classes` holds the arrays behind them, for one asset class each; of several they are on disk.
    """

    experiment: Experiment
    bars: pl.DataFrame
    forecasts_parquet: bytes | StoredFile = field(repr=False)
    signals: pl.DataFrame
    weights: pl.DataFrame
    equity: pl.DataFrame
    scores: dict[str, Any]
    provenance: dict[str, Any]
    classes: dict[str, ClassResult] = field(default_factory=dict, repr=False)
    control: Run | None = field(default=None, repr=False)
    path: Path | None = None
    actions: pl.DataFrame | None = field(default=None, repr=False)
    book: pl.DataFrame = field(default_factory=no_holdings, repr=False)

    def __repr__(self) -> str:
        symbols = self.bars["symbol"].n_unique()
        first, last = (str(moment)[:10] for moment in (self.bars["time"].min(), self.bars["time"].max()))
        lines = [
            f"Run {self.experiment.name!r}: {len(self.bars)} bars of {symbols} symbol{'s' * (symbols != 1)}, "
            f"{first} to {last}" + (f", in {self.path}" if self.path else ""),
            (self.scores.get("summary") or {}).get("headline", ""),
            *(f"  {head:<11}{verdict['verdict']}" for head, verdict in self.scores.get("verdicts", {}).items()),
        ]
        return "\n".join(line for line in lines if line)

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """head -> verdict, effect, low, high, test, pvalue, n, trials, sentence, ..."""
        verdicts: dict[str, dict[str, Any]] = self.scores["verdicts"]
        return verdicts

    @property
    def is_loaded(self) -> bool:
        """Whether it was read from a folder: its settings may be anybody's, and open nothing outside that folder."""
        return self.path is not None and not self.classes

    @property
    def warning(self) -> str:
        """What is said before any verdict: a leak, too good an outcome, that the settings allow or set more; or ""."""
        summary: dict[str, str] = self.scores.get("summary") or {}
        told = self.doubtful or self.experiment.too_good or self.experiment.selection.evidence is not None
        return summary.get("headline", "") if told else ""

    @property
    def doubtful(self) -> bool:
        """Whether a leak was found or an outcome is too good to be true: then no number of the run is evidence."""
        return any(verdict["verdict"] in (VOID, TOO_GOOD) for verdict in self.verdicts.values())

    @property
    def untradable(self) -> bool:
        """Whether a claim of returns or money is gone with decisions a bar late: then nothing is held."""
        return any(verdict["verdict"] == DIES for verdict in self.verdicts.values())

    def summary(self) -> str:
        """The headline in one line, then verdicts and warnings in lines of at most 100 characters."""
        lines = []
        for head, one in self.verdicts.items():
            said = [line for sentence in sentences_of(one) for line in _wrapped(sentence, "    ")]
            lines += [f"{head:<11}{one['verdict']}", *said]
        first = (self.scores.get("summary") or {}).get("headline", "")
        warnings = [line for text in self.scores.get("warnings") or () for line in _wrapped(f"warning: {text}")]
        return "\n".join([*([first] if first else []), *lines, *warnings])

    @property
    def forecasts(self) -> pl.DataFrame:
        """The forecasts, read anew each time: of many symbols better `scan_forecasts`."""
        return pl.read_parquet(self._parquet())

    def scan_forecasts(self) -> pl.LazyFrame:
        """The forecasts, of which only what a query asks for is read."""
        return pl.scan_parquet(self._parquet())

    def _parquet(self) -> io.BytesIO | Path:
        kept = self.forecasts_parquet
        return kept.path if isinstance(kept, StoredFile) else io.BytesIO(kept)

    def to_frame(self) -> pl.DataFrame:
        """The forecasts."""
        return self.forecasts

    def _repr_html_(self) -> str:
        from html import escape

        said = {head: "<br>".join(map(escape, sentences_of(one))) for head, one in self.verdicts.items()}
        rows = "".join(
            f"<tr><td>{escape(head)}</td><td><b>{escape(one['verdict'])}</b></td><td>{said[head]}</td></tr>"
            for head, one in self.verdicts.items()
        )
        warning = f"<p><b>{escape(self.warning)}</b></p>" if self.warning else ""
        return f"<h3>{escape(self.experiment.name)}</h3>{warning}<table>{rows}</table>"


@checked
def run(
    experiment: Experiment, *, progress: Progress | bool | None = None, plan: Plan | None = None,
    machine: Machine = ONE_CORE,
) -> Run:  # fmt: skip
    """The whole chain, bars to verdict; `gatecast.save_run` writes what it returns.

    `progress`: True shows a bar for each stage, on a terminal and in a notebook; a function hears stage, parts done and
    parts in all. `plan`: a function that hears what there is to do. `machine`: cores, and where interrupted work is
    kept; changes no result.

    Raises `HistoryTooShortError` when no model can be fitted even once, `BarsError` for bars that cannot be trusted.

    >>> from gatecast.forecasting.models.forest import Forest
    >>> from gatecast.forecasting.lstm import LSTM
    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.market import synthetic
    >>> quick = Experiment(
    ...     bars=synthetic.b1(900, seed=1, r2=0.05), features=("ret_log_1", "x"),
    ...     model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
    ...     schedule=Schedule(refit="1Y"),
    ... )
    >>> run(quick).verdicts["return"]["horizon"]
    5
    """
    began = time.monotonic()
    experiment = experiment.replace(book=experiment.book.with_file_read())
    with shown(progress) as told, notices() as noticed:
        reading = experiment.read()
        experiment = experiment.replace(book=experiment.book.priced_in(reading.currencies))
        experiment.book.refuse_unknown(reading.bars["symbol"].unique().sort().to_list())
        with problems() as early:  # what cannot be read is found before hours of work, not after them
            read_trials(ledger_path())
        chain = make_chain(experiment, reading.bars, told, plan, reading.actions, machine=machine)
        done = judged(
            experiment, chain, reading, partial(run_control, experiment, told, plan, machine), early, machine.jobs
        )
    cost = asdict(Cost.since(began, len(chain.bars)))
    scores = {**done.scores, "warnings": list(dict.fromkeys([*noticed, *done.scores["warnings"]]))}
    return replace(done, scores=scores, provenance={**done.provenance, "cost": cost})


def judged(
    experiment: Experiment,
    chain: Chain,
    reading: Reading,
    make_control: Callable[[], Run | None] = lambda: None,
    early: Sequence[str] = (),
    jobs: int = 1,
    *,
    goes_on: bool = False,
) -> Run:
    """A chain with its verdicts and scores, as a run: the trial is recorded, and nothing held of what is doubtful.

    Parameters
    ----------
    reading: of the chain's bars. make_control: makes the planted market's run beside it. early: sentences on what could
        not be read before. jobs: cores. goes_on: see `audit_of`.
    """
    with problems() as found:
        trials = record_chain(experiment, chain)
    unread = trials_are_missing([*early, *found])
    sessions = sessions_by(chain.facts, experiment.book, level="newest")
    lines = lines_of(chain.classes, sessions, experiment.book, jobs=jobs)
    risk = risk_of(experiment, chain, lines, sessions)
    tilts = Tilts(experiment.book, chain, lines)
    later = later_of(chain, experiment.costs, tilts)
    verdicts = judge_chain(experiment, chain, trials, later, unread=unread, risk=risk, tilts=tilts)
    without = None
    if chain.takes_default_terms:
        without = judge_chain(experiment, chain.without_default_ends(), trials, later, unread=unread)
    audit = audit_of(experiment, chain, goes_on=goes_on)
    doubted = not audit.clean or any(verdict.verdict in (TOO_GOOD, DIES) for verdict in verdicts.values())
    if doubted and experiment.selection.evidence is None:  # nothing is held of what cannot be believed
        chain = chain.with_nothing_held()
    control = make_control()
    with problems() as more:
        scores = scores_of(
            experiment,
            chain,
            verdicts,
            trials,
            reading,
            audit,
            without,
            later,
            control_scores(control, experiment.control),
            jobs=jobs,
        )
    own = lines[line_held(chain, lines)] if lines else None
    scores |= jsonable({"book": book_scores(experiment, chain, lines, risk, sessions)})
    if unread or trials_are_missing(more):
        assumed = scores["trials"]["count"]
        scores["trials"] |= {"count": None, "assumed": assumed}
        scores["backtest"] |= {"trials": None, "deflated_sharpe": None, "min_track_record_bars": None}
        more.append(f"The number of trials is unknown: {assumed} could be read. No verdict is evidence of skill.")
    if not lines and experiment.book.core.kind != "none":
        more.append(NO_BOOK)
    scores["warnings"] = [*dict.fromkeys([*early, *found, *more]), *scores["warnings"]]
    held = no_holdings() if own is None else own.holdings
    return replace(finish(experiment, chain), control=control, scores=scores, book=held)


NO_BOOK = (
    "No book was made, so that there is no verdict on risk: no symbol that the core may hold has a forecast and a "
    "record that is long enough. Currencies, metals and commodities are held where [book.core] also names them."
)


def without_doubtful(run: Run, chain: Chain) -> Chain:
    """A chain of the run's with nothing held, where the run is in doubt and its settings do not override that."""
    emptied = (run.doubtful or run.untradable) and run.experiment.selection.evidence is None
    return chain.with_nothing_held() if emptied else chain


def finish(experiment: Experiment, chain: Chain) -> Run:
    """The run of a chain, without scores."""
    return Run(
        experiment, chain.bars, forecasts_file(chain.forecasts.values(), chain.disk),
        chain.decisions.signals, chain.weights,
        chain.result.equity, {},
        provenance.of_run(
            experiment.to_dict(), chain.bars, chain.forecasts, chain.seconds, experiment.plugins
        ), chain.classes, actions=chain.actions,
    )  # fmt: skip


def forecasts_file(forecasts: Iterable[Forecasts], disk: Disk | None = None) -> bytes | StoredFile:
    """Parquet of `Forecasts.to_frame` of each class in turn, one row group a symbol; with `disk` a file there.

    As a frame they would take ten times as much memory, of which here one symbol's share is needed at a time.
    """
    import pyarrow.parquet as pq

    kept = disk.file("parquet") if disk else None
    with kept.new() if kept else io.BytesIO() as sink:
        writer = None
        for one in forecasts:
            for frame in one.frames():
                if frame.is_empty():
                    continue
                table = frame.to_arrow()
                if writer is None:
                    text = [name for name, kind in frame.schema.items() if kind == pl.String]
                    writer = pq.ParquetWriter(sink, table.schema, compression="zstd", use_dictionary=[*text, "step"])
                writer.write_table(table, row_group_size=len(table))
        if writer is not None:
            writer.close()
        return kept or cast(io.BytesIO, sink).getvalue()


def record_chain(experiment: Experiment, chain: Chain) -> list[Trial]:
    """Adds the chain and the candidates of its searches to the ledger; all trials on the same market and span.

    Nothing is added for what is known already, or inside `ledger.unrecorded`.
    """
    trial = trial_of(chain, configuration(experiment))
    network = experiment.network if experiment.tuning else None
    nested = [one for each in chain.forecasts.values() for one in nested_trials(each, network, trial.data)]
    return record_trials([*nested, trial])


def judge_chain(
    experiment: Experiment,
    chain: Chain,
    trials: Sequence[Trial] | None = None,
    later: Sequence[Later] | None = None,
    *,
    unread: bool = False,
    risk: Risk | None = None,
    tilts: Tilts | None = None,
) -> dict[str, Verdict]:
    """The verdicts of a chain, corrected for all that was tried on the same market and span.

    A claim that one bar of delay ends, and one that is too good to be true, is none.

    This is where a judgement is made, and so where a trial counts: whoever judges a chain has tried it. `make_chain`
    and `walk_forward` alone claim nothing and leave no trial.

    Parameters
    ----------
    trials: what `record_chain` returned; None: the chain is recorded here. Copies and planted markets are judged
        inside `ledger.unrecorded`, where there are no other trials.
    later: what `later_of` returned; None: found here.
    unread: whether the ledger could not be read when `trials` was made: no verdict is evidence of skill then.
    risk: what `risk_of` said of the book, which is judged with the rest. tilts: of the chain; None: made here.
    """
    with problems() as found:
        trials = record_chain(experiment, chain) if trials is None else trials
    tilts = Tilts(experiment.book.with_file_read(), chain) if tilts is None else tilts
    verdicts = _judged(experiment, chain, [one for one in trials if not one.nested], later, risk, tilts)
    return with_trials_unknown(verdicts) if unread or trials_are_missing(found) else verdicts


def _judged(
    experiment: Experiment, chain: Chain, trials: Sequence[Trial], later: Sequence[Later] | None, risk: Risk | None,
    tilts: Tilts,
) -> dict[str, Verdict]:  # fmt: skip
    """See `judge_chain`; `trials` without those of searches."""
    costs, allowed = experiment.costs, experiment.too_good
    days, held = per_session(chain.benchmark, chain.sessions)
    records, tilt = records_of(chain.forecasts), tilts.of()
    with unrecorded():  # the trials on file are counted above
        verdicts = judge(
            records, chain.net, chain.benchmark,
            round_trip=float(np.mean([costs.round_trip(name) for name in chain.classes])),
            periods_per_year=chain.result.rows_per_year, sessions=chain.sessions, trials=max(len(trials), 1),
            effective_trials=independent_trials(trials, days, held) if trials else None,
            beside=() if risk is None else risk.pvalues, tilt=tilt,
        )  # fmt: skip
        if risk is not None:
            verdicts["risk"] = verdict_on(risk, verdicts)
    if PLANTED in allowed:  # its truth is known, and may end with the next bar
        return verdicts
    verdicts = without_repeated_ranges(verdicts, list(repeated_ranges(chain.bars.sort("symbol", "time"))))
    found = too_good(
        records, chain.net, chain.benchmark, chain.sessions, chain.facts.sessions_per_year,
        _at_some_time(chain, allowed), allowed, tilt,
    )  # fmt: skip
    blamed = [one for name in chain.classes for one in _blamed(chain, name, experiment.horizon)] if found else []
    later = later_of(chain, costs, tilts, records) if later is None else later
    if untradable(chain.bars.sort("symbol", "time")):  # stale prices explain what is too good, and not a leak
        return without_what_is_too_good(without_what_dies(verdicts, later), found, blamed, stale=True)
    return without_what_dies(without_what_is_too_good(verdicts, found, blamed), later)


@dataclass(frozen=True)
class Tilts:
    """What strategies added to the core of a chain's book: as decided, and with their part some bars late.

    `made`: the lines of the book, where they are there already.
    """

    book: Book
    chain: Chain
    made: Mapping[str, Line] | None = None

    @cached_property
    def sessions(self) -> Sessions:
        """The chain's bars by session, ends of symbols booked as the chain books them."""
        ends = self.chain.default_ends
        return sessions_by(self.chain.facts, self.book, level="newest", default_ends=ends)

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        """The core's line, and that of core and tilt where strategies had any evidence."""
        if self.made is not None and self.chain.default_ends:
            return self.made
        return self._lines(ENSEMBLE, TILTED) if tilted_at(self.chain.classes, self.sessions).any() else {}

    def of(self, late: int = 0) -> Tilt | None:
        """The tilt, so many bars late; None where there is no core, or where the core never holds anything."""
        if self.book.core.kind == "none":
            return None
        if TILTED not in self.lines:
            return Tilt.nothing() if core_path(self.sessions, self.book.core).any() else None
        core = self.lines[ENSEMBLE]
        if not core.held.any():
            return None
        both = self._lines(TILTED, late=late).get(TILTED) if late else self.lines[TILTED]
        if both is None:
            return Tilt.nothing()
        before = tilted_at(self.chain.classes, self.sessions, late)[-len(core.days) : -1]
        return Tilt(both.excess[1:], core.excess[1:], before, core.days[1:], _per_year(core, self.chain))

    def _lines(self, *only: str, late: int = 0) -> dict[str, Line]:
        return lines_of(self.chain.classes, self.sessions, self.book, only=only, late=late)


def risk_of(experiment: Experiment, chain: Chain, lines: Mapping[str, Line], sessions: Sessions) -> Risk | None:
    """The verdict on risk of a chain's book, gatecast's line against the best rival's; None without lines or core."""
    if experiment.book.core.kind == "none" or not {ENSEMBLE, RIVAL} <= lines.keys():
        return None
    own, target = lines[ENSEMBLE], experiment.book.size.target_volatility
    risk = judge_risk(lines, ENSEMBLE, RIVAL, target=target, sessions_per_year=_per_year(own, chain))
    shortfall, tails = judge_shortfall(own.earned, tail_paths_of(chain.classes, sessions, own, TAIL), own.days)
    return replace(risk, shortfall=shortfall, tails=tails, gate=gate_of(own, lines.get(EWMA_OF_RETURNS)))


def _per_year(line: Line, chain: Chain) -> float:
    """Sessions a year of a line of the book."""
    days = line.days
    years = float((days[-1] - days[0]) / np.timedelta64(1, "D")) / 365.25
    return len(days) / years if years > 0 else chain.facts.sessions_per_year


def _blamed(chain: Chain, name: str, horizon: int) -> list[tuple[str, float]]:
    bars = chain.bars.filter(pl.col("asset_class") == name).sort("symbol", "time")
    return most_to_blame(bars, chain.classes[name].samples.names, horizon)


def _at_some_time(chain: Chain, allowed: Sequence[str]) -> dict[str, str]:
    """Asset class -> whose record was above a limit while it ran: that of "return", or else that of the "strategy".

    `allowed`: outcomes that may be too good.
    """
    return {
        name: "return" if too_good_so_far(one.forecasts, allowed).any() else "strategy"
        for name, one in chain.classes.items()
        if one.selection.too_good.any()
    }


def later_of(chain: Chain, costs: Costs, tilts: Tilts, records: Mapping[str, Record] | None = None) -> list[Later]:
    """The effects of a chain's forecasts of returns, and of its strategies, with decisions one bar late.

    `records`: those of the chain's forecasts, where they are made already.
    """
    records = records_of(chain.forecasts) if records is None else records
    weights = chain.weights.select("symbol", "time", "weight")
    tilted = None if tilts.of() is None else (lambda late: tilts.of(late) or Tilt.nothing())
    return one_bar_later(records, weights, chain.facts, costs, tilted)


def configuration(experiment: Experiment) -> str:
    """Hash of the settings that make a trial. Names of data and the hold-out are not part of it."""
    left_out = ("name", "bars", "control", "holdout", "too_good", "orders")  # none of them changes a forecast
    settings = {key: value for key, value in experiment.to_dict().items() if key not in left_out}
    settings["resample"] = experiment.bars.resample
    if not experiment.drift.acts:
        del settings["drift"]  # alarms that are only said change no forecast and no position
    settings["book"] = {key: value for key, value in settings["book"].items() if key != "benchmark"}  # decides nothing
    for name, usual in (("book", Book(benchmark=experiment.book.benchmark)), ("volatility", Volatility())):
        if getattr(experiment, name) == usual:
            del settings[name]  # trials of before these settings were there are the same
    return provenance.hash_of_settings(settings, experiment.deciding_plugins)


def data_of(bars: pl.DataFrame, samples: Sequence[Samples]) -> Data:
    """What enters a trial of these bars: returns, and the values of features that are not built in."""
    own = {name for one in samples for name in one.names} - BUILT_IN
    return provenance.data_of(bars, samples, own)


def trial_of(chain: Chain, settings_hash: str) -> Trial:
    """What the ledger keeps of a run; `settings_hash`: see `configuration`."""
    days = session_date(chain.bars["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]"))
    value = sharpe(chain.net, periods_per_year=1)
    return Trial(
        tuple(chain.bars["symbol"].unique().sort().to_list()), str(days.min()), str(days.max()),
        settings_hash, None if np.isnan(value) else float(value), daily_profit(chain.result.equity),
        data=data_of(chain.bars, [one.samples for one in chain.classes.values()]),
    )  # fmt: skip


def nested_trials(forecasts: Forecasts, network: LSTM | None, data: Data | None = None) -> list[Trial]:
    """The candidates of a class's searches: they never saw what is judged, but each was tried.

    `network`: the LSTM with the given settings, from which the searches started; None: there were none.
    """
    searches = searches_of(forecasts)
    given = network.model_dump(mode="json") if network else {}
    return [
        Trial(
            forecasts.samples.symbols, found["since"][:10], found["date"][:10],
            provenance.hash_of({"given": given, **tried["params"]}), None, nested=True, data=data,
        )
        for found in searches
        for tried in found["trials"]
    ]  # fmt: skip


def run_control(
    experiment: Experiment, progress: Progress | None, plan: Plan | None = None, machine: Machine = ONE_CORE
) -> Run | None:
    """The planted market through the same chain, its truth's own column among the features; its scores are verdicts.

    Nobody trades on it: it is no trial.
    """
    if experiment.control is None:
        return None
    bars = experiment.control.make()
    extra = tuple(name for name in ("x", "z") if name in bars.columns)
    features = tuple(dict.fromkeys((*(experiment.features or DEFAULT_FEATURES), *extra)))
    planted = experiment.replace(
        name=f"planted market {experiment.control.market}", bars=bars, features=features, control=None,
        too_good=(PLANTED,), book=Book(core=Core(kind="none")),
    )  # fmt: skip
    told = (lambda stage, n, of: progress(f"control {stage}", n, of)) if progress else None
    asked = (lambda work: plan({f"control {name}": one for name, one in work.items()})) if plan else None
    reading = planted.read()
    chain = make_chain(planted, reading.bars, told, asked, reading.actions, machine=machine)
    with unrecorded():
        verdicts = judge_chain(planted, chain)
    scores = jsonable({"verdicts": {head: verdict.to_dict() for head, verdict in verdicts.items()}})
    return replace(finish(planted, chain), scores=scores)


def control_scores(control: Run | None, planted: Control | None) -> dict[str, Any] | None:
    """The planted market's truth, what was measured beside it, verdicts and wealth, for the page of the real one.

    `measured`: rows of `quantity`, `best` (the most that any forecast can reach) and `measured` (of the ensemble, out
    of sample), both shares, over `days`. `truth`: the other figures of the market, which the run does not measure.
    `planted`: the settings of the market.
    """
    if control is None or planted is None:
        return None
    from gatecast.market.synthetic import truth_of

    horizon = control.experiment.horizon
    known = {"r2": planted.r2} if planted.market == "b1" else {}
    truth: dict[str, Any] = dict(truth_of(planted.market, **known))
    models, _ = score_tables(records_of({name: one.forecasts for name, one in control.classes.items()}))
    found = next((row for row in models if row["model"] == "ensemble" and row["head"] == "return"), {})
    over = f"{horizon} bar{'s' * (horizon != 1)}"
    measured = []
    for name, score, words in (
        ("r2", "r2_zero", "R² of the return forecast"), ("hit_rate", "hit_rate", "share of directions right")
    ):  # fmt: skip
        of_one, by_horizon = truth.pop(name, None), truth.pop(f"{name}_by_horizon", None)
        best = by_horizon.get(horizon) if isinstance(by_horizon, dict) else of_one if horizon == 1 else None
        if best is not None:
            measured.append({"quantity": f"{words} over {over}", "best": best, "measured": found.get(score)})
        elif of_one is not None:
            truth[f"best {words} over 1 bar, not measured here"] = f"{of_one:.1%}".replace("%", " %")
    equity = control.equity.select("time", "equity", "benchmark")
    return {
        "name": planted.market.upper(),
        "truth": truth,
        "measured": measured,
        "days": control.verdicts["return"]["n"],
        "verdicts": control.verdicts,
        "sentence": f"The same chain on a simulated market in which {planted.r2:.0%} of each bar's variance can be "
        "forecast: this is what evidence of skill looks like."
        if planted.market == "b1"
        else f"The same chain on a simulated market whose truth is known ({planted.market}).",
        "equity": equity.with_columns(pl.col("time").dt.to_string("iso")).to_dict(as_series=False),
    }


def _wrapped(text: str, indent: str = "") -> list[str]:
    """A text in lines of at most 100 characters, none broken within a word; each begins with the indent."""
    return wrap(
        text, 100, initial_indent=indent, subsequent_indent=indent or "  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
