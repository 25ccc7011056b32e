"""Judging forecasts, quantiles or daily profits from anywhere: verdicts, costs, power, copies, a planted leak.

Nothing is fitted but the simple rivals. What the author of the forecasts knew cannot be seen; what a forecast knows of
later bars can: each is searched for it, and so is a copy in which some is planted, to show what would have been found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast import provenance
from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError
from gatecast.evaluation.delay import one_bar_later, without_what_dies
from gatecast.evaluation.following import ABOUT_SIGNS, LEAST_ROWS, MOST_GAIN, follows, leaks_of, planted_leak
from gatecast.evaluation.knowing import ABOVE
from gatecast.evaluation.ledger import (
    Trial,
    daily_profit,
    independent_trials,
    problems,
    record_trials,
    trials_are_missing,
)
from gatecast.evaluation.outside import PROFITS, QUANTILES, Outside, read_outside
from gatecast.evaluation.plausible import TOO_GOOD, VOID, TooGood, too_good, void, without_what_is_too_good
from gatecast.evaluation.power import power_of, undecidable
from gatecast.evaluation.quantiles import Quantiles, judge_quantiles
from gatecast.evaluation.record import LONGEST_HORIZON, Record, day_means, records_of
from gatecast.evaluation.verdict import CANNOT_TELL, Verdict, judge, judge_strategy, with_trials_unknown
from gatecast.forecasting.panel import ENSEMBLE, PLAIN, RIVAL, RIVALS, always
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market.bars import refuse_lacking, session_date
from gatecast.market.facts import Facts, facts_of
from gatecast.market.reading import as_day
from gatecast.metrics import significance
from gatecast.metrics.returns import returns_of_levels, sharpe
from gatecast.studies.placebo import MOST_COPIES, Rank
from gatecast.trading.backtest import Backtest, backtest_of
from gatecast.trading.costs import Costs
from gatecast.trading.money import cash_rates, earned_on_cash
from gatecast.trading.plausible import HITS, PLANTED, r2_limit, sharpe_limit

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
GIVES_CASH = ("dividend", "special_dividend", "return_of_capital")
"""Kinds of actions whose value a holder gets in cash."""
LEAST_VOLATILITY = 0.002
"""Deviation a year of profits beyond cash and the market, below which they are interest and no position."""
LEAST_EXPOSED = 0.25
"""Of the median move of the market: days with smaller ones do not show how much of it was held."""
KNOWN_SIDES = 0.25
"""Share of the market's moves that the planted leak puts on the right side of profits."""


