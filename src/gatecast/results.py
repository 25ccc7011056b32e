"""What a run produces: the arrays of each asset class, the frames made of them, and every number of the scorecard."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from gatecast.compute.disk import Disk, KeptFile
from gatecast.evaluation.compare import gains_without, illusions, many_models, per_session, score_tables
from gatecast.evaluation.credit import credit_of
from gatecast.evaluation.cuts import quick_audit
from gatecast.evaluation.delay import DIES
from gatecast.evaluation.holdout import state_of
from gatecast.evaluation.leaks import knowing_columns, with_knowing
from gatecast.evaluation.ledger import best_of_trials, independent_trials, market_of
from gatecast.evaluation.plausible import TOO_GOOD, VOID, void
from gatecast.evaluation.rivals import each_with_rival
from gatecast.evaluation.tuned import tuned_of
from gatecast.evaluation.verdict import NAMES, SKILL
from gatecast.evaluation.windows import longer_windows
from gatecast.forecasting.conformal import IntervalForecasts, coverage
from gatecast.forecasting.scaling import robust_spread
from gatecast.forecasting.schedule import known_by
from gatecast.forecasting.volatility import LogHAR
from gatecast.market.actions import no_actions
from gatecast.market.bars import open_fills, session_date
from gatecast.market.calendar import periods_of
from gatecast.market.ends import find_ends_and_returns, say_ends, session_of, symbols_ended, table_wanted
from gatecast.market.stale import stale_prices
from gatecast.metrics import overfitting
from gatecast.metrics.returns import comp, returns_of_levels, sharpe, tear_sheet
from gatecast.samples.features.catalogue import BUILT_IN
from gatecast.trading.backtest import backtest, rows_per_year
from gatecast.trading.plausible import PLANTED
from gatecast.trading.portfolio import make_book
from gatecast.trading.selection import Selection
from gatecast.trading.strategies import STRATEGIES, strategy_titles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.delay import Later
    from gatecast.evaluation.leaks import Audit
    from gatecast.evaluation.ledger import Trial
    from gatecast.evaluation.verdict import Verdict
    from gatecast.experiment import Experiment
    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.market.sources import Reading
    from gatecast.samples.windows import Samples
    from gatecast.trading.backtest import Backtest
    from gatecast.trading.costs import Costs
    from gatecast.trading.signals import Signals, SignalSettings
    from gatecast.trading.strategies import Proposals

    FloatArray = NDArray[np.float64]

BENCHMARK = "benchmark: bought once, equally weighted, and held"
OTHER_UNIT = 100.0  # times that a symbol's spread of a column is the median symbol's: another unit


@dataclass(frozen=True)
class ClassResult:
    """One asset class on its way through: arrays over its samples and bars."""

    samples: Samples
    forecasts: Forecasts
    signals: Signals
    proposals: Proposals
    selection: Selection
    net: FloatArray

    def with_nothing_held(self, disk: Disk | None = None) -> ClassResult:
        """The same with every weight 0, and no evidence; of several classes, on disk."""
        choice = self.selection
        nothing = np.zeros(len(choice.weight))
        flat = Selection(choice.chosen, choice.score, nothing, choice.proposed, nothing, np.ones(len(nothing), bool))
        own = ClassResult(self.samples, self.forecasts, self.signals, self.proposals, flat, self.net)
        return disk.put(replace(own, selection=disk.put(flat))) if disk else own

    def kept_on(self, disk: Disk, samples: Samples) -> ClassResult:
        """The same with its arrays on disk; `samples`: its own as they are there already, see `kept_samples`."""
        own = ClassResult(
            samples, self.forecasts.kept_on(disk, samples),
            disk.put(self.signals), disk.put(self.proposals), disk.put(self.selection), self.net,
        )  # fmt: skip
        return disk.put(own)


def kept_samples(samples: Samples, disk: Disk) -> Samples:
    """The same on disk: features, answers and facts; what says which row is which stays in memory."""
    targets = {head: disk.put(target) for head, target in samples.targets.items()}
    kept = replace(samples, targets=targets, facts=disk.put(samples.facts))
    return disk.put(kept, "features", "listing", "missed", "known_at_bar", "known_by_bar")


@dataclass(frozen=True)
class Chain:
    """What the pipeline made of bars, before anything is judged: by asset class, and the book of all together.

    `seconds`: model -> wall-clock time of its training. `left_out`: asset class without a single refit -> what it would
    take. `disk`: where the arrays of several classes are. `actions`: see `market.actions`.
    """

    bars: pl.DataFrame
    classes: dict[str, ClassResult]
    weights: pl.DataFrame
    result: Backtest
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    disk: Disk | None = field(default=None, repr=False)
    actions: pl.DataFrame = field(default_factory=no_actions, repr=False)

    def with_nothing_held(self, costs: Costs) -> Chain:
        """The same with every weight 0: a run whose outcome is in doubt holds nothing."""
        classes = {name: one.with_nothing_held(self.disk) for name, one in self.classes.items()}
        weights = self.weights.with_columns(pl.col("weight", "book") * 0.0)
        flat = backtest(weights.select("symbol", "time", "weight"), self.bars, costs, actions=self.actions)
        return replace(self, classes=classes, weights=weights, result=flat)

    @property
    def forecasts(self) -> dict[str, Forecasts]:
        """Asset class -> forecasts, the ensemble's among them."""
        return {name: one.forecasts for name, one in self.classes.items()}

    @property
    def takes_default_terms(self) -> bool:
        """Whether the backtest books the end of a symbol on terms that nobody knows."""
        return self.result.equity_without_default_ends is not None

    def without_default_ends(self) -> Chain:
        """The same with nothing lost where a symbol ends on unknown terms."""
        return replace(self, result=self.result.without_default_ends())

    @property
    def net(self) -> FloatArray:
        """(sessions,) net simple return of the book."""
        return self.result.equity["net"].to_numpy()

    @property
    def benchmark(self) -> FloatArray:
        """(sessions,) simple return of buy and hold, from its wealth."""
        return returns_of_levels(self.result.equity["benchmark"].to_numpy())

    @property
    def sessions(self) -> NDArray[np.datetime64]:
        """(sessions,) date of each."""
        return session_date(self.result.equity["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]")


@dataclass(frozen=True)
class Run:
    """The experiment and all that it produced. Frames are Polars; `path` is its folder once it has one.

    `forecasts`: symbol, time, model, head, step, value, known_at, kept as the Parquet file that they are saved as, in
    memory or on disk, see `forecasts_file`. `signals`: symbol, time, z, signal, consensus, strategy, evidence, reason.
    `weights`: symbol, time, weight (of the symbol by itself) and book (in the portfolio). `equity`: time, gross, net,
    equity, benchmark. `classes` holds the arrays behind them, for one asset class each; of several they are on disk.
    """

    experiment: Experiment
    bars: pl.DataFrame
    forecasts_parquet: bytes | KeptFile = field(repr=False)
    signals: pl.DataFrame
    weights: pl.DataFrame
    equity: pl.DataFrame
    scores: dict[str, Any]
    provenance: dict[str, Any]
    classes: dict[str, ClassResult] = field(default_factory=dict, repr=False)
    control: Run | None = field(default=None, repr=False)
    path: Path | None = None

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """head -> verdict, effect, low, high, test, pvalue, n, trials, sentence, ..."""
        verdicts: dict[str, dict[str, Any]] = self.scores["verdicts"]
        return verdicts

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
        """The headline, the verdicts as plain text, one line each, and what must be known before they are believed."""
        lines = [f"{head:<11}{v['verdict']:<24} {v['sentence']}" for head, v in self.verdicts.items()]
        first = (self.scores.get("summary") or {}).get("headline", "")
        warnings = [f"warning: {text}" for text in self.scores.get("warnings") or ()]
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
        return kept.path if isinstance(kept, KeptFile) else io.BytesIO(kept)

    def to_frame(self) -> pl.DataFrame:
        """The forecasts."""
        return self.forecasts

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(head)}</td><td><b>{escape(v['verdict'])}</b></td><td>{escape(v['sentence'])}</td></tr>"
            for head, v in self.verdicts.items()
        )
        warning = f"<p><b>{escape(self.warning)}</b></p>" if self.warning else ""
        return f"<h3>{escape(self.experiment.name)}</h3>{warning}<table>{rows}</table>"


