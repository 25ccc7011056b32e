"""Two runs side by side: paired daily differences of loss, of money and of the book, settings and data, trials spent.

The books are made again from the forecasts of each run (`Run.stored`): a folder keeps what was held, not each session's
return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import GatecastError, SettingsError
from gatecast.evaluation.conclusion import in_percent
from gatecast.evaluation.ledger import daily_profit
from gatecast.evaluation.paired import LEVEL, Paired, paired
from gatecast.evaluation.record import Record
from gatecast.evaluation.risk import LEAST_SESSIONS, LEAST_SQUARE, WINDOW
from gatecast.evaluation.verdict import NAMES
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE, RIVALS
from gatecast.metrics import significance
from gatecast.metrics.forecast import qlike_losses
from gatecast.metrics.risk import certain_values, volatility_ratios
from gatecast.notebook import Shown, draw_intervals, number_text
from gatecast.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

FIRST, SECOND = "first", "second"
MONEY, BOOK, CONTROL, VARIANCE = "money", "book", "control", "book_variance"
BETTER, WORSE, NO_DIFFERENCE, THE_SAME = (
    "the second is better",
    "the first is better",
    "no difference shown",
    "the same",
)
LEAST_DAYS = 60
"""Days with a profit in both runs, before their money is compared."""
TITLES = {
    **NAMES, MONEY: "Money of the strategies", BOOK: "Money of the book", CONTROL: "Control of the book's volatility",
    VARIANCE: "The forecast of the book's variance",
}  # fmt: skip
UNITS = {
    MONEY: "certainty equivalent a year", BOOK: "certainty equivalent a year",
    CONTROL: "of the variation of realised over forecast volatility taken away",
}  # fmt: skip
"""What an effect is; of the others a share of the first run's loss."""
LEAST_WINDOWS = 24
"""Windows of 21 sessions in which both books moved, two years, before their control is compared."""
LEAST_VARIANCE = 1e-12
LONGEST_VALUE = 60
"""Characters of a setting's value in a line of text."""