@dataclass(frozen=True)
class Judged:
    """What is said of one model, or of daily profits.

    Attributes
    ----------
    verdicts: head -> verdict, "strategy" among them: a plain trade of the forecasts, or the profits themselves.
    quantiles: of a file of quantiles. leaks: sentences on what the forecasts know of later bars. planted: of a leak
        that was planted in a copy, whether it was `seen`, and a sentence. power: head -> see `power_of`. ranks: head ->
        the place among copies at other times. costs: of the plain trade, shares of the capital a year: gross, cost,
        net, and its sharpe and turnover. before_cutoff: head -> gain over the rival up to the cutoff: no evidence.
    """

    name: str
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    quantiles: Quantiles | None = None
    leaks: tuple[str, ...] = ()
    planted: Mapping[str, Any] = field(default_factory=dict)
    power: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    before_cutoff: Mapping[str, float] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether the forecasts know later bars, or are too good to be true."""
        return bool(self.leaks) or any(one.verdict in (TOO_GOOD, VOID) for one in self.verdicts.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name, "verdicts": {head: one.to_dict() for head, one in self.verdicts.items()},
            "quantiles": self.quantiles.to_dict() if self.quantiles else None, "leaks": list(self.leaks),
            "planted": dict(self.planted), "power": {head: list(rows) for head, rows in self.power.items()},
            "placebo": {head: one.to_dict() for head, one in self.ranks.items()}, "costs": dict(self.costs),
            "before_cutoff": dict(self.before_cutoff),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """What is said of it, a line a sentence or row."""
        lines = [self.name, *(f"  LEAK: {one}" for one in self.leaks)]
        for head, one in self.verdicts.items():
            lines += [f"  {head}: {one.verdict}", f"    {one.sentence}"]
        if self.quantiles:
            lines += [f"  quantiles: {self.quantiles.verdict}", f"    {self.quantiles.sentence}"]
        if self.costs:
            lines.append(
                "  traded plainly: gross {gross:+.1%} a year, cost {cost:.1%}, net {net:+.1%}, Sharpe ratio "
                "{sharpe:.2f}, turnover {turnover:.0f} times the capital a year".format(**self.costs)
            )
        lines += [f"  copies at other times: {rank.sentence}" for rank in self.ranks.values()]
        for head, gain in self.before_cutoff.items():
            lines.append(f"  {head}, up to the cutoff: gain {gain:+.1%}; what was learned there is no evidence.")
        if self.planted:
            lines.append(f"  a leak planted in a copy: {self.planted['sentence']}")
        for head, rows in self.power.items():
            effects, lengths = (list(dict.fromkeys(row[key] for row in rows)) for key in ("effect", "years"))
            lines.append(f"  how often this test finds a true effect ({head}), by the length of the record:")
            lines.append("    effect     " + "".join(f"{effect:>8.1%}" for effect in effects))
            for years in lengths:
                shares = [row["power"] for row in rows if row["years"] == years]
                lines.append(f"    {years:>5.1f} years" + "".join(f"{share:>8.0%}" for share in shares))
        return lines


@dataclass(frozen=True)
class Judgement:
    """What is said of a file: each of its models, from when to when, and how much was tried on this market."""

    kind: str
    models: Mapping[str, Judged]
    horizon: int | None
    first: str
    last: str
    trials: int | None
    notes: tuple[str, ...] = ()

    @property
    def doubtful(self) -> bool:
        """Whether any model knows later bars or is too good to be true."""
        return any(one.doubtful for one in self.models.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "kind": self.kind, "horizon": self.horizon, "first": self.first, "last": self.last, "trials": self.trials,
            "models": {name: one.to_dict() for name, one in self.models.items()}, "notes": list(self.notes),
            "doubtful": self.doubtful,
        }  # fmt: skip

    def summary(self) -> str:
        """Plain text of at most 100 columns."""
        ahead = f" over {self.horizon} bar{'s' * (self.horizon != 1)}" if self.horizon else ""
        known = "not known" if self.trials is None else f"{self.trials:,}"
        lines = [f"{self.kind}{ahead}, judged from {self.first} to {self.last}; trials on this market: {known}"]
        lines += [line for one in self.models.values() for line in ("", *one.lines())]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(fill(line, 100, subsequent_indent="    ", break_long_words=False) for line in lines)


@checked
def judge_forecasts(
    source: str | Path | Any,
    bars: pl.DataFrame,
    *,
    horizon: int | None = None,
    name: str | None = None,
    cutoff: str | date | None = None,
    copies: int = 199,
    seed: int = 0,
    costs: Costs | None = None,
    schedule: Schedule | None = None,
    volatility_proxy: str = "garman_klass",
    too_good: Collection[str] = (),
    actions: pl.DataFrame | None = None,
    cash: float | None = None,
    progress: Progress | bool | None = None,
) -> Judgement:
    """Anybody's forecasts or daily profits -> verdicts against the simple rivals, and what these rest on.

    Parameters
    ----------
    source, horizon, name: see `evaluation.outside.read_outside`. bars: Bars with the closes and what follows them;
        they should begin two years before the forecasts, since the rivals learn from them.
    cutoff: the last session that the model was trained on: forecasts up to its close are not judged.
    copies: of the forecasts, moved in time, which real ones must beat. seed: decides these.
    costs: of the plain trade of return forecasts or probabilities (None: the usual ones of each class).
    schedule: of the rivals' refits (None: the usual one). volatility_proxy: what answers of variance are made of.
    too_good: heads that may be too good to be true, or "planted" for all, see `Experiment`.
    actions: those that are known. cash: interest a year that profits are judged beyond, 0 where they are excess
        returns already (None: that of one-month bills in dollars). progress: as in `run`.

    Each model is a trial on this market, and is recorded in the ledger of trials.

    Raises
    ------
    SettingsError, BarsFileError for a file that cannot be judged.

    >>> from gatecast.evaluation.ledger import unrecorded
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(900, seed=1)
    >>> guess = bars.select("symbol", "time", direction=0.5 + 0.1 * (pl.col("volume") > pl.col("volume").median()))
    >>> with unrecorded():
    ...     found = judge_forecasts(guess, bars, horizon=1, name="guess", copies=19)
    >>> found.models["guess"].verdicts["direction"].verdict
    'cannot tell'
    """
    if not 0 <= copies <= MOST_COPIES:
        raise SettingsError(f"copies = {copies}: expected 0 to {MOST_COPIES:,}.")
    refuse_lacking(bars)
    if horizon is not None and not 1 <= horizon <= LONGEST_HORIZON:
        raise SettingsError(f"horizon = {horizon}: expected bars ahead, 1 to {LONGEST_HORIZON}.")
    theirs = read_outside(source, bars, horizon=horizon, name=name)
    asked = _Asked(
        facts_of(bars, actions), None if cutoff is None else as_day(cutoff, "cutoff"), copies, seed, costs or Costs(),
        schedule or Schedule(), volatility_proxy, tuple(too_good), cash,
    )  # fmt: skip
    with shown(progress) as told, problems() as unread:
        made = asked.of_profits(theirs) if theirs.kind == PROFITS else asked.of_forecasts(theirs, horizon, told)
    if trials_are_missing(unread):
        models = {key: replace(one, verdicts=with_trials_unknown(one.verdicts)) for key, one in made.models.items()}
        made = replace(made, models=models, trials=None)
    notes = [*made.notes, *dict.fromkeys(unread)]
    if cutoff is None:
        notes.append("What a model was trained on is not known; with a cutoff only what came after it is judged.")
    return replace(made, notes=tuple(notes))


@dataclass(frozen=True)
class _Asked:
    """The market and settings of a judgement, and how each kind of file is judged by them."""

    facts: Facts
    cutoff: date | None
    copies: int
    seed: int
    costs: Costs
    schedule: Schedule
    volatility_proxy: str
    allowed: tuple[str, ...]
    cash: float | None = None

    # ── forecasts and quantiles ───────────────────────────────────────────────────────────────────

    def of_forecasts(self, theirs: Outside, horizon: int | None, told: Progress | None) -> Judgement:
        """Every model of a file, each beside the same rivals."""
        if len(theirs.models) > MOST_MODELS:
            raise SettingsError(
                f"the file has {len(theirs.models):,} models, at most {MOST_MODELS} are judged at once: each is a "
                "trial, and of many the best is good by luck. Give those that you chose between."
            )
        span = horizon or int(theirs.rows["step"].cast(pl.Int64).to_numpy().max())
        table = _medians(theirs.rows) if theirs.kind == QUANTILES else theirs.rows
        table = table.with_columns(model=pl.concat_str(pl.lit(THEIRS), pl.col("model")))
        records = Record.from_table(table, self.facts.bars, horizon=span, volatility_proxy=self.volatility_proxy)
        rivals = self._rivals(next(iter(records.values())).samples, tuple(records))
        whole = {head: record.beside(rivals[head]) for head, record in records.items()}
        judged = {
            name: {
                head: self._judged_rows(_alone(one, name))
                for head, one in whole.items()
                if f"{THEIRS}{name}" in one.forecasts
            }
            for name in theirs.models
        }
        days = [one.day[_scored(one)] for own in judged.values() for one in own.values()]
        if not sum(map(len, days)):
            where = f" after the cutoff {self.cutoff}" if self.cutoff else ""
            raise SettingsError(
                f"no forecast{where} has an answer and a rival beside it: give bars that begin two years before the "
                "forecasts and go on after them."
            )
        books = {name: self._plain_trade(own) for name, own in judged.items()}
        trials = record_trials([self._trial(theirs, name, own, books[name]) for name, own in judged.items()])
        made = dict[str, Judged]()
        for place, (name, own) in enumerate(judged.items()):
            if told:
                told("judging", place, len(judged))
            if theirs.kind == QUANTILES:
                rows = theirs.rows.filter(pl.col("model") == name, pl.col("step") == span)
                made[name] = self._judge_quantiles(name, rows, own, len(trials))
                continue
            one = self._judge(name, own, books[name], trials)
            made[name] = replace(one, before_cutoff=self._gains_before(whole, name))
        if told:
            told("judging", len(judged), len(judged))
        every = np.concatenate(days)
        first, last = str(every.min()), str(every.max())
        return Judgement(theirs.kind, made, span, first, last, max(len(trials), len(made)))

    def _rivals(self, samples: Mapping[str, Samples], heads: Sequence[str]) -> dict[str, Record]:
        """Head -> record of the simple rivals on the same samples, the one in force among them."""
        wanted = {name for head in heads for name in (*RIVALS[head], PLAIN[head])}
        panel = {name: one for name, one in always().items() if name in wanted}
        made = {name: walk_forward(panel, one, self.schedule) for name, one in samples.items()}
        if short := [name for name, one in made.items() if not one.folds]:
            raise SettingsError(
                f"the bars of {', '.join(short)} are too short: the simple rivals learn from {self.schedule.minimum} "
                "of history before their first forecast. Give bars that begin earlier, or leave these out."
            )
        return records_of(made, heads)

    def _judged_rows(self, record: Record) -> Record:
        return record if self.cutoff is None else record.of_rows(record.day > np.datetime64(self.cutoff, "D"))

    def _gains_before(self, records: Mapping[str, Record], model: str) -> dict[str, float]:
        """Head -> gain over the rival in force up to the cutoff."""
        if self.cutoff is None:
            return {}
        gains = {}
        for head, record in records.items():
            if f"{THEIRS}{model}" in record.forecasts:
                own = _alone(record, model).of_rows(record.day <= np.datetime64(self.cutoff, "D"))
                days = day_means(own, ENSEMBLE, RIVAL)
                if len(days.day):
                    gains[head] = float(days.gain.mean() / days.rival.mean())
        return gains

    def _plain_trade(self, records: Mapping[str, Record]) -> Backtest | None:
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
        by_class = [(self.costs.round_trip(one), self.facts.of_class(one).bars_per_year) for one in record.classes]
        trip, years = np.array(by_class)[record.number].T
        size = np.minimum(1.0, TARGET_VOLATILITY / (record.sigma * np.sqrt(years)))
        weight = np.where(np.abs(expected) > trip, np.sign(expected) * size, 0.0)
        rows = np.isfinite(forecast) & np.isfinite(weight)
        if not rows.any():
            return None
        names = np.array(record.symbols, dtype=object)[record.symbol]
        times = pl.Series(record.time[rows]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        weights = pl.DataFrame({"symbol": names[rows].tolist(), "time": times, "weight": weight[rows]})
        return backtest_of(weights.sort("symbol", "time"), self.facts, self.costs)

    def _trial(self, theirs: Outside, model: str, records: Mapping[str, Record], book: Backtest | None) -> Trial:
        """What the ledger keeps of one model of a file."""
        rows = theirs.rows.filter(pl.col("model") == model)
        samples = tuple(next(iter(records.values())).samples.values())
        return self._trial_of(rows, samples, None if book is None else daily_profit(book.equity))

    def _trial_of(self, rows: pl.DataFrame, samples: Sequence[Samples], profit: pl.DataFrame | None) -> Trial:
        bars = self.facts.bars
        days = session_date(bars["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]")
        ratio = float("nan") if profit is None else float(sharpe(profit["net"].to_numpy(), periods_per_year=1))
        rows = rows.drop("model", strict=False)
        return Trial(
            tuple(bars["symbol"].unique().sort().to_list()), str(days.min()), str(days.max()),
            provenance.hash_of({"judged": rows.sort(rows.columns).cast(pl.String).rows()}),
            None if np.isnan(ratio) else ratio, profit, data=provenance.data_of(bars, samples, ()),
        )  # fmt: skip

    def _judge(
        self, name: str, records: Mapping[str, Record], book: Backtest | None, trials: Sequence[Trial]
    ) -> Judged:
        """One model: its verdicts, then what they rest on."""
        facts, (net, held, sessions) = self.facts, _series(book)
        verdicts = judge(
            records, net, held,
            round_trip=float(np.mean([self.costs.round_trip(one) for one in next(iter(records.values())).classes])),
            periods_per_year=book.rows_per_year if book else facts.sessions_per_year, sessions=sessions,
            trials=max(len(trials), 1),
            effective_trials=independent_trials(trials, sessions, held) if book and trials else None,
        )  # fmt: skip
        if book is None:
            del verdicts["strategy"]
        found = [
            *too_good(records, net, held, sessions, facts.sessions_per_year, allowed=self.allowed),
            *(one for head, own in records.items() if (one := self._too_large(head, own))),
        ]
        verdicts = without_what_is_too_good(verdicts, found)
        if book is not None:
            weights = book.bars.select("symbol", "time", "weight")
            verdicts = without_what_dies(verdicts, one_bar_later(records, weights, facts, self.costs))
        leaks = () if PLANTED in self.allowed else leaks_of(records, facts.bars)
        if leaks:
            verdicts = void(verdicts, leaks[0])
        verdicts = {head: undecidable(one, self._most(one, records, net)) for head, one in verdicts.items()}
        ranks = {head: self._rank(records[head]) for head in ABOUT_SIGNS if head in records}
        return Judged(
            name, verdicts, leaks=leaks, planted=planted_leak(records, facts.bars, self.seed),
            power={head: power_of(one, facts.sessions_per_year) for head, one in verdicts.items()},
            ranks={head: one for head, one in ranks.items() if one}, costs=_costs_of(book),
        )  # fmt: skip

    def _too_large(self, head: str, record: Record) -> TooGood | None:
        """What a forecast of variance or turbulence gains over its rival, where more than is believed."""
        if head in ABOUT_SIGNS or {head, PLANTED} & {*self.allowed}:
            return None
        days = day_means(record, ENSEMBLE, RIVAL)
        if len(days.day) < significance.BARS_PER_HORIZON * record.overlap:
            return None
        gain = float(days.gain.mean() / days.rival.mean())
        return TooGood(head, None, f"The gain of the {head} forecast", gain, MOST_GAIN) if gain > MOST_GAIN else None

    def _judge_quantiles(self, name: str, rows: pl.DataFrame, records: Mapping[str, Record], trials: int) -> Judged:
        """One model's quantiles; leaks are looked for in the medians, and in how far the outermost lie from them."""
        leaks = () if PLANTED in self.allowed else leaks_of(records, self.facts.bars)
        leaks = leaks or (() if PLANTED in self.allowed else self._leaks_of_tails(rows))
        found = judge_quantiles(rows, records["return"], trials=max(trials, 1))
        if leaks:
            found = replace(found, verdict=VOID, sentence=f"Void, since a leak was found: {leaks[0]}")
        planted = planted_leak(records, self.facts.bars, self.seed)
        return Judged(name, quantiles=found, leaks=leaks, planted=planted)

    def _leaks_of_tails(self, rows: pl.DataFrame) -> tuple[str, ...]:
        """What the distance of the outermost quantiles from the median knows of later bars."""
        keys = ["symbol", "time"]
        middle = rows.sort((pl.col("quantile") - 0.5).abs()).group_by(keys).first().select(*keys, middle="value")
        found = list[str]()
        for level in np.unique(rows["quantile"].to_numpy())[[0, -1]]:
            tail = rows.filter(pl.col("quantile") == level).join(middle, on=keys)
            tail = tail.select(*keys, _tail=(pl.col("value") - pl.col("middle")).abs())
            for (_,), own in self.facts.bars.sort("symbol", "time").group_by("asset_class", maintain_order=True):
                width = own.select(keys).join(tail, on=keys, how="left", maintain_order="left")["_tail"]
                column = width.fill_null(np.nan).to_numpy()
                logs = np.log(np.where(column > 0, column, np.nan))
                name = f"the distance of the quantile {float(level):g} from the median"
                found += follows(own, logs, name, int(rows["step"][0]))
        return tuple(dict.fromkeys(found))

    def _most(self, verdict: Verdict, records: Mapping[str, Record], net: FloatArray) -> float:
        """The largest effect that is believed, in the unit of the verdict."""
        bars_a_day = self.facts.bars_per_year / self.facts.sessions_per_year
        match verdict.head:
            case "return":
                return r2_limit(records["return"].horizon, bars_a_day)
            case "direction":  # of a Brier score of 1/4
                return 4 * HITS**2
            case "strategy":
                return sharpe_limit(bars_a_day) * float(net.std()) * float(np.sqrt(self.facts.bars_per_year))
        return MOST_GAIN

    def _rank(self, record: Record) -> Rank | None:
        """The place of forecasts among copies of themselves that are moved in time; None without any.

        A copy moves the forecasts of all symbols by the same number of rows, the last ones to the beginning: it keeps
        how they are spread and go together, and loses what they say about what comes next.
        """
        days = day_means(record, ENSEMBLE, RIVAL)
        if self.copies < 1 or len(days.day) < significance.BARS_PER_HORIZON * record.overlap:
            return None
        values = np.asarray(record.forecasts[ENSEMBLE])
        rows = np.flatnonzero(np.isfinite(values))
        rows = rows[np.lexsort((record.time[rows], record.symbol[rows]))]
        parts = np.split(rows, np.flatnonzero(np.diff(record.symbol[rows])) + 1)
        longest, least = max(map(len, parts)), 5 * record.horizon
        draws = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(len(record),)))
        found = []
        for shift in draws.integers(least, max(longest - least, least + 1), size=self.copies):
            moved = values.copy()
            for part in parts:
                moved[part] = np.roll(values[part], int(shift))
            found.append(_statistic(record.with_forecasts(ENSEMBLE, moved)))
        return Rank(record.head, _statistic(record), tuple(found))

    # ── profits ───────────────────────────────────────────────────────────────────────────────────

    def of_profits(self, theirs: Outside) -> Judgement:
        """Daily profits beyond cash beside the mean of the symbols' returns beyond cash."""
        rows = theirs.rows if self.cutoff is None else theirs.rows.filter(pl.col("day") > self.cutoff)
        both = rows.join(_held(self.facts), on="day", how="inner").sort("day")
        if both.is_empty():
            raise SettingsError("no day of the profits is a session of the bars: give bars of their market and span.")
        sessions, per_year = both["day"].to_numpy().astype("datetime64[D]"), self.facts.sessions_per_year
        cash = self._cash(both["day"].to_list())
        net, held = both["net"].to_numpy() - cash, both["held"].to_numpy() - cash
        trials = record_trials([self._trial_of(theirs.rows, (), both.select("net", session="day"))])
        effective = independent_trials(trials, sessions, held) if trials else 1.0
        verdict = judge_strategy(
            net, held, sessions, per_year, trials=max(len(trials), 1), effective_trials=effective
        )  # fmt: skip
        found = too_good({}, net, held, sessions, per_year, allowed=self.allowed)
        leaks = () if {"strategy", PLANTED} & {*self.allowed} else _knows_the_day(net, held)
        verdict = without_what_is_too_good({"strategy": verdict}, found)["strategy"]
        verdict = void({"strategy": verdict}, leaks[0])["strategy"] if leaks else verdict
        verdict = _of_interest(undecidable(verdict, self._most(verdict, {}, net)), net, held, per_year)
        knows = too_good({}, net + KNOWN_SIDES * np.abs(held), held, sessions, per_year)
        said = f"profits with {KNOWN_SIDES:.0%} of the market's moves on the right side"
        few = f"were NOT seen: {len(net)} days are too few."
        planted = {
            "head": "strategy", "seen": bool(knows),
            "sentence": f"{said} {f'were seen: {knows[0].sentence}.' if knows else few} Days that were left out with "
            "hindsight, or the best of many tries, are not seen in profits alone.",
        }  # fmt: skip
        judged = Judged(
            theirs.name, {"strategy": verdict}, leaks=leaks, planted=planted,
            power={"strategy": power_of(verdict, per_year)},
        )  # fmt: skip
        ratio = float(np.nan_to_num(sharpe(net, periods_per_year=per_year)))
        whole, beyond, rate = (each.mean() * per_year for each in (both["net"].to_numpy(), net, cash))
        notes = [
            f"The file: {whole:+.1%} a year, beyond cash ({rate:.1%} a year) {beyond:+.1%}, Sharpe ratio {ratio:.2f}, "
            f"on {len(net):,} days. It is compared with the symbols in equal shares each day, dividends that are known "
            "included."
        ]
        if lost := len(rows) - len(both):
            notes.append(f"{lost} days of the file are no session of the bars, and are left out.")
        return Judgement(
            PROFITS, {theirs.name: judged}, None, str(sessions.min()), str(sessions.max()), verdict.trials,
            tuple(notes),
        )  # fmt: skip

    def _cash(self, days: Sequence[date]) -> FloatArray:
        """(days,) what cash earned since the day before, 0 on the first."""
        return earned_on_cash(days, cash_rates(days) if self.cash is None else np.full(len(days), self.cash))