def forecasts_file(forecasts: Iterable[Forecasts], disk: Disk | None = None) -> bytes | KeptFile:
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


def signals_frame(
    classes: dict[str, ClassResult], settings: SignalSettings, override: float | None = None
) -> pl.DataFrame:
    """symbol, time, z, signal, consensus, strategy, evidence, reason: one row an out-of-sample forecast.

    `settings`: the run's, which say whose forecasts the signals are, so that reasons can name the models; `override`:
    the evidence factor that the settings set, None where the record decides it.
    """
    parts, titles = [], strategy_titles(settings.model, settings.confirmed_by)
    for one in classes.values():
        rows = one.forecasts.rows
        at = one.samples.decided[rows]
        choice = one.selection
        keys = keys_of(one.samples, at)
        frame = keys.with_columns(
            z=pl.Series(one.signals.z[rows]).fill_nan(None),
            signal=pl.Series(one.signals.signal[rows].astype(np.int8)),
            consensus=pl.Series(one.signals.consensus[rows]),
            strategy=pl.Series(np.array(STRATEGIES, dtype=object)[choice.chosen[at]], dtype=pl.String),
            evidence=pl.Series(choice.evidence[at]),
            score_bps=pl.Series(choice.score[at, choice.chosen[at]] * 1e4),
            telling=pl.Series(one.proposals.telling[at]),
            traded=pl.Series(one.proposals.traded[at]),
            expected=pl.Series(one.proposals.expected[at]),
            doubted=pl.Series(choice.too_good[at]),
        )
        parts.append(
            frame.with_columns(reason=_reason(titles, override)).drop(
                "score_bps", "telling", "traded", "expected", "doubted"
            )
        )
    return pl.concat(parts).sort("symbol", "time")


