"""Scores of a run: a chain and its verdicts -> every number of `scores.json`, the headline and the warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast import provenance
from gatecast.audits.leaks import Audit
from gatecast.chain import Chain, ClassResult
from gatecast.evaluation.counted import best_of_trials, independent_trials
from gatecast.evaluation.credit import credit_of
from gatecast.evaluation.delay import Later
from gatecast.evaluation.holdout import state_of
from gatecast.evaluation.luck import illusions, many_models
from gatecast.evaluation.memory import longer_windows
from gatecast.evaluation.plausible import TOO_GOOD, void
from gatecast.evaluation.record import Record, records_of
from gatecast.evaluation.risk import Risk
from gatecast.evaluation.search_worth import search_worth, searches_of
from gatecast.evaluation.tables import gains_without, score_tables
from gatecast.evaluation.trial import Trial, market_of
from gatecast.evaluation.verdict import CORE, SKILL, Verdict
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.combining.intervals import IntervalForecasts, coverage
from gatecast.forecasting.forecaster import Forecaster
from gatecast.forecasting.models.har import LogHAR
from gatecast.forecasting.panel import ENSEMBLE, NETWORK, model_phrase, model_titles
from gatecast.forecasting.scaling import robust_spread
from gatecast.forecasting.schedule import known_by
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market.actions import SCHEMA
from gatecast.market.bars import session_date, session_of
from gatecast.market.ends import say_ends, table_wanted
from gatecast.market.facts import Facts
from gatecast.market.sources import Reading
from gatecast.market.stale import stale_prices
from gatecast.market.universe import INSIDE, is_inside
from gatecast.metrics import overfitting
from gatecast.metrics.periods import course
from gatecast.metrics.returns import comp, per_session, returns_of_levels, sharpe, tear_sheet
from gatecast.samples.features.catalogue import BUILT_IN
from gatecast.samples.windows import Samples
from gatecast.trading.backtest import Backtest, rows_per_year
from gatecast.trading.book import BOUGHT, CASH, OWN_BENCHMARK, TILTED, Line, Sessions, deviations_of
from gatecast.trading.exposure import Today, risk_today
from gatecast.trading.plausible import PLANTED
from gatecast.trading.sizing import TARGET_CAPS

FloatArray = NDArray[np.float64]

BENCHMARK = "benchmark: bought once, equally weighted, and held"
OTHER_UNIT = 100.0  # times that a symbol's spread of a column is the median symbol's: another unit


def scores_of(
    experiment: Experiment,
    chain: Chain,
    verdicts: dict[str, Verdict],
    trials: Sequence[Trial],
    reading: Reading,
    audit: Audit,
    without_default_ends: dict[str, Verdict] | None = None,
    later: Sequence[Later] = (),
    control: dict[str, Any] | None = None,
    *,
    jobs: int = 1,
) -> dict[str, Any]:
    """Everything that `scores.json` and the report say in numbers; undefined numbers are None.

    Where the audit finds a leak every verdict is void. `without_default_ends`: the verdicts with nothing lost where a
    symbol ends on unknown terms; None where none did. `later`: the effects with decisions one bar late. `control`: what
    the planted market beside it showed. `jobs`: cores.
    """
    records = records_of(chain.forecasts)
    models, years = score_tables(records)
    result = chain.result
    if not audit.clean:
        verdicts = void(verdicts, audit.findings[0].sentence)
    symbols = chain.bars["symbol"].unique().sort().to_list()
    holdout, named = experiment.holdout, experiment.features is not None
    found = trials_of(chain, trials)
    turning = turning_symbols(records, verdicts)
    scores: dict[str, Any] = {
        "verdicts": {head: verdict.to_dict() for head, verdict in verdicts.items()},
        "delistings": chain.actions.filter(kind="delisting").select(list(SCHEMA))
        .with_columns(pl.col("date", "known_at").dt.to_string("iso"))
        .to_dicts(),
        "survivorship": survivorship(chain.bars, experiment.too_good),
        "one_bar_later": [one.to_dict() for one in later],
        "summary": headline(
            verdicts, bool((chain.weights["weight"] != 0).any()), audit, experiment.too_good, without_default_ends,
            experiment.selection.evidence,
        ),
        "verdicts_without_default_ends": {
            head: verdict.to_dict() for head, verdict in (without_default_ends or {}).items() if head == "strategy"
        },
        "audit": audit.to_dict(),
        "holdout": state_of(
            symbols, holdout, market=market_of(chain.bars),
            settings_hash=provenance.hash_of_settings(experiment.to_dict(), experiment.plugins),
        ) if holdout else None,
        "trials": found,
        "many": many_models(records),
        "windows": windows_of(records, experiment.model, experiment.schedule.train),
        "credit": credit_of(
            chain.forecasts, experiment.ensemble, jobs=jobs, importable=experiment.is_importable, disk=chain.disk
        ),
        "without_symbol": turning,
        "in_force": changes_of(chain.forecasts),
        "rivals": rivals_of(chain.forecasts),
        "tuning": search_worth(records, {name: searches_of(one) for name, one in chain.forecasts.items()}),
        "coverage": coverage_of(chain.forecasts),
        "selection": selected_features(chain),
        "illusions": illusions(records["return"], closes_of(chain), tries=found["effective"]),
        "names": names_of(chain.forecasts),
        "models": models,
        "years": years,
        "backtest": backtest_scores(chain, trials, found["effective"]),
        "strategies": strategy_table(chain, experiment.strategy_titles),
        "signals": signal_counts(chain),
        "folds": fold_table(chain),
        "refused": refused_of(chain.forecasts),
        "alarms": [alarm.to_dict() for one in chain.classes.values() for alarm in one.alarms],
        "warnings": warnings_of(chain, reading, audit, features_named=named, override=experiment.selection.evidence)
        + turning_in_words(turning),
        "fills": {symbol: fill_in_words(share) for symbol, share in result.fills.items()},
        "features_left_out": {name: one.samples.left_out for name, one in chain.classes.items()},
        "control": control,
    }  # fmt: skip
    plain: dict[str, Any] = jsonable(scores)
    return plain


def backtest_scores(chain: Chain, trials: Sequence[Trial], effective: float) -> dict[str, Any]:
    """What the strategies of a chain earned and paid, beside buy and hold; `effective`: see `deflation`."""
    result, net, periods = chain.result, chain.net, chain.result.rows_per_year
    return {
        "tear_sheet": {"strategy": tear_sheet(net, periods), "benchmark": tear_sheet(chain.benchmark, periods)},
        "record_years": len(net) / periods,
        "turnover_per_year": result.turnover_per_year,
        "break_even_cost_bps": result.break_even_cost_bps,
        "cost_total": float((result.equity["gross"] - result.equity["net"]).sum()),
        "average_exposure": average_exposure(chain.weights),
        "periods_per_year": periods,
        "bars_per_year": chain.facts.bars_per_year,
        "ends": ends_of(result),
        **deflation(net, trials, effective),
    }


def book_scores(
    experiment: Experiment, chain: Chain, lines: Mapping[str, Line], risk: Risk | None, sessions: Sessions
) -> dict[str, Any]:
    """What each line of the book held, earned and paid, its equity every few sessions, and what today's may lose.

    Without lines only why. In the curve cash is the equity of a book that earns the benchmark rate and holds nothing.
    """
    if not lines:
        return {"left_out": dict(sessions.left_out)} if sessions.left_out else {}
    titles, settings = experiment.model_titles, experiment.book
    rows = [
        {"line": name, "title": BOOK_TITLES.get(name, titles.get(name, name)), **line_scores(one, chain.bars)}
        for name, one in lines.items()
    ]
    first = next(iter(lines.values())).frame
    shown = np.unique(np.linspace(0, len(first) - 1, min(len(first), MOST_POINTS)).round().astype(np.int64))
    earned = first["net"].to_numpy() - first["excess"].to_numpy()
    cash = settings.size.capital * np.cumprod(1 + earned)
    equity = {name: one.frame["equity"].to_numpy() for name, one in lines.items()} | {CASH: cash}
    if settings.benchmark is not None:
        price = price_from_1(chain.bars, settings.benchmark, first["day"])
        equity[OWN_BENCHMARK] = settings.size.capital * price
        rows.append(benchmark_scores(settings.benchmark, price, earned, len(first) / rows[0]["years"]))
    held = line_held(chain, lines)
    net = {name: lines[name].frame["net"].to_numpy() for name in (held, BOUGHT) if name in lines}
    return {
        "target_volatility": settings.size.target_volatility, "capital": settings.size.capital,
        "currency": settings.money.currency, "benchmark_rate": settings.money.benchmark_rate,
        "cash_rate": float(cash[-1] / cash[0]) ** (1 / rows[0]["years"]) - 1,
        "holds": holds_now(lines[held]), "left_out": dict(sessions.left_out), "lines": rows,
        "risk": {**(risk.to_dict() if risk else {}), "today": today_of(chain, lines, sessions)},
        "curve": {
            "day": first["day"].dt.to_string().gather(shown).to_list(),
            **{name: values[shown].tolist() for name, values in equity.items()},
        },
        "course": course(
            first["day"].to_numpy().astype("datetime64[D]"), net, len(first) / rows[0]["years"], earned
        ),
    }  # fmt: skip


def line_held(chain: Chain, lines: Collection[str]) -> str:
    """The line that is gatecast's: with the tilt where one is held, which is not so where a run is in doubt."""
    return TILTED if TILTED in lines and (chain.weights["weight"] != 0).any() else ENSEMBLE


