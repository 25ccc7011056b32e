"""GARCH and GJR-GARCH with t innovations: the textbook's forecasts of variance from returns alone, a model a symbol.

Bollerslev (1987), Review of Economics and Statistics 69; Glosten, Jagannathan and Runkle (1993), Journal of Finance 48.
The parameters are `arch`'s maximum likelihood; between its fits, bar by bar, the variance is filtered forward here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.models.histories import histories_between, histories_until
from gatecast.forecasting.schedule import Fold
from gatecast.forecasting.stored import array_of, symbols_in
from gatecast.libraries import without_matplotlib
from gatecast.samples.targets import decode
from gatecast.settings import MOST_BARS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class GarchModel:
    """A bar's variance: omega + (alpha + gamma where e < 0) e² + beta · variance, all of the bar before it.

    `e` is the return less `mean`. `start` stands for the e² and the variance before the first return.
    """

    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    start: float

    def next_variance(self, returns: FloatArray) -> FloatArray:
        """(bars,) the variance of the bar **after** each, given the returns (bars,) of one unbroken history up to it.

        The first return of a history is not known: NaN.

        >>> GarchModel(0.0, 0.1, 0.1, 0.2, 0.6, 1.0).next_variance(np.array([np.nan, 2.0, -2.0])).round(3).tolist()
        [0.9, 1.04, 1.924]
        """
        from scipy.signal import lfilter

        error = returns - self.mean
        shock = (self.alpha + self.gamma * (error < 0)) * error**2
        shock[np.isnan(shock)] = (self.alpha + self.gamma / 2) * self.start
        variance, _ = lfilter([1.0], [1.0, -self.beta], self.omega + shock, zi=[self.beta * self.start])
        return np.asarray(variance, dtype=np.float64)

    def expected_square(self, variance: FloatArray, horizon: int) -> FloatArray:
        """The mean sum of squared returns over the next `horizon` bars, given the variance of the next one.

        >>> GarchModel(0.0, 0.1, 0.1, 0.2, 0.6, 1.0).expected_square(np.array([1.0]), 2).round(3).tolist()
        [1.9]
        """
        persistence = self.alpha + self.gamma / 2 + self.beta
        total, ahead = np.zeros(len(variance)), variance
        for _ in range(horizon):
            total = total + ahead
            ahead = self.omega + persistence * ahead
        return total + horizon * self.mean**2


def fit_garch(returns: FloatArray, *, asymmetric: bool = False) -> GarchModel | None:
    """Maximum likelihood of a GARCH(1,1) with t innovations on (bars,) returns; with `asymmetric` a GJR-GARCH(1,1,1).

    None where most returns do not vary, or the climb does not arrive at a top that makes sense.

    >>> draw = np.random.default_rng(0)
    >>> fit_garch(np.zeros(1000)) is None
    True
    """
    with without_matplotlib():
        from arch import arch_model

    scale = float(np.std(returns)) if len(returns) else 0.0
    if not np.isfinite(scale) or scale < 1e-9:
        return None
    if float(np.median(np.abs(returns - np.median(returns)))) < 1e-6 * scale:
        return None  # all the variance is in a few jumps
    model = arch_model(returns / scale, mean="Constant", p=1, o=int(asymmetric), q=1, dist="t", rescale=False)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = model.fit(disp="off", show_warning=False, backcast=1.0)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            return None
    learned = found.params
    if found.convergence_flag != 0 or not np.isfinite(learned).all() or abs(learned["mu"]) > 1:
        return None  # a mean beyond one standard deviation is no mean
    square = scale**2
    return GarchModel(
        float(learned["mu"]) * scale, float(learned["omega"]) * square, float(learned["alpha[1]"]),
        float(learned.get("gamma[1]", 0.0)), float(learned["beta[1]"]), square,
    )  # fmt: skip


def known_returns(fold: Fold) -> list[FloatArray]:
    """For each symbol all its returns, (bars,), that are known at the fold's cutoff; histories one after the other."""
    samples = fold.data
    decided = samples.decided[fold.record]
    found = []
    for number in range(len(samples.symbols)):
        mine = decided[samples.symbol[decided] == number]
        first = int(np.searchsorted(samples.symbol, number))
        last = int(mine.max()) + samples.horizon + 1 if len(mine) else first  # with the bars of its last answer
        parts = [returns[1:] for _, returns in histories_between(samples, first, last)]
        found.append(np.concatenate([np.zeros(0), *parts]))
    return found