def _reason(titles: dict[str, str], override: float | None = None) -> pl.Expr:
    """One sentence a row: why this strategy, by its title, and whether it is held, by the evidence or by `override`."""
    name = pl.col("strategy").replace(titles)
    force = (
        pl.when(pl.col("strategy") == "flat")
        .then(pl.lit("in force: flat, no other strategy is estimated to earn more than the cost of entering it"))
        .otherwise(
            pl.format(
                "in force: {}, its past record and the forecast together score {} bps a bar, "
                "a rank among the strategies and no profit to expect",
                name,
                pl.col("score_bps").round(2),
            )
        )
    )
    held = (
        pl.when(pl.col("strategy") == "flat")
        .then(pl.lit(""))
        .when(pl.lit(override is not None))
        .then(pl.lit("" if override is None else f"; {how_held(override)}"))
        .when(pl.col("doubted") & (pl.col("evidence") <= 0))
        .then(pl.lit("; nothing is held: too good to be true, a leak, or gone with decisions a bar late"))
        .when(pl.col("evidence") <= 0)
        .then(pl.lit("; evidence factor 0: nothing is held"))
        .when(pl.col("evidence") < 1)
        .then(pl.format("; evidence factor {}: so much of it is held", pl.col("evidence").round(2)))
        .otherwise(pl.lit("; evidence factor 1: all of it is held"))
    )
    small = (
        pl.when((pl.col("signal") == 0) | pl.col("traded"))
        .then(pl.lit(""))
        .when(~pl.col("telling"))
        .then(pl.lit("; the ensemble's expected return is too small for the width of its interval"))
        .when(pl.col("signal") * pl.col("expected") < 0)
        .then(pl.lit("; the ensemble's expected return is on the other side than the signal"))
        .otherwise(pl.lit("; the ensemble's expected return is below the cost of a round trip"))
    )
    return pl.concat_str([force, held, small])


def how_held(override: float) -> str:
    """What is held of a strategy where the settings set the evidence factor, whatever the record says.

    >>> how_held(1.0), how_held(0.0)
    ('held because the settings set evidence = 1', 'nothing is held: the settings set evidence = 0')
    """
    share = "" if override == 1 else ", so much of it"
    return (
        f"held because the settings set evidence = {override:g}{share}" if override > 0
        else f"nothing is held: the settings set evidence = {override:g}"
    )  # fmt: skip


def weights_frame(
    classes: dict[str, ClassResult], bars: pl.DataFrame, actions: pl.DataFrame | None = None
) -> pl.DataFrame:
    """symbol, time, weight of the symbol by itself, and book: its share of the portfolio.

    `actions`: the delistings that are known, as the money is not divided among symbols that have ended.
    """
    parts = []
    for one in classes.values():
        at = one.samples.decided[one.forecasts.rows]
        parts.append(keys_of(one.samples, at).with_columns(weight=pl.Series(one.selection.weight[at])))
    weights = pl.concat(parts).sort("symbol", "time")
    return weights.with_columns(book=make_book(weights, bars, find_ends_and_returns(bars, actions))["weight"])


def keys_of(samples: Samples, at: NDArray[np.int64]) -> pl.DataFrame:
    """symbol and time of bar-level rows."""
    names = np.array(samples.symbols, dtype=object)[samples.symbol[at]]
    return pl.DataFrame(
        {
            "symbol": pl.Series(names, dtype=pl.String),
            "time": pl.Series(samples.time[at]).dt.replace_time_zone("UTC"),
        }
    )


def fills_of(bars: pl.DataFrame) -> NDArray[np.bool_]:
    """(bars,) whether an order that was decided the close before is filled at each bar's open, else at its close."""
    return open_fills(bars)


def scores_of(
    run: Run,
    chain: Chain,
    verdicts: dict[str, Verdict],
    trials: Sequence[Trial],
    reading: Reading,
    without_default_ends: dict[str, Verdict] | None = None,
    later: Sequence[Later] = (),
    audit: Audit | None = None,
) -> dict[str, Any]:
    """Everything that `scores.json` and the report say in numbers; undefined numbers are None.

    Where the audit finds a leak every verdict is void. `without_default_ends`: the verdicts with nothing lost where a
    symbol ends on unknown terms; None where none did. `later`: the effects with decisions one bar late.
    """
    models, years = score_tables(chain.forecasts)
    result, net = chain.result, chain.net
    audit = audit_of(run) if audit is None else audit
    periods = result.rows_per_year
    if not audit.clean:
        verdicts = void(verdicts, audit.findings[0].sentence)
    symbols = run.bars["symbol"].unique().sort().to_list()
    holdout = run.experiment.holdout
    found = trials_of(chain, trials)
    turning = turning_symbols(chain.forecasts, verdicts)
    scores: dict[str, Any] = {
        "verdicts": {head: verdict.to_dict() for head, verdict in verdicts.items()},
        "delistings": chain.actions.filter(kind="delisting")
        .with_columns(pl.col("date", "known_at").dt.to_string("iso"))
        .to_dicts(),
        "one_bar_later": [one.to_dict() for one in later],
        "summary": headline(
            verdicts, bool((run.weights["weight"] != 0).any()), audit, run.experiment.too_good, without_default_ends,
            run.experiment.selection.evidence,
        ),
        "verdicts_without_default_ends": {
            head: verdict.to_dict() for head, verdict in (without_default_ends or {}).items() if head == "strategy"
        },
        "audit": audit.to_dict(),
        "holdout": state_of(
            symbols, holdout, market=market_of(run.bars), settings_hash=run.provenance["settings_hash"]
        ) if holdout else None,
        "trials": found,
        "many": many_models(chain.forecasts),
        "windows": windows_of(run, chain),
        "credit": credit_of(chain.forecasts, run.experiment.ensemble, jobs=run.experiment.jobs),
        "without_symbol": turning,
        "in_force": changes_of(chain.forecasts),
        "rivals": rivals_of(chain.forecasts),
        "tuning": tuned_of(chain.forecasts),
        "coverage": coverage_of(chain.forecasts),
        "selection": selected_features(chain),
        "illusions": illusions(chain.forecasts, closes_of(chain), tries=found["effective"]),
        "models": models,
        "years": years,
        "backtest": {
            "tear_sheet": {"strategy": sheet_of(net, periods), "benchmark": sheet_of(chain.benchmark, periods)},
            "turnover_per_year": result.turnover_per_year,
            "break_even_cost_bps": result.break_even_cost_bps,
            "cost_total": float((result.equity["gross"] - result.equity["net"]).sum()),
            "average_exposure": average_exposure(run.weights),
            "periods_per_year": periods,
            "bars_per_year": periods_of(run.bars),
            "ends": ends_of(result),
            **deflation(net, trials, found["effective"]),
        },
        "strategies": strategy_table(run),
        "signals": signal_counts(run),
        "folds": fold_table(run),
        "warnings": warnings_of(run, chain, reading, audit) + turning_in_words(turning),
        "fills": {symbol: fill_in_words(share) for symbol, share in result.fills.items()},
        "features_left_out": {name: one.samples.left_out for name, one in run.classes.items()},
        "control": control_scores(run.control, run.experiment),
    }  # fmt: skip
    plain: dict[str, Any] = jsonable(scores)
    return plain


