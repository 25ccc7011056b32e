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

import polars as pl

from gatecast import provenance
from gatecast.arguments import checked
from gatecast.chain import Chain, ClassResult, Plan, Progress, decided_again, make_chain
from gatecast.compute.disk import Disk, StoredFile
from gatecast.compute.estimate import Cost
from gatecast.compute.memory import give_back
from gatecast.compute.notices import notices
from gatecast.compute.progress import shown
from gatecast.compute.threads import one_thread
from gatecast.errors import SettingsError
from gatecast.evaluation.cliffs import cliff_among
from gatecast.evaluation.delay import DIES
from gatecast.evaluation.findings import STRATEGIES, Finding, heaviest_first, said_of, too_costly
from gatecast.evaluation.ledger import ledger_path, read_trials, trials_are_missing, unrecorded
from gatecast.evaluation.line_findings import findings_of_line
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.plausible import TOO_GOOD, VOID
from gatecast.evaluation.record import records_of
from gatecast.evaluation.risk import sentences_of
from gatecast.evaluation.search_worth import searches_of
from gatecast.evaluation.tables import score_tables
from gatecast.experiment import Control, Experiment
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.forecasting.walkforward import Forecasts
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.facts import facts_of
from gatecast.market.sources import Reading
from gatecast.notebook import draw_lines, draw_wealth
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.scores import book_scores, caps_of, line_held, scores_of
from gatecast.trading.book import Book, Line, Sessions, deviations_of, no_holdings
from gatecast.trading.core import Core
from gatecast.trading.decisions import make_decisions
from gatecast.trading.plausible import PLANTED
from gatecast.trials import record_chain
from gatecast.verdicts import conclude, judge_chain
from gatecast.whatif import Stored, WhatIf