@dataclass(frozen=True)
class Difference:
    """What the second run has over the first in one head, in money or in its book.

    `of`: a head; "money" of the strategies; "book": money of the book; "control": how far realised lay from forecast
    volatility of the book; "book_variance": QLIKE of its variance. `effect` with its 90 % interval: share of the first
    run's loss that the second saves; of money, the difference of certainty equivalents a year; of control, the log of
    the first run's variation over the second's. `pvalue`: two-sided; `pvalue_holm`: corrected for all that is compared.
    `detectable`: the smallest difference that so many days (`n`) show in four of five cases. `outcome`: which is
    better, if any.
    """

    of: str
    effect: float
    low: float
    high: float
    pvalue: float
    n: int
    detectable: float
    pvalue_holm: float = float("nan")
    outcome: str = NO_DIFFERENCE
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The difference in words."""
        name = TITLES[self.of]
        if self.reason:
            return f"{name}: {self.reason}"
        if self.outcome == THE_SAME:
            return f"{name}: the same in both on all {self.n:,} days."
        what = UNITS.get(self.of, "of the first run's loss")
        gain = in_percent(self.effect, self.low, self.high)
        alone, corrected = (number_text(one, ".3f") for one in (self.pvalue, self.pvalue_holm))
        return (
            f"{name}: {self.outcome}; the second against the first {gain} {what}; p {alone} uncorrected, as the "
            f"interval, and {corrected} after Holm's correction, which decides; {self.n:,} days show a difference of "
            f"{number_text(self.detectable, '.2%')}."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = jsonable({**asdict(self), "sentence": self.sentence})
        return found


@dataclass(frozen=True)
class Comparison(Shown):
    """Two runs: what differs in what they forecast and earned, in their settings and in their data.

    `settings`: name -> the first run's value and the second's, of those that differ. `data`: symbols, first and last
    bar, number of bars and hash of each, and the rows that both have with the same close. `trials`: of each run, as its
    own record says.
    """

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    settings: Mapping[str, tuple[Any, Any]]
    data: Mapping[str, Any]
    trials: tuple[int | None, int | None]

    @property
    def differs(self) -> bool:
        """Whether anything is significantly better or worse."""
        return any(one.outcome in (BETTER, WORSE) for one in self.differences)

    def plot(self) -> Any:
        """A Plotly figure: each difference with its 90 % interval; above 0 the second run is better."""
        rows = [(TITLES[one.of], one.effect, one.low, one.high) for one in self.differences if not one.reason]
        return draw_intervals(rows, f"{self.names[1]} against {self.names[0]}", "gain of the second")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = jsonable(
            {
                FIRST: self.names[0], SECOND: self.names[1], "differs": self.differs,
                "differences": [one.to_dict() for one in self.differences],
                "settings": {name: {FIRST: one, SECOND: other} for name, (one, other) in self.settings.items()},
                "data": dict(self.data), "trials": dict(zip((FIRST, SECOND), self.trials, strict=True)),
            }
        )  # fmt: skip
        return found

    def summary(self) -> str:
        """Plain text: outcomes, then settings and data that differ."""
        known = ["not known" if one is None else f"{one:,}" for one in self.trials]
        lines = [
            f"first: {self.names[0]}; second: {self.names[1]}; trials on their markets when each was "
            f"run: {known[0]} and {known[1]}",
            *(one.sentence for one in self.differences),
        ]
        lines += [f"{name}: {_short(one)} -> {_short(other)}" for name, (one, other) in self.settings.items()]
        if not self.settings:
            lines.append("The settings are the same.")
        first, second = self.data[FIRST], self.data[SECOND]
        if first["hash"] == second["hash"]:
            lines.append("The bars are the same.")
        else:
            lines.append(
                f"Bars: {first['bars']:,} of {first['symbols']} symbols to {first['last']}, and {second['bars']:,} of "
                f"{second['symbols']} to {second['last']}; compared on the {self.data['common']:,} that both have."
            )
        return "\n".join(lines)


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


@checked
def compare(
    first: Run, second: Run, names: tuple[str, str] | None = None, *, progress: Progress | bool | None = None
) -> Comparison:
    """Two runs, such as `gatecast.load_run` reads, -> what the second has over the first.

    Each head's ensemble is compared day by day on the closes at which both forecast and the bars are the same; money by
    the daily net returns of the strategies. The two books are compared on the sessions of both:

    - money: certainty equivalents mean(r - γ r²/2), γ = 2, of net returns beyond cash;
    - control: standard deviation of the log of realised over forecast volatility in windows of 21 sessions;
    - variance: QLIKE of the variance that was forecast of what each held, against the square of what it earned.

    Tests are two-sided with fixed-b critical values (HAC intervals), corrected by Holm over all that is compared. What
    cannot be compared is left out, with the reason: heads where horizons or the measure of variance differ, books where
    one run has none.

    `names`: what they are called; None: their experiments' names. `progress`: as in `run`. Raises `SettingsError` where
    no row is in both.

    >>> from gatecast.evaluation.ledger import unrecorded
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None}
    >>> with unrecorded():
    ...     one = run(Experiment(bars=synthetic.a1(800, seed=1), schedule={"refit": "1Y"}, **few))
    >>> compare(one, one).differs
    False
    """
    bars = _common(first.bars, second.bars)
    if bars.is_empty():
        raise SettingsError("the two runs have no bar in common: compare runs on the same symbols and span.")
    with shown(progress) as told:
        books = _books(first, second, told)
    found = _corrected([*_heads(first, second, bars), _money(first, second), *books])
    data = {FIRST: _data(first), SECOND: _data(second), "common": len(bars)}
    named = names or (first.experiment.name, second.experiment.name)
    return Comparison(named, tuple(found), _settings(first, second), data, (_trials(first), _trials(second)))


def _trials(run: Run) -> int | None:
    count = (run.scores.get("trials") or {}).get("count")
    return count if isinstance(count, int) else None


def _data(run: Run) -> dict[str, Any]:
    times = run.bars["time"]
    return {
        "symbols": run.bars["symbol"].n_unique(), "bars": len(run.bars), "first": str(times.min())[:10],
        "last": str(times.max())[:10], "hash": run.provenance.get("data_hash"),
    }  # fmt: skip


def _common(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """The first run's bars that the second has too, of the same class and at the same close."""
    keys = ["symbol", "time", "asset_class", "close"]
    return first.join(second.select(keys), on=keys, how="semi").sort("symbol", "time")