def sheet_of(returns: FloatArray, periods_per_year: float) -> dict[str, float]:
    """The tear sheet; of less than a year of record no growth a year, since it would multiply what was seen.

    `comp`, the growth over the record, stands beside it; `calmar` is growth a year over the deepest drawdown.

    >>> sheet = sheet_of(np.full(71, 0.01), 252)
    >>> round(sheet["comp"], 2), sheet["cagr"]
    (1.03, nan)
    """
    sheet = tear_sheet(returns, periods_per_year)
    return sheet if len(returns) >= periods_per_year else sheet | {"cagr": np.nan, "calmar": np.nan}


def fill_in_words(share: float) -> dict[str, str]:
    """Where a symbol's orders are filled, and why; `share` of its bars have opens that are prices of their own.

    >>> fill_in_words(0.75)["fill"]
    'open on 75.0 % of bars'
    """
    if share == 1:
        return {"fill": "open", "reason": "opens are real"}
    reason = "opens are no prices of their own (the close before, or closes alone): orders are filled at the next close"
    if share == 0:
        return {"fill": "close", "reason": reason}
    return {"fill": f"open on {100 * share:.1f} % of bars", "reason": f"before the others {reason}"}


def ends_of(result: Backtest) -> dict[str, Any]:
    """How many ends of symbols were booked and how, and the totals with and without those on default terms."""
    without = result.without_default_ends().summary()
    names = {"total_return": "strategy", "benchmark_total_return": "benchmark"}
    return {
        **result.ends,
        "total_return": {label: result.summary()[name] for name, label in names.items()},
        "total_return_without_default": {label: without[name] for name, label in names.items()},
    }


def ends_in_words(result: Backtest) -> list[str]:
    """A sentence on the symbols that stopped, and what their holder was taken to have had; none where none did."""
    ends, totals = ends_of(result), []
    if ends["default"]:
        found, without = ends["total_return"], ends["total_return_without_default"]
        totals = [f"{label} {found[label]:+.1%}, without them {without[label]:+.1%}" for label in found]
    said = {
        "known": "with the last return that a table of actions gives",
        "default": f"on unknown terms, with the default loss of the class for who held them ({'; '.join(totals)})",
        "vendor": "with their source, several in one session: sold at their last close",
    }
    booked = [f"{ends[kind]} {words}" for kind, words in said.items() if ends[kind]]
    if not booked:
        return []
    back = f" {ends['returned']} came back: the move to their first fill counts instead." if ends["returned"] else ""
    return [f"Symbols that ended: {', '.join(booked)}.{back}"]


def stops_in_words(bars: pl.DataFrame, actions: pl.DataFrame, most: int = 10) -> list[str]:
    """A sentence on each symbol that stopped before the others and whose last return no table gives; of many the first.

    Symbols that ended with their source are named together.
    """
    found = say_ends(bars, actions)
    ended = symbols_ended(bars, actions)
    alone = [one for one in found if one.symbol not in ended or ended[one.symbol].kind != "vendor"]
    said = [f"{one.symbol}: {one.advice}" for one in alone[:most]]
    if alone[most:]:
        said.append(
            f"and {len(alone) - most} more symbols that stopped: {', '.join(str(x.symbol) for x in alone[most:])}."
        )
    sources: dict[date, list[str]] = {}
    for gone in ended.values():
        if gone.kind == "vendor":
            sources.setdefault(session_of(gone.last), []).append(gone.symbol)
    return said + [
        f"{', '.join(names)}: they end together on {day}, taken as the end of their source and sold at that close."
        f" {table_wanted(names[0], day)}"
        for day, names in sorted(sources.items())
    ]