def holds_now(line: Line) -> list[dict[str, Any]]:
    """What a line holds and decided at its newest session, a row a symbol, the largest holding first.

    `gate`, `limited_by`: the gate that binds, and what cut the target and the trade in words, see `cuts.Limit`.
    """
    newest = line.holdings.filter(pl.col("session") == pl.col("session").max()).drop("time")
    ordered = newest.sort(pl.col("held").abs(), "symbol", descending=[True, False])
    rows = ordered.with_columns(pl.col("session").dt.to_string()).head(MOST_POINTS).to_dicts()
    told = ((row, line.limits.get(row["symbol"])) for row in rows)
    return [{**row, **({"gate": one.gate, "limited_by": one.words} if one else {})} for row, one in told]


def price_from_1(bars: pl.DataFrame, symbol: str, days: pl.Series) -> FloatArray:
    """(sessions,) last close of a symbol up to each day, over the first of these; NaN before it has any.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> days = bars["time"].dt.date()
    >>> price = price_from_1(bars, "A1", days.slice(20, 3))
    >>> bool(np.isclose(price[-1], bars["close"][22] / bars["close"][20])), len(price)
    (True, 3)
    """
    own = bars.filter(pl.col("symbol") == symbol).select("close", day=session_date(pl.col("time"))).sort("day")
    joined = pl.DataFrame({"day": days}).join_asof(own.group_by("day", maintain_order=True).last(), on="day")
    close = joined["close"].fill_null(np.nan).to_numpy()
    there = close[~np.isnan(close)]
    return np.asarray(close / there[0] if len(there) else close, np.float64)