def _settings(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Setting -> both values, of those that differ; the names of runs are none."""
    one, other = (_flat(run.experiment.to_dict()) for run in (first, second))
    names = [name for name in {**one, **other} if name != "name" and one.get(name) != other.get(name)]
    return {name: (one.get(name), other.get(name)) for name in names}


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat = dict[str, Any]()
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _heads(first: Run, second: Run, bars: pl.DataFrame) -> list[Difference]:
    """The differences of the ensembles' losses, head by head."""
    horizons = [run.experiment.horizon for run in (first, second)]
    if horizons[0] != horizons[1]:
        reason = f"the horizons differ, {horizons[0]} and {horizons[1]} bars: there is nothing to pair."
        return [_none(head, reason) for head in RIVALS]
    keys = bars.select("symbol", "time")
    parts = [
        run.scan_forecasts()
        .filter(pl.col("model") == ENSEMBLE, pl.col("head").is_in(list(RIVALS)))
        .filter(pl.col("step") == horizons[0])
        .select("symbol", "time", "head", "step", "value", model=pl.lit(name))
        .collect()
        .join(keys, on=["symbol", "time"], how="semi")
        .drop_nulls("value")
        for name, run in ((FIRST, first), (SECOND, second))
    ]
    proxies = {run.experiment.volatility_proxy for run in (first, second)}
    table = pl.concat(parts).with_columns(pl.col("step").cast(pl.Int64))
    if table.is_empty():
        raise SettingsError("the two runs forecast nothing at the same closes: compare runs on the same span.")
    records = Record.from_table(table, bars, horizon=horizons[0], volatility_proxy=first.experiment.volatility_proxy)
    found = []
    for head in RIVALS:
        if head not in records:
            found.append(_none(head, "neither run forecasts it."))
        elif head in ("volatility", "regime") and len(proxies) > 1:
            found.append(_none(head, f"variance is measured by {' and by '.join(sorted(proxies))}: nothing to pair."))
        else:
            found.append(_head(head, paired(records[head], SECOND, FIRST)))
    return found


def _none(of: str, reason: str) -> Difference:
    nan = float("nan")
    return Difference(of, nan, nan, nan, nan, 0, nan, reason=reason)


def _head(head: str, both: Paired) -> Difference:
    if both.n == 0:
        return _none(head, "no day on which both forecast it.")
    if both.same:
        return _same(head, both.n)
    return _difference(head, _mean(both.days.gain, both.overlap), both.loss_against, both.n)


def _mean(steps: FloatArray, overlap: int = 1) -> significance.FixedB:
    """The mean of daily differences, its variance over a tenth of the days.

    Two runs may differ the same way for weeks, whatever the overlap of the answers: with a reach of 10 days 14 to 16 of
    100 simulated pairs of equally good forecasts of a regime that lasts differed at 5 %, with this one 5 to 7.
    """
    return significance.fixed_b_mean(steps, max(overlap, len(steps) // 100 + 1))


def _difference(of: str, test: significance.FixedB, scale: float, n: int) -> Difference:
    """A tested mean difference, in units of `scale`."""
    two_sided = min(1.0, 2 * min(test.pvalue, 1 - test.pvalue)) if np.isfinite(test.pvalue) else float("nan")
    return Difference(
        of, test.effect / scale, test.low / scale, test.high / scale, two_sided, n, test.detectable / scale
    )


def _money(first: Run, second: Run) -> Difference:
    """The difference of certainty equivalents of what strategies earned net, on the days of both."""
    one, other = (daily_profit(run.equity) for run in (first, second))
    both = one.join(other, on="session", suffix=_SECOND, how="inner").sort("session")
    return _worth(MONEY, *_columns(both, "net"), both["session"])


def _worth(of: str, first: FloatArray, second: FloatArray, days: pl.Series) -> Difference:
    """The difference of certainty equivalents a year of two series of daily returns."""
    if len(days) and np.array_equal(first, second):
        return _same(of, len(days))
    if np.count_nonzero((first != 0) & (second != 0)) < LEAST_DAYS:
        held = [int(np.count_nonzero(one)) for one in (first, second)]
        return _none(of, f"a position was held on {held[0]} and {held[1]} of {len(days):,} days: too few to compare.")
    worth = [certain_values(returns) for returns in (first, second)]
    test = _mean(worth[1] - worth[0])
    per_year = len(days) / max((days[-1] - days[0]).days / 365.25, 1e-9)
    return _difference(of, test, 1 / per_year, len(days))


def _books(first: Run, second: Run, told: Progress | None) -> list[Difference]:
    """The differences of the two books, on the sessions of both."""
    of, lines = (BOOK, CONTROL, VARIANCE), list[pl.DataFrame]()
    for place, (name, run) in enumerate(((FIRST, first), (SECOND, second))):
        if told:
            told("books", place, 2)
        if run.experiment.book.core.kind == "none":
            return [_none(one, f"the {name} run's book has no core.") for one in of]
        try:
            line = run.stored.itself.line
        except GatecastError as error:
            return [_none(one, f"the {name} run's book cannot be made again: {error}") for one in of]
        if line is None:
            return [_none(one, f"the {name} run has no book: nothing of its core was forecast.") for one in of]
        lines.append(line.frame.select("day", "excess", "earned", variance=pl.col("expected") * pl.col("level") ** 2))
    if told:
        told("books", 2, 2)
    both = lines[0].join(lines[1], on="day", suffix=_SECOND, how="inner").sort("day")
    moved = both.filter(*(pl.col(f"{name}{one}").is_finite() for name in ("earned", "variance") for one in _BOTH))
    moved = moved.filter(*(pl.col(f"variance{one}") > 0 for one in _BOTH))
    return [_worth(BOOK, *_columns(both, "excess"), both["day"]), _control(moved), _variance(moved)]


_SECOND = "_second"
_BOTH = ("", _SECOND)
"""Endings of the columns of the first and of the second run."""


def _columns(both: pl.DataFrame, name: str) -> tuple[FloatArray, FloatArray]:
    """A column of the first run and of the second."""
    return both[name].to_numpy(), both[f"{name}{_SECOND}"].to_numpy()


def _control(both: pl.DataFrame) -> Difference:
    """The log of the first variation of realised over forecast volatility over the second, in separate windows."""
    if len(both) < LEAST_SESSIONS:
        return _none(CONTROL, _few(len(both)))
    earned, variance = _columns(both, "earned"), _columns(both, "variance")
    if all(np.array_equal(one, other) for one, other in (earned, variance)):
        return _same(CONTROL, len(both))
    ratios = [
        volatility_ratios(one, np.sqrt(other), WINDOW)[::-WINDOW] for one, other in zip(earned, variance, strict=True)
    ]
    moved = (ratios[0] > 0) & (ratios[1] > 0)
    if np.count_nonzero(moved) < LEAST_WINDOWS:
        return _none(CONTROL, f"both books moved in {moved.sum()} windows, {LEAST_WINDOWS} are needed.")
    mine, other = (log_spreads(np.log(one[moved][::-1])) for one in ratios)
    return _difference(CONTROL, significance.fixed_b_mean(mine - other), 1.0, len(both))


def log_spreads(values: FloatArray) -> FloatArray:
    """(windows,) pseudo-values of the log of the standard deviation: their mean is its jackknife estimate.

    Of 1,500 simulated pairs of equally good forecasts 4 to 6 in 100 were said to differ at 5 % by the difference of
    these, 6 to 8 by that of standard deviations over means with the delta method.

    >>> values = np.random.default_rng(0).standard_normal(50)
    >>> bool(abs(log_spreads(3 * values).mean() - log_spreads(values).mean() - np.log(3)) < 1e-12)
    True
    """
    count = len(values)
    mean = (values.sum() - values) / (count - 1)
    variance = ((values**2).sum() - values**2) / (count - 1) - mean**2
    without = np.log(np.maximum(variance, LEAST_VARIANCE)) / 2
    return np.asarray(count * np.log(values.std()) - (count - 1) * without, np.float64)


def _variance(both: pl.DataFrame) -> Difference:
    """What the second run saves of the first one's QLIKE of the variance of its book."""
    if len(both) < LEAST_SESSIONS:
        return _none(VARIANCE, _few(len(both)))
    losses = [
        qlike_losses(np.maximum(earned**2, LEAST_SQUARE * np.mean(earned**2)), variance)
        for earned, variance in zip(_columns(both, "earned"), _columns(both, "variance"), strict=True)
    ]
    if np.array_equal(losses[0], losses[1]):
        return _same(VARIANCE, len(both))
    return _difference(VARIANCE, _mean(losses[0] - losses[1]), float(losses[0].mean()), len(both))


def _few(sessions: int) -> str:
    return f"both books held something in {sessions} sessions, {LEAST_SESSIONS} are needed."


def _same(of: str, n: int) -> Difference:
    return Difference(of, 0.0, 0.0, 0.0, float("nan"), n, 0.0, outcome=THE_SAME)


def _corrected(found: list[Difference]) -> list[Difference]:
    """The differences with p-values after Holm, and their outcomes."""
    tested = [place for place, one in enumerate(found) if np.isfinite(one.pvalue)]
    holm = significance.holm(np.array([found[place].pvalue for place in tested])) if tested else np.zeros(0)
    for place, pvalue in zip(tested, holm, strict=True):
        one = found[place]
        claim = pvalue < LEVEL
        outcome = NO_DIFFERENCE if not claim else BETTER if one.effect > 0 else WORSE
        found[place] = replace(one, pvalue_holm=float(pvalue), outcome=outcome)
    return found