@dataclass(frozen=True, repr=False)
class Run:
    """The experiment and all that it produced. Frames are Polars; `path` is its folder once it has one.

    `forecasts`: symbol, time, model, head, step, value, known_at, kept as the Parquet file that they are saved as, in
    memory or on disk, see `forecasts_file`. `signals`: symbol, time, z, signal, consensus, strategy, evidence, reason.
    `weights`: symbol, time, weight (of the symbol by itself) and book (in the portfolio). `equity`: time, gross, net,
    equity, benchmark. `book`: what gatecast's line of the book held and decided, see `trading.book.holdings_of`.
    `actions`: those that it was made with, see `market.actions`; None: of a folder of an older version, which kept the
    delistings alone. `classes` holds the arrays behind them, for one asset class each; of several they are on disk.
    `makes_chain`: of a run that was read from a folder, what makes its chain again.
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
    makes_chain: Callable[[Run], Chain] | None = field(default=None, repr=False, compare=False)

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
        """The headline in one line, then verdicts, findings and warnings in lines of at most 100 characters."""
        lines = []
        for head, one in self.verdicts.items():
            said = [line for sentence in sentences_of(one) for line in _wrapped(sentence, "    ")]
            lines += [f"{head:<11}{one['verdict']}", *said]
        first = (self.scores.get("summary") or {}).get("headline", "")
        warnings = [line for text in self.scores.get("warnings") or () for line in _wrapped(f"warning: {text}")]
        found = [line for text in said_of(self.scores.get("findings") or []) for line in _wrapped(text)]
        return "\n".join([*([first] if first else []), *lines, *found, *warnings])

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

    @cached_property
    def stored(self) -> Stored:
        """The chain of the run, made once again from its forecasts; nothing is fitted. See `whatif.Stored`.

        Raises `SettingsError` for a run without classes and without a folder, `StoreError` as `store.past_of` does.
        """
        if self.classes:
            facts = facts_of(self.bars, self.actions)
            chain = Chain(
                facts, self.classes, make_decisions(self.classes, facts), self.experiment.costs,
                settings=self.experiment.forecasting, book=self.experiment.book,
            )  # fmt: skip
        elif self.makes_chain is not None:
            chain = self.makes_chain(self)
        else:
            raise SettingsError(
                "this run has neither its classes nor a folder: load it with gatecast.load_run(FOLDER)."
            )
        doubted = self.doubtful or self.untradable
        return Stored(self.experiment, decided_again(self.experiment, chain), doubted)

    def with_(self, **changes: Any) -> WhatIf:
        """The run with other settings of what comes after its forecasts: decisions, book and money, without a fit.

        Names are those of the experiment: `costs={"slippage_bps": 3.0}`, `book={"size": {"book_band": 0.1}}`, or with
        dots in a dictionary, `**{"book.size.book_band": 0.1}`; a name alone where no other section has it; `band` and
        `target` are the book's band and its target volatility. It counts as a trial on this market.

        Raises `SettingsError` for a setting that comes before the forecasts, saying what would have to be fitted.

        >>> from gatecast.evaluation.ledger import unrecorded
        >>> from gatecast.market import synthetic
        >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
        >>> with unrecorded():
        ...     one = run(Experiment(bars=synthetic.a1(800, seed=1), schedule={"refit": "1Y"}, **few))
        ...     other = one.with_(target=0.05)
        >>> other.changes, other.figures["volatility"] < one.stored.itself.figures["volatility"]
        ({'book.size.target_volatility': (0.1, 0.05)}, True)
        """
        if not changes:
            raise SettingsError("name a setting to change, such as with_(target=0.08) or with_(band=0.1).")
        return self.stored.tries([changes])[0]

    def _repr_html_(self) -> str:
        from html import escape

        said = {head: "<br>".join(map(escape, sentences_of(one))) for head, one in self.verdicts.items()}
        rows = "".join(
            f"<tr><td>{escape(head)}</td><td><b>{escape(one['verdict'])}</b></td><td>{said[head]}</td></tr>"
            for head, one in self.verdicts.items()
        )
        warning = f"<p><b>{escape(self.warning)}</b></p>" if self.warning else ""
        return f"<h3>{escape(self.experiment.name)}</h3>{warning}<table>{rows}</table>"

    def plot(self) -> Any:
        """A Plotly figure: wealth, net of all costs, of each line of the book and of cash; without a book of the
        strategies and their benchmark. `gatecast.report.render(run)` draws everything.
        """
        found = self.scores.get("book") or {}
        curve: dict[str, list[Any]] = dict(found.get("curve") or {})
        if not curve.get("day"):
            return draw_wealth(self.equity, f"{self.experiment.name}, net of costs")
        days = curve.pop("day")
        titles: dict[str, str] = {line["line"]: line["title"] for line in found["lines"]}
        lines = {titles.get(name, name): values for name, values in curve.items()}
        return draw_lines(days, lines, f"{self.experiment.name}: the book", "equity", yaxis_type="log")


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
    with one_thread(), shown(progress) as told, notices() as noticed:
        for model in experiment.panel.values():
            model.begin()
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
    said = conclude(experiment, chain, trials, unread=unread, jobs=jobs, goes_on=goes_on)
    if said.doubted and experiment.selection.evidence is None:  # nothing is held of what cannot be believed
        chain = chain.with_nothing_held()
    control = make_control()
    give_back()
    with problems() as more:
        scores = scores_of(
            experiment, chain, said.verdicts, trials, reading, said.audit, said.without_default_ends, said.later,
            control_scores(control, experiment.control), jobs=jobs,
        )  # fmt: skip
    lines = said.lines
    own = lines[line_held(chain, lines)] if lines else None
    scores |= jsonable({"book": book_scores(experiment, chain, lines, said.risk, said.sessions)})
    today = (scores["book"].get("risk") or {}).get("today") or {}
    told = findings_of(experiment, chain, own, said.sessions, today)
    scores |= jsonable({"findings": [one.to_dict() for one in told]})
    if unread or trials_are_missing(more):
        assumed = scores["trials"]["count"]
        scores["trials"] |= {"count": None, "assumed": assumed}
        scores["backtest"] |= {"trials": None, "deflated_sharpe": None, "min_track_record_bars": None}
        more.append(f"The number of trials is unknown: {assumed} could be read. No verdict is evidence of skill.")
    if not lines and experiment.book.core.kind != "none":
        more.append(NO_BOOK)
    scores["warnings"] = [*dict.fromkeys([*early, *found, *more]), *scores["warnings"]]
    held = no_holdings() if own is None else own.holdings
    give_back()
    return replace(finish(experiment, chain), control=control, scores=scores, book=held)


def findings_of(
    experiment: Experiment, chain: Chain, line: Line | None, sessions: Sessions, today: Mapping[str, Any]
) -> list[Finding]:  # fmt: skip
    """What is to be said of a chain's book, strategies and searches, the heaviest first, see `evaluation.findings`.

    `line`: gatecast's, None without a book; `today`: what it may lose, see `trading.exposure.risk_today`.
    """
    found = list[Finding]()
    if line is not None:
        ended = {name: one.state for name, one in chain.facts.symbols_ended.items()}
        sized_by = deviations_of(chain.classes, sessions, ENSEMBLE)
        found += findings_of_line(line, sessions, sized_by, experiment.book, ended, today, caps_of(line))
    equity = chain.result.equity
    if (chain.weights["weight"] != 0).any():
        gross, net = equity["gross"].to_numpy(), equity["net"].to_numpy()
        years = len(equity) / chain.result.rows_per_year
        found += too_costly(float(gross.sum()), float((gross - net).sum()), years, len(equity), STRATEGIES)
    for name, one in chain.forecasts.items():
        for search in searches_of(one)[-1:]:
            tried = [trial for trial in search["trials"] if trial["state"] == "complete"]
            losses = [trial["loss"] for trial in tried]
            found += cliff_among([trial["params"] for trial in tried], losses, search["chosen"], name)
    return heaviest_first(found)


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