def benchmark_scores(symbol: str, price: FloatArray, cash: FloatArray, per_year: float) -> dict[str, Any]:
    """The figures of a symbol bought and held at no cost, beside those of `line_scores`; `cash`: its returns."""
    there = ~np.isnan(price)
    net = returns_of_levels(price[there])
    sheet = tear_sheet(net, per_year)
    return {
        "line": OWN_BENCHMARK, "title": f"{symbol}, your benchmark", "return": sheet["cagr"],
        "volatility": sheet["volatility"], "sharpe": sharpe(net - cash[there], per_year),
        "drawdown": sheet["max_drawdown"], "sessions": int(there.sum()), "years": float(there.sum()) / per_year,
    }  # fmt: skip


def today_of(chain: Chain, lines: Mapping[str, Line], sessions: Sessions) -> dict[str, Any]:
    """What gatecast's book may lose from the newest close on, see `risk_today`.

    `line`: which one that is, see `line_held`. The longer tails are of the sessions of the horizon.
    """
    name = line_held(chain, lines)
    today = Today.of(sessions, lines[name], deviations_of(chain.classes, sessions, ENSEMBLE))
    return {"line": name, **risk_today(today, horizon_in_sessions(chain))}


def horizon_in_sessions(chain: Chain) -> int:
    """The longest horizon of a chain's classes, in sessions; at least one."""
    return max(1, *(round(one.samples.horizon / one.samples.session_bars) for one in chain.classes.values()))


