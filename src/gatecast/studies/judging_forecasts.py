"""Forecasts and quantiles of a file -> verdicts beside the simple rivals, and what these rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.chain import Progress
from gatecast.errors import SettingsError
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.delay import one_bar_later, without_what_dies
from gatecast.evaluation.following import ABOUT_SIGNS, MOST_GAIN, follows, leaks_of, planted_leak
from gatecast.evaluation.ledger import daily_profit, record_trials
from gatecast.evaluation.outside import QUANTILES, Outside
from gatecast.evaluation.plausible import VOID, TooGood, too_good, void, without_what_is_too_good
from gatecast.evaluation.power import power_of, undecidable
from gatecast.evaluation.quantiles import judge_quantiles
from gatecast.evaluation.record import Record, day_means, records_of
from gatecast.evaluation.trial import Trial
from gatecast.evaluation.verdict import judge
from gatecast.forecasting.panel import ENSEMBLE, PLAIN, RIVAL, RIVALS, always
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market.bars import session_date
from gatecast.metrics import significance
from gatecast.metrics.returns import returns_of_levels, sharpe
from gatecast.studies.judgement import Judged, Judgement
from gatecast.studies.placebo import Rank
from gatecast.studies.question import Question
from gatecast.trading.backtest import Backtest, backtest_of
from gatecast.trading.plausible import PLANTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]

TARGET_VOLATILITY = 0.1
"""A year, of each symbol's position in the plain trade of forecasts."""
MOST_MODELS = 100
"""Models of one file."""
THEIRS = "judged "
"""Stands before the names of models, which may be those of rivals."""


def forecasts_judged(asked: Question, theirs: Outside, horizon: int | None, told: Progress | None) -> Judgement:
    """Every model of a file, each beside the same rivals."""
    if len(theirs.models) > MOST_MODELS:
        raise SettingsError(
            f"the file has {len(theirs.models):,} models, at most {MOST_MODELS} are judged at once: each is a "
            "trial, and of many the best is good by luck. Give those that you chose between."
        )
    span = horizon or int(theirs.rows["step"].cast(pl.Int64).to_numpy().max())
    table = _medians(theirs.rows) if theirs.kind == QUANTILES else theirs.rows
    table = table.with_columns(model=pl.concat_str(pl.lit(THEIRS), pl.col("model")))
    records = Record.from_table(table, asked.facts.bars, horizon=span, volatility_proxy=asked.volatility_proxy)
    rivals = _rivals(asked, next(iter(records.values())).samples, tuple(records))
    whole = {head: record.beside(rivals[head]) for head, record in records.items()}
    judged = {
        name: {
            head: _judged_rows(asked, _alone(one, name))
            for head, one in whole.items()
            if f"{THEIRS}{name}" in one.forecasts
        }
        for name in theirs.models
    }
    days = [one.day[_scored(one)] for own in judged.values() for one in own.values()]
    if not sum(map(len, days)):
        where = f" after the cutoff {asked.cutoff}" if asked.cutoff else ""
        raise SettingsError(
            f"no forecast{where} has an answer and a rival beside it: give bars that begin two years before the "
            "forecasts and go on after them."
        )
    books = {name: _plain_trade(asked, own) for name, own in judged.items()}
    trials = record_trials([_trial(asked, theirs, name, own, books[name]) for name, own in judged.items()])
    made = dict[str, Judged]()
    for place, (name, own) in enumerate(judged.items()):
        if told:
            told("judging", place, len(judged))
        if theirs.kind == QUANTILES:
            rows = theirs.rows.filter(pl.col("model") == name, pl.col("step") == span)
            made[name] = _judge_quantiles(asked, name, rows, own, len(trials))
            continue
        one = _judge(asked, name, own, books[name], trials)
        made[name] = replace(one, before_cutoff=_gains_before(asked, whole, name))
    if told:
        told("judging", len(judged), len(judged))
    every = np.concatenate(days)
    first, last = str(every.min()), str(every.max())
    units = [_other_unit(name, own["volatility"]) for name, own in judged.items() if "volatility" in own]
    return Judgement(
        theirs.kind, made, span, first, last, max(len(trials), len(made)), tuple(note for note in units if note)
    )