def average_exposure(weights: pl.DataFrame) -> float:
    """Mean over time of the book's gross weight."""
    return float(
        weights.group_by("time", maintain_order=True).agg(pl.col("book").abs().sum())["book"].to_numpy().mean()
    )


def audit_of(run: Run) -> Audit:
    """The quick audit of a run, and the user's columns and functions that know what is to come, unless allowed."""
    allowed, leaks = run.experiment.too_good, []
    for name, one in run.classes.items():
        own = run.bars.filter(pl.col("asset_class") == name)
        leaks += knowing_columns(own, one.samples.names, run.experiment.horizon, allowed)
    return with_knowing(quick_audit(run), leaks, allowed)


def headline(
    verdicts: dict[str, Verdict],
    traded: bool,
    audit: Audit,
    allowed: Sequence[str] = (),
    without_default_ends: dict[str, Verdict] | None = None,
    override: float | None = None,
) -> dict[str, str]:
    """The verdict in one sentence, and what follows from it in another.

    `traded`: whether a position was ever held; `allowed`: what the settings allow to be too good, which is said first;
    `override`: the evidence factor that they set, None where the record decides it: what is held then is no evidence.
    A strategy's verdict that is another one where nothing is lost at unknown ends is no verdict: that is the headline.
    """
    said = _headline(verdicts, traded, audit, without_default_ends)
    if override is not None:
        asked = "Positions were held because the settings set" if traded else "No position was held: the settings set"
        whatever = f"{asked} evidence = {override:g}, whatever the record says."
        doubtful = not audit.clean or any(one.verdict == TOO_GOOD for one in verdicts.values())
        said["subline"] = f"{whatever} {said['subline']}" if doubtful else whatever
        said["headline"] = f"The settings set evidence = {override:g}. {said['headline']}"
    if PLANTED in allowed:
        said["headline"] = f'A planted market (too_good = "{PLANTED}"): nothing is too good here. {said["headline"]}'
    elif allowed:
        names = ", ".join(allowed)
        said["headline"] = f"Allowed by the settings to be too good to be true: {names}. {said['headline']}"
    return said


def _headline(
    verdicts: dict[str, Verdict], traded: bool, audit: Audit, without_default_ends: dict[str, Verdict] | None
) -> dict[str, str]:
    good = [verdict for verdict in verdicts.values() if verdict.verdict == TOO_GOOD]
    if not audit.clean:
        said = audit.findings[0].sentence
        first = "The future leaks into this run: no number here can be believed."
        return {"headline": f"Too good to be true. {first}" if good else first, "subline": said}
    if good:
        return {"headline": "Too good to be true: look for a leak.", "subline": good[0].sentence}
    skilled = [head for head, verdict in verdicts.items() if verdict.verdict == SKILL]
    simple = [head for head, verdict in verdicts.items() if verdict.simple_is_as_good]
    gained = [head for head in simple if verdicts[head].effect > 0]  # over the best simple forecast so far
    alike = [head for head in skilled if head in simple]
    but = f", but a simple regression is as good in {' and '.join(alike)}" if alike else ""
    told = verdicts["strategy"].verdict if "strategy" in verdicts else ""
    other = without_default_ends["strategy"].verdict if without_default_ends else told
    if other != told:
        first = (
            "The strategy's verdict hangs on what is assumed of symbols that stopped: "
            f'"{told}" with the default losses at their ends, "{other}" without them.'
        )
    elif "strategy" in skilled:
        first = f"The strategy beats buy and hold at its own exposure, net of costs{but}."
    elif "return" in skilled or "direction" in skilled:
        first = f"There is evidence that returns can be forecast here{but or ', not yet that trading them pays'}."
    elif skilled:
        first = f"There is evidence of skill in {' and '.join(skilled)}, none in returns{but}."
    elif gained:
        first = (
            f"There is no evidence of skill in this market: in {' and '.join(gained)} a simple regression is as good."
        )
    else:
        first = "There is no evidence of skill in this market."
    second = (
        "Positions were held only while the evidence known at the time allowed it."
        if traded
        else "No position was held: signals are shown, not traded."
    )
    return {"headline": first, "subline": second}


def closes_of(chain: Chain) -> dict[str, FloatArray]:
    """Asset class -> close of each of its bars, in the order of its samples."""
    closes = chain.bars.select("asset_class", "symbol", "time", "close").sort("symbol", "time")
    return {name: closes.filter(pl.col("asset_class") == name)["close"].to_numpy() for name in chain.classes}


def coverage_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """How many answers lay inside the ensemble's intervals of the first and the last step, all classes together.

    Rows as `conformal.coverage` has them, without `asset_class`: means weighted with `forecasts`, `days` the most of
    any class.
    """
    parts = []
    for one in forecasts.values():
        intervals = IntervalForecasts.of_heads(one.values["ensemble"])
        if intervals:
            parts.append(coverage(one, intervals).filter(pl.col("step").is_in([1, one.samples.horizon])))
    if not parts:
        return []
    weight = pl.col("forecasts")
    return (
        pl.concat(parts)
        .group_by("scope", "part", "step", "level", maintain_order=True)
        .agg(
            days=pl.col("days").max(),
            forecasts=weight.sum(),
            coverage=(pl.col("coverage") * weight).sum() / weight.sum(),
            width=(pl.col("width") * weight).sum() / weight.sum(),
        )
        .sort("scope", "part", "step", "level")
        .to_dicts()
    )