BOOK_TITLES = {ENSEMBLE: "gatecast", TILTED: "gatecast, with what strategies add", BOUGHT: "bought and held"}
"""Line of the book -> what a reader calls it; of the others the title of the model."""
MOST_POINTS = 1000
"""Points of a curve that is kept among the scores."""


def line_scores(line: Line, bars: pl.DataFrame) -> dict[str, Any]:
    """The figures of one line, a year where they are of a time; what is paid is a share of the equity before.

    `reached`: share of the closes at which the target volatility was reached; `caps`: cap -> closes at which it kept
    the target lower. `findings`: kind, closes, and the newest sentence, see `sizing.Finding`.
    """
    frame, before = line.frame, line.frame["before"].to_numpy()
    per_year = rows_per_year(frame.rename({"day": "time"}), bars)
    years = len(frame) / per_year

    def paid(*names: str) -> float:
        return float(sum((frame[name].to_numpy() / before).sum() for name in names)) / years

    sheet = tear_sheet(line.net, per_year)
    return {
        "return": sheet["cagr"], "volatility": sheet["volatility"], "sharpe": sharpe(line.excess, per_year),
        "drawdown": sheet["max_drawdown"], "gross": float(frame["gross"].mean()),  # type: ignore[arg-type]
        "turnover": paid("traded") / 2, "cost": paid("commission", "spread", "impact"), "interest": paid("interest"),
        "borrow": paid("borrow"), "dividends": paid("dividend") - paid("withheld"),
        **{name: paid(name) for name in ("commission", "spread", "impact")},
        "reached": float(frame["reached"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
        "years": years, "sessions": len(frame), "caps": caps_of(line),
        "findings": [
            {"kind": kind, "closes": closes, "newest": said} for kind, (closes, said) in sorted(line.findings.items())
        ],
    }  # fmt: skip


OTHER_GATES = ("borrow", "participation", "lot", "ticket", "cash", "stop", "halt")
"""Gates that keep a book below its target beside the caps."""


def caps_of(line: Line) -> dict[str, int]:
    """Cap or other gate -> closes at which it cut a symbol and the volatility held was below the target, most first."""
    short = (~line.frame["reached"]).to_list()
    counts = Counter(cap for gates, missed in zip(line.gates, short, strict=True) if missed
                     for cap in (*TARGET_CAPS, *OTHER_GATES) if cap in gates)  # fmt: skip
    return dict(counts.most_common())


UNIVERSE_UNKNOWN = (
    "Whether these symbols were chosen because they survived or did well is not known: no dated universe was given "
    "(universe under [bars])."
)


def survivorship(bars: pl.DataFrame, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """Whether bars say which symbols belonged to the universe when, and what is said where they do not.

    `allowed`: outcomes that may be too good; of a planted market nothing is said.
    """
    known = INSIDE in bars.columns
    symbols = bars.filter(pl.Series(is_inside(bars)))["symbol"].n_unique()
    said = "" if known or PLANTED in allowed else UNIVERSE_UNKNOWN
    return {"known": known, "symbols": symbols, "sentence": said}


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
        "known": "with the last return given in the table of actions",
        "default": f"with the default loss of their class, because the last return is unknown ({'; '.join(totals)})",
        "vendor": "with the data source (several symbols in one session): sold at the last close",
    }
    booked = [f"{ends[kind]} {words}" for kind, words in said.items() if ends[kind]]
    if not booked:
        return []
    back = (
        f" {ends['returned']} resumed later and are booked at the move to their first fill." if ends["returned"] else ""
    )
    return [f"Symbols that ended: {', '.join(booked)}.{back}"]


def stops_in_words(facts: Facts, most: int = 10) -> list[str]:
    """A sentence on each symbol that stopped before the others and whose last return no table gives; of many the first.

    Symbols that ended with their source are named together.
    """
    ended = facts.symbols_ended
    found = say_ends(facts.bars, ended, facts.actions)
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
        f"{', '.join(names)}: their bars end together on {day}: taken as the end of the source, sold at that close."
        f" {table_wanted(names[0], day)}"
        for day, names in sorted(sources.items())
    ]


def average_exposure(weights: pl.DataFrame) -> float:
    """Mean over time of the book's gross weight."""
    return float(
        weights.group_by("time", maintain_order=True).agg(pl.col("book").abs().sum())["book"].to_numpy().mean()
    )


def headline(
    verdicts: dict[str, Verdict],
    traded: bool,
    audit: Audit,
    allowed: Sequence[str] = (),
    without_default_ends: dict[str, Verdict] | None = None,
    override: float | None = None,
) -> dict[str, str]:
    """The verdict in one sentence, and what follows from it in another.

    `traded`: whether there ever was a position; `allowed`: what the settings allow to be too good, which is said first;
    `override`: the evidence factor that they set, None where the record decides it: what is held then is no evidence.
    A strategy's verdict that is another one where nothing is lost at unknown ends is no verdict: that is the headline.
    """
    said = _headline(verdicts, traded, audit, without_default_ends)
    if override is not None:
        asked = "There were positions because the settings set" if traded else "No position was taken: the settings set"
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
        first = "This run used information from the future: all its numbers are void."
        return {"headline": f"Too good to be true. {first}" if good else first, "subline": said}
    if good:
        return {"headline": "Too good to be true: look for a leak.", "subline": good[0].sentence}
    skilled = [head for head, verdict in verdicts.items() if verdict.verdict == SKILL]
    simple = [head for head, verdict in verdicts.items() if verdict.simple_is_as_good]
    gained = [head for head in simple if verdicts[head].effect > 0]  # over the best simple forecast so far
    alike = [head for head in skilled if head in simple]
    but = f", but {_as_well(verdicts, alike)}" if alike else ""
    told = verdicts["strategy"].verdict if "strategy" in verdicts else ""
    other = without_default_ends["strategy"].verdict if without_default_ends else told
    if other != told:
        first = (
            "The strategy's verdict depends on the loss assumed for symbols that stopped: "
            f'"{told}" with the default losses at their ends, "{other}" without them.'
        )
    elif "strategy" in skilled:
        told = "What strategies add to the core beats" if verdicts["strategy"].rival == CORE else "The strategy beats"
        over = CORE if verdicts["strategy"].rival == CORE else "buy and hold at its own exposure"
        first = f"{told} {over}, net of costs{but}."
    elif "return" in skilled or "direction" in skilled:
        first = f"There is evidence that returns can be forecast here{but or ', but none that trading on it pays'}."
    elif skilled:
        first = f"There is evidence of skill in {' and '.join(skilled)}, none in returns{but}."
    elif any(one.trials is None for one in verdicts.values()):
        first = "Whether there is skill here cannot be told: the ledger of trials cannot be read."
    elif gained:
        first = f"There is no evidence of skill in this market: {_as_well(verdicts, gained)}."
    else:
        first = "There is no evidence of skill in this market."
    second = (
        "Strategies had positions only while the evidence factor was above 0."
        if traded
        else "No strategy ever had a position; their signals are shown but not traded. The book's core is held "
        "without them: forecasts of volatility size it."
    )
    return {"headline": first, "subline": second}


def _as_well(verdicts: Mapping[str, Verdict], heads: Sequence[str]) -> str:
    """Which simple models are not shown to be worse than the ensemble, by their titles, each with its heads."""
    named: dict[str, list[str]] = {}
    for head in heads:
        named.setdefault(model_phrase(verdicts[head].simpler), []).append(head)
    (first, own), *others = named.items()
    more = "".join(f", and {phrase} for {' and '.join(each)}" for phrase, each in others)
    return f"{first} is not shown to be worse than the ensemble for {' and '.join(own)}{more}"


def closes_of(chain: Chain) -> dict[str, FloatArray]:
    """Asset class -> close of each of its bars, in the order of its samples."""
    closes = chain.bars.select("asset_class", "symbol", "time", "close").sort("symbol", "time")
    return {name: closes.filter(pl.col("asset_class") == name)["close"].to_numpy() for name in chain.classes}


def coverage_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """How many answers lay inside the ensemble's intervals of the first and the last step, all classes together.

    Rows as `combining.intervals.coverage` has them, without `asset_class`: means weighted with `forecasts`, `days` the
    most of any class.
    """
    parts = []
    for one in forecasts.values():
        intervals = IntervalForecasts.of_heads(one.values[ENSEMBLE])
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


def names_of(forecasts: dict[str, Forecasts]) -> dict[str, str]:
    """Name -> title of all forecasts of a run, see `panel.model_titles`."""
    return model_titles({name: model for one in forecasts.values() for name, model in one.panel.items()})


def changes_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """Which forecast was in force from which refit on: one row a class, head and change, `since` the refit's time."""
    return _changes(forecasts, {name: one.in_force for name, one in forecasts.items()})


def rivals_of(forecasts: dict[str, Forecasts]) -> list[dict[str, Any]]:
    """Which simple rival was in force from which refit on: rows as in `changes_of`."""
    return _changes(forecasts, {name: one.rivals for name, one in forecasts.items()})


def refused_of(forecasts: Mapping[str, Forecasts]) -> list[dict[str, Any]]:
    """Each refit that the guard refused: `asset_class, model, refit, reason`, see `forecasting.guard`."""
    return [
        {"asset_class": name, "model": model, "refit": str(cutoff), "reason": reason}
        for name, one in forecasts.items()
        for model, refits in one.refused.items()
        for cutoff, reason in refits.items()
    ]


def _changes(forecasts: dict[str, Forecasts], named: dict[str, dict[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    return [
        {"asset_class": asset_class, "head": head, "since": str(fold.cutoff)[:10], "model": name}
        for asset_class, one in forecasts.items()
        for head, names in named[asset_class].items()
        for fold, name, before in zip(one.folds, names, ("", *names), strict=False)
        if name != before
    ]


def windows_of(
    records: Mapping[str, Record], models: Mapping[str, Forecaster], train: str | int
) -> list[dict[str, Any]]:
    """See `longer_windows`; `window`: the length of the sliding one, `train` where the model says none."""
    return [
        {**row, "window": getattr(models.get(row["model"]), "window", None) or train} for row in longer_windows(records)
    ]


def selected_features(chain: Chain) -> dict[str, list[dict[str, Any]]]:
    """Asset class -> feature, mean share in what the LSTM takes in, lowest and highest over the refits.

    Only classes whose LSTM selects; the largest share first.
    """
    found = {}
    for name, one in chain.classes.items():
        shares = getattr(one.forecasts.fitted.get(NETWORK), "selected", None)
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


def strategy_table(chain: Chain, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each strategy by itself, before evidence: share of bars in force, Sharpe and net return; then the rivals.

    `titles`: strategy -> `title`, the row in words. The strategy "held_long" is sized by forecast volatility; the
    benchmark, bought once and held, is a row of its own, the last.
    """
    names = next(iter(chain.classes.values())).proposals.names
    chosen = np.concatenate(
        [one.selection.chosen[one.samples.decided[one.forecasts.rows]] for one in chain.classes.values()]
    )
    nets = session_returns(chain)
    returns: dict[str, FloatArray] = dict(zip(names, nets.T, strict=True))
    rivals: dict[str, FloatArray] = {
        "equal weight of all strategies": nets[:, 1:].mean(1),
        "benchmark": returns_of_levels(chain.result.equity["benchmark"].to_numpy()),
    }
    titles = {**titles, "benchmark": BENCHMARK}
    shares = [float(np.mean(chosen == column)) for column in range(len(names))]
    periods = rows_per_year(chain.result.equity, chain.bars)
    return [
        {
            "strategy": name, "title": titles.get(name, name), "share_of_bars": share,
            "sharpe_net": sharpe(net, periods), "total_net": comp(net),
        }
        for (name, net), share in zip((returns | rivals).items(), [*shares, *[None] * len(rivals)], strict=True)
    ]  # fmt: skip


def session_returns(chain: Chain) -> FloatArray:
    """(sessions, strategies) net return of each strategy, the mean over the symbols forecast or held in that session.

    Each row's profit counts, also after a halt, where nothing is forecast; sessions begin with the first forecast.
    """
    days, nets = [], []
    for one in chain.classes.values():
        issued = np.zeros(len(one.samples.time), bool)
        issued[one.samples.decided[one.forecasts.rows]] = True
        at = np.flatnonzero(issued | (one.net != 0).any(axis=1))
        days.append(session_date(one.samples.time[at]).astype("datetime64[D]").astype(np.int64))
        nets.append(one.net[at])
    _, day = np.unique(np.concatenate(days), return_inverse=True)
    table = np.concatenate(nets)
    symbols = len(chain.bars["symbol"].unique())
    per_day = np.column_stack([np.bincount(day, column) for column in table.T])
    mean: FloatArray = per_day / np.minimum(np.bincount(day), symbols)[:, None]
    return mean


def signal_counts(chain: Chain) -> dict[str, Any]:
    """Share of bars with a signal, by the number of bars since the refit: a change of models must not make signals."""
    fired: dict[int, list[int]] = {}
    total, bullish, bearish, consensus = 0, 0, 0, 0
    for one in chain.classes.values():
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


def fold_table(chain: Chain) -> list[dict[str, Any]]:
    """Every refit with its boundaries."""
    rows = []
    for name, one in chain.classes.items():
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


def turning_symbols(records: Mapping[str, Record], verdicts: dict[str, Verdict]) -> list[dict[str, Any]]:
    """head, symbol, gain: the symbols without which a head's gain over the rival has the other sign.

    Only where that gain lies outside the verdict's 90 % interval: else it is within its luck.
    """
    return [
        {"head": head, "symbol": symbol, "gain": gain}
        for head, one in verdicts.items()
        if head in records and np.isfinite(one.effect)
        for symbol, gain in gains_without(records[head], ENSEMBLE).items()
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
            f"{samples.symbols[number]}: the spread of its values of {name!r} is {ratio[number]:.2g} times that of the"
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


def warnings_of(
    chain: Chain, reading: Reading, audit: Audit, *, features_named: bool, override: float | None
) -> list[str]:
    """What a reader must know before believing a number, in sentences.

    `features_named`: whether the settings name the features. `override`: the evidence factor that they set.
    """
    warnings = [
        f"{finding.symbol or ''}: {finding.rule}: {finding.value} {finding.advice}".strip(": ")
        for finding in reading.findings if finding.severity != "info"
    ][:100]  # fmt: skip
    warnings += [leak.sentence for leak in audit.findings]
    warnings += [f"{one.symbol}: {one.advice}" for one in stale_prices(chain.bars.sort("symbol", "time"))]
    for name in sorted(set(chain.bars["asset_class"].unique()) - set(chain.classes)):
        takes = chain.left_out.get(name, "")
        warnings.append(f"{name}: too short a history for a single refit; nothing was forecast. {takes}".strip())
    for name, one in chain.classes.items():
        rows = one.forecasts.rows
        years = (one.samples.times[rows].max() - one.samples.times[rows].min()) / np.timedelta64(1, "D") / 365.25
        if years < 5:
            warnings.append(
                f"{name}: the walk-forward spans {years:.1f} years; less than five years are weak evidence."
            )
        if one.samples.facts.floored:
            warnings.append(
                f"{name}: {one.samples.facts.floored} realised variances were near 0 and raised to a floor."
            )
        warnings += short_histories(one)
        warnings += unused_features(one.samples) if features_named else []
        warnings += other_units(one.samples)
    warnings += ends_in_words(chain.result)
    warnings += stops_in_words(chain.facts)
    if override is not None:
        warnings.append(f"The evidence factor was set by the user: {override:g} throughout.")
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
            said.append(f"{nothing} It has {bars[number]}; {window} without a gap are needed for a first window.")
        elif issued[number] == 0:
            said.append(f"{nothing} Its {bars[number]} end before the first refit of its class, {str(opened)[:10]}.")
        elif answered[number] < least and np.count_nonzero(issued) > 1:
            said.append(
                f"{symbol}: too few bars for volatility models of its own: at the last refit outcomes of "
                f"{answered[number]} forecasts were known, {least} are needed. Models of {samples.asset_class} serve."
            )
    return said