@dataclass(frozen=True)
class FittedGarch:
    """A model for each of `symbols`; None where the trailing variance has to do."""

    models: tuple[GarchModel | None, ...]
    symbols: tuple[str, ...]

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        ends, facts = samples.ends[rows], samples.facts
        expected = np.full(len(samples.time), np.nan)
        for number, begin, returns in histories_until(samples, ends, self.symbols):
            model = self.models[number]
            if model is not None:
                until = slice(begin, begin + len(returns))
                expected[until] = model.expected_square(model.next_variance(returns), samples.horizon)
        over_trailing = np.log(expected[ends] / (samples.horizon * facts.sigma[ends] ** 2))
        over_trailing[np.isnan(over_trailing)] = 0.0
        return {"volatility": decode("volatility", over_trailing, facts.sigma[ends], facts.baseline[ends])}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store; a missing model is NaN."""
        table = [[np.nan] * 6 if model is None else astuple(model) for model in self.models]
        return {"table": np.array(table).reshape(-1, 6)}, {"symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedGarch:
        """The inverse of `state`."""
        symbols = symbols_in(settings)
        table = array_of(arrays, "table", len(symbols), 6, nan=True)
        return cls(tuple(None if np.isnan(row).any() else GarchModel(*row) for row in table.tolist()), symbols)


@FORECASTERS.add
class Garch(Forecaster):
    """GARCH(1,1), or with `asymmetric` GJR-GARCH(1,1,1), with t innovations, one for each symbol.

    The parameters are fitted at every `every`-th refit on all returns known by then; in between the variance goes on
    from bar to bar with the parameters in force. It is brought to the proxy's unit by `Facts.ratio`. A symbol with
    fewer than `minimum` returns, or whose likelihood has no clear top, is forecast by its trailing variance (EWMA).

    >>> Garch().name, Garch(asymmetric=True).name
    ('garch', 'gjr')
    """

    kind: ClassVar = "garch"
    traits: ClassVar = Traits(
        "GARCH-t", ("volatility",), Seconds(1e-3, 0, 7e-7, parallel=True), member_of=("volatility",)
    )
    fitted: ClassVar = FittedGarch

    every: Annotated[int, Field(ge=1, le=1000)] = 12
    """refits from one fit of the parameters to the next; the variance goes on bar by bar"""
    minimum: Annotated[int, Field(ge=100, le=MOST_BARS)] = 500
    """returns that a symbol needs; with fewer it is forecast by its trailing variance"""
    asymmetric: bool = False
    """GJR-GARCH instead of GARCH"""

    @property
    def name(self) -> str:
        """`garch` or `gjr`."""
        return "gjr" if self.asymmetric else "garch"

    def title(self) -> str:
        """GARCH or GJR-GARCH, with t innovations."""
        return "GJR-GARCH-t" if self.asymmetric else self.traits.title

    def member_heads(self) -> tuple[str, ...]:
        """One of the two, as they say nearly the same."""
        return () if self.asymmetric else self.traits.member_of

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedGarch]:
        """A fit of every symbol at every `every`-th fold, kept for the folds that follow it."""
        return fit_every(
            self._fit, folds, self.every, task, from_fold=lambda fold: (known_returns(fold), fold.data.symbols),
            jobs=task.jobs, processes=True,
        )  # fmt: skip

    def _fit(self, known: tuple[list[FloatArray], tuple[str, ...]]) -> FittedGarch:
        models = tuple(
            fit_garch(returns, asymmetric=self.asymmetric) if len(returns) >= self.minimum else None
            for returns in known[0]
        )
        return FittedGarch(models, known[1])