def changes_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """Which forecast was in force from which refit on: one row a class, head and change, `since` the refit's time."""
    return _changes(forecasts, {name: one.in_force for name, one in forecasts.items()})


def rivals_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """Which simple rival was in force from which refit on: rows as in `changes_of`."""
    return _changes(forecasts, {name: one.rivals for name, one in forecasts.items()})


def _changes(forecasts: dict[str, Forecasts], named: dict[str, dict[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    return [
        {"asset_class": asset_class, "head": head, "since": str(fold.cutoff)[:10], "model": name}
        for asset_class, one in forecasts.items()
        for head, names in named[asset_class].items()
        for fold, name, before in zip(one.folds, names, ("", *names), strict=False)
        if name != before
    ]


def windows_of(run: Run, chain: Chain) -> list[dict[str, Any]]:
    """See `longer_windows`; `window`: the length of the sliding one."""
    settings = run.experiment
    return [
        {**row, "window": getattr(settings, row["model"]).window or settings.schedule.train}
        for row in longer_windows(chain.forecasts)
    ]


def selected_features(chain: Chain) -> dict[str, list[dict[str, Any]]]:
    """Asset class -> feature, mean share in what the LSTM takes in, lowest and highest over the refits.

    Only classes whose LSTM selects; the largest share first.
    """
    found = {}
    for name, one in chain.classes.items():
        shares = getattr(one.forecasts.fitted.get("lstm"), "selected", None)
        if shares is None:
            continue
        rows = zip(one.samples.names, shares.mean(0), shares.min(0), shares.max(0), strict=True)
        table = [{"feature": feature, "mean": mean, "low": low, "high": high} for feature, mean, low, high in rows]
        found[name] = sorted(table, key=lambda row: -float(row["mean"]))
    return found


def trials_of(chain: Chain, trials: Sequence[Trial]) -> dict[str, Any]:
    """How many configurations were tried, what they are worth as independent ones, and whether the best beats luck.

    `best_of` is the test of superior predictive ability over all whose daily profit is known, beyond their exposure to
    buy and hold.
    """
    days, held = per_session(chain.benchmark, chain.sessions)
    best = best_of_trials(trials, days, held)
    return {
        "count": len(trials),
        "effective": independent_trials(trials, days, held),
        "nested": sum(trial.nested for trial in trials),
        "with_profit": sum(trial.profit is not None for trial in trials),
        "best_of": {"statistic": best.statistic, "pvalue": best.pvalue, "reason": best.reason},
    }


def deflation(net: FloatArray, trials: Sequence[Trial], effective: float) -> dict[str, float]:
    """Probabilistic and deflated Sharpe ratio of the returns of each bar, and the shortest record that would do.

    The trials are those that the program counted, `effective` what they are worth as independent ones; the spread of
    their own Sharpe ratios says how far luck reaches. Of several trials it takes two that earned or lost something:
    else what is deflated is NaN.
    """
    per_bar = sharpe(net, periods_per_year=1)
    others = np.array([trial.sharpe for trial in trials if trial.sharpe])  # one that held nothing says nothing of luck
    centred = net - net.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if not np.isfinite(per_bar) or spread == 0:
        names = ("probabilistic_sharpe", "deflated_sharpe", "min_track_record_bars")
        return dict.fromkeys(names, np.nan) | {"trials": len(trials)}
    skew, kurtosis = (float(np.mean(centred**power)) / spread**power for power in (3, 4))
    variance = float(np.var(others, ddof=1)) if len(others) > 1 else 0.0
    n_trials = max(effective, 1.0)
    if len(trials) > 1 and len(others) < 2:  # nothing shows how far luck reaches
        variance = np.nan
    return {
        "probabilistic_sharpe": overfitting.probabilistic_sharpe(per_bar, len(net), skew, kurtosis),
        "deflated_sharpe": np.nan
        if np.isnan(variance)
        else overfitting.deflated_sharpe(per_bar, len(net), skew, kurtosis, n_trials, variance),
        "min_track_record_bars": np.nan
        if np.isnan(variance)
        else overfitting.min_track_record_length(
            per_bar, overfitting.expected_max_sharpe(n_trials, variance), skew, kurtosis
        ),
        "trials": len(trials),
    }


def strategy_table(run: Run) -> list[dict[str, Any]]:
    """Each strategy by itself, before evidence: share of bars in force, Sharpe and net return; then the rivals.

    `title`: the row in words. The strategy "held_long" is sized by forecast volatility; the benchmark, bought once and
    held, is a row of its own, the last.
    """
    signals = run.experiment.signals
    titles = strategy_titles(signals.model, signals.confirmed_by)
    chosen = np.concatenate(
        [one.selection.chosen[one.samples.decided[one.forecasts.rows]] for one in run.classes.values()]
    )
    nets = session_returns(run)
    returns: dict[str, FloatArray] = dict(zip(STRATEGIES, nets.T, strict=True))
    rivals: dict[str, FloatArray] = {
        "equal weight of all strategies": nets[:, 1:].mean(1),
        "benchmark": returns_of_levels(run.equity["benchmark"].to_numpy()),
    }
    titles |= {"benchmark": BENCHMARK}
    shares = [float(np.mean(chosen == column)) for column in range(len(STRATEGIES))]
    periods = rows_per_year(run.equity, run.bars)
    return [
        {
            "strategy": name, "title": titles.get(name, name), "share_of_bars": share,
            "sharpe_net": sharpe(net, periods), "total_net": comp(net),
        }
        for (name, net), share in zip((returns | rivals).items(), [*shares, *[None] * len(rivals)], strict=True)
    ]  # fmt: skip


def session_returns(run: Run) -> FloatArray:
    """(sessions, strategies) net return of each strategy, the mean over the symbols forecast or held in that session.

    Each row's profit counts, also after a halt, where nothing is forecast; sessions begin with the first forecast.
    """
    days, nets = [], []
    for one in run.classes.values():
        issued = np.zeros(len(one.samples.time), bool)
        issued[one.samples.decided[one.forecasts.rows]] = True
        at = np.flatnonzero(issued | (one.net != 0).any(axis=1))
        days.append(session_date(one.samples.time[at]).astype("datetime64[D]").astype(np.int64))
        nets.append(one.net[at])
    _, day = np.unique(np.concatenate(days), return_inverse=True)
    table = np.concatenate(nets)
    symbols = len(run.bars["symbol"].unique())
    per_day = np.column_stack([np.bincount(day, column) for column in table.T])
    mean: FloatArray = per_day / np.minimum(np.bincount(day), symbols)[:, None]
    return mean


def signal_counts(run: Run) -> dict[str, Any]:
    """Share of bars with a signal, by the number of bars since the refit: a change of models must not make signals."""
    fired: dict[int, list[int]] = {}
    total, bullish, bearish, consensus = 0, 0, 0, 0
    for one in run.classes.values():
        for fold in one.forecasts.folds:
            _, since = np.unique(one.samples.times[fold.test], return_inverse=True)
            signal = one.signals.signal[fold.test]
            for number, value in zip(since.tolist(), (signal != 0).tolist(), strict=True):
                counts = fired.setdefault(number, [0, 0])
                counts[0] += value
                counts[1] += 1
        rows = one.forecasts.rows
        total += len(rows)
        bullish += int((one.signals.signal[rows] > 0).sum())
        bearish += int((one.signals.signal[rows] < 0).sum())
        consensus += int(one.signals.consensus[rows].sum())
    return {
        "by_day_of_month_bar": {
            str(number + 1): hits / count for number, (hits, count) in sorted(fired.items()) if count >= 20
        },
        "bullish_share": bullish / max(total, 1),
        "bearish_share": bearish / max(total, 1),
        "consensus_share": consensus / max(total, 1),
    }


def fold_table(run: Run) -> list[dict[str, Any]]:
    """Every refit with its boundaries."""
    rows = []
    for name, one in run.classes.items():
        times = one.samples.times
        for fold in one.forecasts.folds:
            rows.append(
                {
                    "asset_class": name, "refit": str(fold.cutoff), "train": len(fold.train),
                    "validation": len(fold.validation), "test": len(fold.test),
                    "train_first": str(times[fold.train].min()), "train_last": str(times[fold.train].max()),
                    "validation_first": str(times[fold.validation].min()),
                    "validation_last": str(times[fold.validation].max()),
                    "test_first": str(times[fold.test].min()), "test_last": str(times[fold.test].max()),
                }
            )  # fmt: skip
    return rows


def turning_symbols(forecasts: dict[str, Forecasts], verdicts: dict[str, Verdict]) -> list[dict[str, Any]]:
    """head, symbol, gain: the symbols without which a head's gain over the rival has the other sign.

    Only where that gain lies outside the verdict's 90 % interval: else it is within its luck.
    """
    every = each_with_rival(forecasts)
    return [
        {"head": head, "symbol": symbol, "gain": gain}
        for head, one in verdicts.items()
        if head in NAMES and head != "strategy" and np.isfinite(one.effect)
        for symbol, gain in gains_without(every, head, "ensemble").items()
        if gain * one.effect < 0 and not one.low <= gain <= one.high
    ]


def turning_in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on each of `turning_symbols`.

    >>> turning_in_words([{"head": "return", "symbol": "CASH", "gain": 0.03}])
    ['Without CASH the gain in return would be +3.0 %.']
    """
    return [f"Without {row['symbol']} the gain in {row['head']} would be {100 * row['gain']:+.1f} %." for row in rows]


def other_units(samples: Samples) -> list[str]:
    """A sentence on each symbol whose values of a user's column are of another size than the class's.

    Their robust standard deviation is more than 100 times the median of the class's symbols, or less than 1/100 of it.
    """
    said = []
    for name, column in zip(samples.names, samples.features.T, strict=True):
        if name in BUILT_IN:
            continue
        values = [column[(samples.symbol == number) & np.isfinite(column)] for number in range(len(samples.symbols))]
        spread = np.array([float(robust_spread(one[:, None])[1][0]) if len(one) else np.inf for one in values])
        varies = np.isfinite(spread)
        if not varies.any():
            continue
        ratio = spread / np.median(spread[varies])
        said += [
            f"{samples.symbols[number]}: its values of {name!r} spread {ratio[number]:.2g} times as far as those of the"
            f" class's median symbol. Models learn one scale for {samples.asset_class}: give all symbols the same unit."
            for number in np.flatnonzero(varies & ((ratio > OTHER_UNIT) | (ratio < 1 / OTHER_UNIT))).tolist()
        ]
    return said


def unused_features(samples: Samples) -> list[str]:
    """A sentence on each feature that was asked for by name and that the class has none of."""
    return [
        f"{samples.asset_class}: the feature {name!r} is not used: {why} in its first sessions."
        for name, why in samples.left_out.items()
    ]


def warnings_of(run: Run, chain: Chain, reading: Reading, audit: Audit) -> list[str]:
    """What a reader must know before believing a number."""
    warnings = [
        f"{finding.symbol or ''}: {finding.rule}: {finding.value} {finding.advice}".strip(": ")
        for finding in reading.findings if finding.severity != "info"
    ][:100]  # fmt: skip
    warnings += [leak.sentence for leak in audit.findings]
    warnings += [f"{one.symbol}: {one.advice}" for one in stale_prices(run.bars.sort("symbol", "time"))]
    for name in sorted(set(run.bars["asset_class"].unique()) - set(run.classes)):
        takes = chain.left_out.get(name, "")
        warnings.append(f"{name}: too short a history for a single refit; nothing was forecast. {takes}".strip())
    for name, one in run.classes.items():
        rows = one.forecasts.rows
        years = (one.samples.times[rows].max() - one.samples.times[rows].min()) / np.timedelta64(1, "D") / 365.25
        if years < 5:
            warnings.append(f"{name}: the walk-forward spans {years:.1f} years; under five prove little.")
        if one.samples.facts.floored:
            warnings.append(
                f"{name}: {one.samples.facts.floored} realised variances were near 0 and raised to a floor."
            )
        warnings += short_histories(one)
        warnings += unused_features(one.samples) if run.experiment.features is not None else []
        warnings += other_units(one.samples)
    warnings += ends_in_words(chain.result)
    warnings += stops_in_words(run.bars, chain.actions)
    override = run.experiment.selection.evidence
    if override is not None:
        warnings.append(f"The evidence factor was overridden by the user: {override:g} throughout.")
    return warnings


def short_histories(one: ClassResult) -> list[str]:
    """A sentence on each symbol with too few bars for models of its own, for a forecast, or for a first window."""
    samples, last = one.samples, one.forecasts.folds[-1]
    count = len(samples.symbols)
    bars, windows, issued, answered = (
        np.bincount(samples.symbol[at], minlength=count)
        for at in (
            slice(None), samples.decided, samples.decided[one.forecasts.rows],
            samples.decided[known_by(samples.known_at, last.cutoff)],
        )
    )  # fmt: skip
    changes = (np.diff(samples.symbol) != 0) | (np.diff(samples.segment) != 0)
    begins = np.r_[0, np.flatnonzero(changes) + 1]
    window = int((samples.ends - begins[np.searchsorted(begins, samples.ends, side="right") - 1]).min()) + 1
    opened, least = one.forecasts.folds[0].cutoff, LogHAR().minimum
    said = []
    for number in np.argsort(samples.symbols).tolist():
        symbol = samples.symbols[number]
        nothing = f"{symbol}: too few bars, nothing was forecast."
        rows = samples.symbol == number
        empty = [name for name, column in zip(samples.names, samples.features.T, strict=True)
                 if np.isnan(column[rows]).all()]  # fmt: skip
        if windows[number] == 0 and empty and bars[number] > window:
            said.append(
                f"{symbol}: nothing was forecast, because {', '.join(empty)} has no value on any of its {bars[number]} "
                "bars. Add the column that it needs, or leave the feature out with features."
            )
        elif windows[number] == 0:
            said.append(f"{nothing} It has {bars[number]}; {window} in one piece are needed for a first window.")
        elif issued[number] == 0:
            said.append(f"{nothing} Its {bars[number]} end before the first refit of its class, {str(opened)[:10]}.")
        elif answered[number] < least and np.count_nonzero(issued) > 1:
            said.append(
                f"{symbol}: too few bars for volatility models of its own: at the last refit the outcome of "
                f"{answered[number]} was known, {least} are needed. Those of its class ({samples.asset_class}) serve."
            )
    return said


def control_scores(control: Run | None, experiment: Experiment) -> dict[str, Any] | None:
    """The planted market's truth, what was measured beside it, verdicts and wealth, for the page of the real one.

    `measured`: rows of `quantity`, `best` (the most that any forecast can reach) and `measured` (of the ensemble, out
    of sample), both shares, over `days`. `truth`: the other figures of the market, which the run does not measure.
    """
    if control is None or experiment.control is None:
        return None
    from gatecast.market.synthetic import truth_of

    planted, horizon = experiment.control, experiment.horizon
    known = {"r2": planted.r2} if planted.market == "b1" else {}
    truth: dict[str, Any] = dict(truth_of(planted.market, **known))
    models, _ = score_tables({name: one.forecasts for name, one in control.classes.items()})
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


def jsonable(value: Any) -> Any:
    """NumPy numbers as Python's, NaN and infinities as None, tuples as lists, through all levels."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