def _of_interest(verdict: Verdict, net: FloatArray, held: FloatArray, per_year: float) -> Verdict:
    """The verdict; of profits that hardly vary beyond a share of the market, what that means."""
    beta = float(np.cov(net, held)[0, 1] / held.var()) if len(net) > 1 and held.var() > 0 else 0.0
    rest = net - beta * held
    if rest.std() * np.sqrt(per_year) >= LEAST_VOLATILITY:
        return verdict
    gain = float(rest.mean()) * per_year
    about = f"Beyond cash and {beta:.2f} times the market these profits hardly vary, and earn {gain:+.1%} a year"
    if gain > 5 * LEAST_VOLATILITY:
        return replace(verdict, verdict=TOO_GOOD, sentence=f"{about}: no position does that.")
    same = f"{about}: they are cash and a constant share of the market, so that there is no skill to judge."
    return replace(verdict, verdict=CANNOT_TELL, test="none", sentence=same)


def _knows_the_day(net: FloatArray, held: FloatArray) -> tuple[str, ...]:
    """Whether the share of the market that profits imply goes with the same day's move, in a sentence.

    A share that was decided before cannot know the side: its R² is that of a forecast of the day, see `r2_limit`.
    """
    moved = np.abs(held) > LEAST_EXPOSED * np.median(np.abs(held))
    if moved.sum() < LEAST_ROWS or not np.ptp(net[moved]) > 0:
        return ()
    share = net[moved] / held[moved]
    low, high = np.quantile(share, (0.01, 0.99))
    share = np.clip(share, low, high)
    if share.std() <= 1e-9:
        return ()
    correlation = float(np.corrcoef(share, held[moved])[0, 1])
    r2, surely = correlation**2, abs(correlation) - ABOVE / np.sqrt(moved.sum())
    if surely <= np.sqrt(r2_limit(1)) or correlation < 0:
        return ()
    return (
        f"the share of the market that these profits imply goes with the same day's move (R² {r2:.0%}; more than "
        f"{r2_limit(1):.0%} is not believed of a share that was decided before): were days chosen with hindsight, "
        "or is it the profit of options?",
    )


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


def _held(facts: Facts) -> pl.DataFrame:
    """`day` and `held`: the mean over symbols of each session's simple return, dividends that are known included."""
    move = (pl.col("close") / pl.col("close").shift(1)).over("symbol").fill_null(1.0)
    before = pl.col("close").shift(1).over("symbol")
    days = facts.bars.sort("symbol", "time").with_columns(day=session_date(pl.col("time")), move=move, before=before)
    daily = days.group_by("symbol", "day", maintain_order=True).agg(
        pl.col("move").product() - 1, pl.col("before").first()
    )
    gifts = (
        facts.actions.filter(pl.col("kind").is_in(GIVES_CASH)).group_by("symbol", day="date").agg(pl.col("value").sum())
    )
    daily = daily.join(gifts, on=["symbol", "day"], how="left")
    total = pl.col("move") + (pl.col("value") / pl.col("before")).fill_null(0.0)
    return daily.group_by("day").agg(held=total.mean()).sort("day")