OTHER_UNIT = 4.0
"""Times that the median answer is off a forecast of variance before another unit is likely."""


def _other_unit(name: str, record: Record) -> str:
    """A sentence on forecasts of variance that are in another unit; "" where they are not."""
    forecast = np.asarray(record.forecasts[ENSEMBLE])
    known = np.isfinite(forecast) & np.isfinite(record.answer)
    if not known.any():
        return ""
    answer, values = np.exp(record.answer[known]), forecast[known]
    times, squared = (float(np.median(answer / one)) for one in (values, values**2))
    if 1 / OTHER_UNIT <= times <= OTHER_UNIT:
        return ""
    deviations = (
        f" Squared they fit ({squared:.2g} times): they seem to be standard deviations. Square them."
        if 1 / OTHER_UNIT <= squared <= OTHER_UNIT else ""
    )  # fmt: skip
    return (
        f"{name}: its forecasts of volatility are likely in another unit, and were judged as they are: the median "
        f"answer is {times:.2g} times the forecast. Expected is the variance of the log return over all bars of the "
        f"horizon, as a fraction, not of a year.{deviations}"
    )


def _rivals(asked: Question, samples: Mapping[str, Samples], heads: Sequence[str]) -> dict[str, Record]:
    """Head -> record of the simple rivals on the same samples, the one in force among them."""
    wanted = {name for head in heads for name in (*RIVALS[head], PLAIN[head])}
    panel = {name: one for name, one in always().items() if name in wanted}
    made = {name: walk_forward(panel, one, asked.schedule) for name, one in samples.items()}
    if short := [name for name, one in made.items() if not one.folds]:
        raise SettingsError(
            f"the bars of {', '.join(short)} are too short: the simple rivals learn from {asked.schedule.minimum} "
            "of history before their first forecast. Give bars that begin earlier, or leave these out."
        )
    return records_of(made, heads)


def _judged_rows(asked: Question, record: Record) -> Record:
    return record if asked.cutoff is None else record.of_rows(record.day > np.datetime64(asked.cutoff, "D"))


def _gains_before(asked: Question, records: Mapping[str, Record], model: str) -> dict[str, float]:
    """Head -> gain over the rival in force up to the cutoff."""
    if asked.cutoff is None:
        return {}
    gains = {}
    for head, record in records.items():
        if f"{THEIRS}{model}" in record.forecasts:
            own = _alone(record, model).of_rows(record.day <= np.datetime64(asked.cutoff, "D"))
            days = day_means(own, ENSEMBLE, RIVAL)
            if len(days.day):
                gains[head] = float(days.gain.mean() / days.rival.mean())
    return gains


def _plain_trade(asked: Question, records: Mapping[str, Record]) -> Backtest | None:
    """The simplest use of return forecasts, else of probabilities of a rise: long or short by their sign.

    Each symbol at `TARGET_VOLATILITY` a year, at most its share of the capital, and nothing where the expected
    return is smaller than a round trip costs.
    """
    head = next((one for one in ABOUT_SIGNS if one in records), None)
    if head is None:
        return None
    record = records[head]
    forecast, deviation = np.asarray(record.forecasts[ENSEMBLE]), np.sqrt(record.unit)
    expected = forecast if head == "return" else (2 * forecast - 1) * deviation * np.sqrt(2 / np.pi)
    by_class = [(asked.costs.round_trip(one), asked.facts.of_class(one).bars_per_year) for one in record.classes]
    trip, years = np.array(by_class)[record.number].T
    size = np.minimum(1.0, TARGET_VOLATILITY / (record.sigma * np.sqrt(years)))
    weight = np.where(np.abs(expected) > trip, np.sign(expected) * size, 0.0)
    rows = np.isfinite(forecast) & np.isfinite(weight)
    if not rows.any():
        return None
    names = np.array(record.symbols, dtype=object)[record.symbol]
    times = pl.Series(record.time[rows]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    weights = pl.DataFrame({"symbol": names[rows].tolist(), "time": times, "weight": weight[rows]})
    return backtest_of(weights.sort("symbol", "time"), asked.facts, asked.costs)


def _trial(asked: Question, theirs: Outside, model: str, records: Mapping[str, Record], book: Backtest | None) -> Trial:
    """What the ledger keeps of one model of a file."""
    rows = theirs.rows.filter(pl.col("model") == model)
    samples = tuple(next(iter(records.values())).samples.values())
    return asked.trial_of(rows, samples, None if book is None else daily_profit(book.equity))


def _judge(
    asked: Question, name: str, records: Mapping[str, Record], book: Backtest | None, trials: Sequence[Trial]
) -> Judged:
    """One model: its verdicts, then what they rest on."""
    facts, (net, held, sessions) = asked.facts, _series(book)
    verdicts = judge(
        records, net, held,
        round_trip=float(np.mean([asked.costs.round_trip(one) for one in next(iter(records.values())).classes])),
        periods_per_year=book.rows_per_year if book else facts.sessions_per_year, sessions=sessions,
        trials=max(len(trials), 1),
        effective_trials=independent_trials(trials, sessions, held) if book and trials else None,
    )  # fmt: skip
    if book is None:
        del verdicts["strategy"]
    found = [
        *too_good(records, net, held, sessions, facts.sessions_per_year, allowed=asked.allowed),
        *(one for head, own in records.items() if (one := _too_large(asked, head, own))),
    ]
    verdicts = without_what_is_too_good(verdicts, found)
    if book is not None:
        weights = book.bars.select("symbol", "time", "weight")
        verdicts = without_what_dies(verdicts, one_bar_later(records, weights, facts, asked.costs))
    leaks = () if PLANTED in asked.allowed else leaks_of(records, facts.bars)
    if leaks:
        verdicts = void(verdicts, leaks[0])
    verdicts = {head: undecidable(one, asked.most_believed(one, records, net)) for head, one in verdicts.items()}
    ranks = {head: _rank(asked, records[head]) for head in ABOUT_SIGNS if head in records}
    return Judged(
        name, verdicts, leaks=leaks, planted=planted_leak(records, facts.bars, asked.seed),
        power={head: power_of(one, facts.sessions_per_year) for head, one in verdicts.items()},
        ranks={head: one for head, one in ranks.items() if one}, costs=_costs_of(book),
    )  # fmt: skip


def _too_large(asked: Question, head: str, record: Record) -> TooGood | None:
    """What a forecast of variance or turbulence gains over its rival, where more than is believed."""
    if head in ABOUT_SIGNS or {head, PLANTED} & {*asked.allowed}:
        return None
    days = day_means(record, ENSEMBLE, RIVAL)
    if len(days.day) < significance.BARS_PER_HORIZON * record.overlap:
        return None
    gain = float(days.gain.mean() / days.rival.mean())
    return TooGood(head, None, f"The gain of the {head} forecast", gain, MOST_GAIN) if gain > MOST_GAIN else None


def _judge_quantiles(
    asked: Question, name: str, rows: pl.DataFrame, records: Mapping[str, Record], trials: int
) -> Judged:
    """One model's quantiles; leaks are looked for in the medians, and in how far the outermost lie from them."""
    leaks = () if PLANTED in asked.allowed else leaks_of(records, asked.facts.bars)
    leaks = leaks or (() if PLANTED in asked.allowed else _leaks_of_tails(asked, rows))
    found = judge_quantiles(rows, records["return"], trials=max(trials, 1))
    if leaks:
        found = replace(found, verdict=VOID, sentence=f"Void, since a leak was found: {leaks[0]}")
    planted = planted_leak(records, asked.facts.bars, asked.seed)
    return Judged(name, quantiles=found, leaks=leaks, planted=planted)


def _leaks_of_tails(asked: Question, rows: pl.DataFrame) -> tuple[str, ...]:
    """What the distance of the outermost quantiles from the median knows of later bars."""
    keys = ["symbol", "time"]
    middle = rows.sort((pl.col("quantile") - 0.5).abs()).group_by(keys).first().select(*keys, middle="value")
    found = list[str]()
    for level in np.unique(rows["quantile"].to_numpy())[[0, -1]]:
        tail = rows.filter(pl.col("quantile") == level).join(middle, on=keys)
        tail = tail.select(*keys, _tail=(pl.col("value") - pl.col("middle")).abs())
        for (_,), own in asked.facts.bars.sort("symbol", "time").group_by("asset_class", maintain_order=True):
            width = own.select(keys).join(tail, on=keys, how="left", maintain_order="left")["_tail"]
            column = width.fill_null(np.nan).to_numpy()
            logs = np.log(np.where(column > 0, column, np.nan))
            name = f"the distance of the quantile {float(level):g} from the median"
            found += follows(own, logs, name, int(rows["step"][0]))
    return tuple(dict.fromkeys(found))


def _rank(asked: Question, record: Record) -> Rank | None:
    """The place of forecasts among copies of themselves that are moved in time; None without any.

    A copy moves the forecasts of all symbols by the same number of rows, the last ones to the beginning: it keeps
    how they are spread and go together, and loses what they say about what comes next.
    """
    days = day_means(record, ENSEMBLE, RIVAL)
    if asked.copies < 1 or len(days.day) < significance.BARS_PER_HORIZON * record.overlap:
        return None
    values = np.asarray(record.forecasts[ENSEMBLE])
    rows = np.flatnonzero(np.isfinite(values))
    rows = rows[np.lexsort((record.time[rows], record.symbol[rows]))]
    parts = np.split(rows, np.flatnonzero(np.diff(record.symbol[rows])) + 1)
    longest, least = max(map(len, parts)), 5 * record.horizon
    draws = np.random.default_rng(np.random.SeedSequence(asked.seed, spawn_key=(len(record),)))
    found = []
    for shift in draws.integers(least, max(longest - least, least + 1), size=asked.copies):
        moved = values.copy()
        for part in parts:
            moved[part] = np.roll(values[part], int(shift))
        found.append(_statistic(record.with_forecasts(ENSEMBLE, moved)))
    return Rank(record.head, _statistic(record), tuple(found))


def _medians(rows: pl.DataFrame) -> pl.DataFrame:
    """Quantiles -> a table of forecasts of the return: of each forecast the quantile nearest to the median."""
    nearest = rows.sort((pl.col("quantile") - 0.5).abs()).group_by("symbol", "time", "model", "step").first()
    return nearest.select("symbol", "time", "model", "step", "value", head=pl.lit("return"))


def _alone(record: Record, model: str) -> Record:
    """The record with one model as the forecast that is judged, beside the rivals."""
    return record.with_forecasts(ENSEMBLE, np.asarray(record.forecasts[f"{THEIRS}{model}"]))


def _scored(record: Record) -> NDArray[np.bool_]:
    """(rows,) whether the forecast has a loss, and a rival beside it."""
    return np.isfinite(record.losses(ENSEMBLE)) & np.isfinite(record.losses(RIVAL))


def _statistic(record: Record) -> float:
    """The t of the mean daily gain over the rival in force; 0 where there is none."""
    days = day_means(record, ENSEMBLE, RIVAL)
    return float(np.nan_to_num(significance.fixed_b_mean(days.gain, record.overlap).statistic))


def _series(book: Backtest | None) -> tuple[FloatArray, FloatArray, NDArray[np.datetime64]]:
    """Net returns of a book, of buy and hold beside it, and their sessions; empty without a book."""
    if book is None:
        return np.zeros(0), np.zeros(0), np.zeros(0, "datetime64[D]")
    times = book.equity["time"].dt.replace_time_zone(None).to_numpy()
    held = returns_of_levels(book.equity["benchmark"].to_numpy())
    return book.equity["net"].to_numpy(), held, session_date(times).astype("datetime64[D]")


def _costs_of(book: Backtest | None) -> dict[str, float]:
    """Gross, cost and net a year, Sharpe ratio and turnover a year of a book; nothing without one."""
    if book is None:
        return {}
    net, gross = (book.equity[name].to_numpy() for name in ("net", "gross"))
    per_year, symbols = book.rows_per_year, book.bars["symbol"].n_unique()
    return {
        "gross": float(gross.mean() * per_year), "cost": float((gross - net).mean() * per_year),
        "net": float(net.mean() * per_year),
        "sharpe": float(np.nan_to_num(sharpe(net, periods_per_year=per_year))),
        "turnover": float(book.bars["turnover"].to_numpy().sum() / symbols / max(len(net), 1) * per_year),
    }  # fmt: skip
