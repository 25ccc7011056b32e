"""The core: what is held whatever is forecast of returns. Returns of sessions -> weights of names, refreshed monthly.

The default is long alone, with equal risk contributions within each asset class and then between the classes' own
portfolios. How large the core is, in money, is for the forecasts of volatility to say (`gatecast.trading.sizing`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gatecast.errors import BarsFileError, SettingsError, cut, did_you_mean, shown
from gatecast.market.spellings import snake
from gatecast.market.tables import is_file, read_tables, shown_path
from gatecast.settings import MOST_BARS, Settings
from gatecast.trading.covariance import Ewma, decay_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LEFT_OUT = ("fx", "commodity", "metal")
"""Classes whose symbols are held where they are named alone: nobody is paid for holding a currency or one commodity.

So is a symbol of any class whose price is the rate of another's currency, as USDT-USD of a share priced in USDT.
"""
MOST_STEPS = 200
ACCURATE = 1e-13
"""Relative change of the weights at which the solver stops."""


class Core(Settings):
    """What the book holds whatever is forecast of returns.

    >>> Core(kind="weights", weights={"A": 0.8, "B": 0.7})
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Core: weights add up to 1.5 in absolute value; at most 1 is taken. Give smaller \
ones: how large the core is in money is made from forecasts of volatility.
    """

    kind: Literal["equal_risk", "weights", "none"] = "equal_risk"
    """what is held; equal_risk: long, equal risk by class, then equal risk within; weights: those of `weights` or
    `file`"""
    file: str | None = Field(default=None, examples=["weights.csv"])
    """a table of symbol and weight, with kind = "weights"; together at most 1 in absolute value"""
    weights: dict[str, Annotated[float, Field(ge=-1, le=1)]] | None = Field(default=None, examples=[{"SPY": 0.6}])
    """symbol and share of the core, with kind = "weights", instead of a file"""
    also: tuple[str, ...] = ()
    """symbols or asset classes that equal_risk holds as well; fx, commodity, metal, and a symbol that is the rate of
    another's currency (a coin such as USDT-USD), are left out unless named here"""
    half_life_sessions: Annotated[float, Field(ge=5, le=MOST_BARS)] = 250
    """sessions after which a product of returns counts half in the covariance of equal_risk"""
    minimum_sessions: Annotated[int, Field(ge=2, le=MOST_BARS)] = 60
    """sessions of record before equal_risk holds a symbol"""

    @model_validator(mode="after")
    def _weights_where_they_count(self) -> Self:
        if (self.kind == "weights") != ((self.weights is not None) + (self.file is not None) == 1):
            raise ValueError('kind = "weights" needs either `weights` or `file`, and no other kind takes them')
        total = sum(abs(weight) for weight in (self.weights or {}).values())
        if total > 1 + 1e-9:
            raise ValueError(
                f"weights add up to {total:.6g} in absolute value; at most 1 is taken. Give smaller ones: how large "
                "the core is in money is made from forecasts of volatility."
            )
        return self

    def with_file_read(self) -> Self:
        """The same with the weights of the file, where the settings name one."""
        return self if self.file is None else self.replace(file=None, weights=read_weights(self.file))

    def refuse_unknown(self, symbols: Collection[str], classes: Collection[str]) -> None:
        """Raises `SettingsError` for a symbol or class of the settings that the bars do not have."""
        for name in (*(self.weights or ()), *self.also):
            if name not in symbols and name not in classes and name not in LEFT_OUT:
                raise SettingsError(f"core: the bars have no symbol {name!r}. {did_you_mean(name, symbols)}")

    def holds(self, name: str, asset_class: str, converts: bool = False) -> bool:
        """Whether equal_risk may hold a symbol; `converts`: whether its price is the rate of another's currency.

        >>> Core().holds("EURUSD", "fx"), Core(also=("EURUSD",)).holds("EURUSD", "fx"), Core().holds("KO", "equity")
        (False, True, True)
        >>> Core().holds("USDT-USD", "crypto"), Core().holds("USDT-USD", "crypto", converts=True)
        (True, False)
        """
        usual = asset_class not in LEFT_OUT and not converts
        return usual or name in self.also or asset_class in self.also

    def may_hold(self, names: Sequence[str], classes: Sequence[str], converts: BoolArray) -> BoolArray:
        """(..., names) `holds` of each; `converts`: of the same shape."""
        pairs = list(zip(names, classes, strict=True))
        usual, as_rate = (np.array([self.holds(*pair, rate) for pair in pairs], np.bool_) for rate in (False, True))
        return np.where(converts, as_rate, usual)


def read_weights(path: str | Path) -> dict[str, float]:
    """A CSV or Parquet file with the columns symbol and weight -> symbol to weight.

    Raises `BarsFileError` with line, column and value for what is no number from -1 to 1, and for a symbol twice.
    """
    if not is_file(path):
        raise BarsFileError("there is no such file of weights.", file=shown_path(path), advice="Check the path.")
    tables = read_tables(Path(path), holds="symbols and their weights")
    columns = {snake(name): name for name in reversed(tables[0].frame.columns)}
    if not {"symbol", "weight"} <= columns.keys():
        found = cut(", ".join(map(cut, tables[0].frame.columns)), 500)
        advice = "It needs the columns symbol and weight."
        raise BarsFileError(f"no file of weights; found: {found}.", file=path, line=1, advice=advice)
    rows = tables[0].frame.select(symbol=columns["symbol"], text=columns["weight"])
    for name, kind in zip(("symbol", "weight"), rows.dtypes, strict=True):
        if kind.is_nested() or kind in (pl.Object, pl.Binary):
            advice = "Convert it to text or numbers."
            raise BarsFileError(f"the column holds {kind}.", file=path, column=columns[name], advice=advice)
    rows = rows.cast(pl.String).with_columns(pl.col("symbol", "text").str.strip_chars())
    rows = rows.with_columns(weight=pl.col("text").cast(pl.Float64, strict=False))
    weights: dict[str, float] = {}
    for line, (symbol, text, weight) in enumerate(rows.iter_rows(), tables[0].first_line):
        if symbol is None and text is None:
            continue
        if not symbol or weight is None or not -1 <= weight <= 1:
            raise BarsFileError(
                "expected a symbol and a number from -1 to 1.", file=path, line=line, column=columns["weight"],
                value=text, advice="Weights are shares of the core, such as 0.25.",
            )  # fmt: skip
        if symbol in weights:
            raise BarsFileError(
                f"{shown(symbol)} has a weight in a line before.", file=path, line=line, column=columns["symbol"],
                value=symbol, advice="Keep one of the lines.",
            )  # fmt: skip
        weights[symbol] = weight
    return weights


@dataclass(frozen=True)
class CoreState:
    """The core at the close of a session; another session makes another one.

    `names`, `classes`: (names,) symbol and asset class. `ewma`: the covariance of their returns. `weights`: (names,)
    decided at this close, from 0 to 1 in all unless the settings name others. `month`: months since year 0 of the last
    refresh, -1 before the first.

    >>> state = CoreState.start(("A", "B"), ("etf", "etf"), Core(kind="weights", weights={"A": 0.6}))
    >>> state.after(date(2024, 1, 2), np.zeros(2), np.array([True, True]), Core(kind="none")).weights.tolist()
    [0.0, 0.0]
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    ewma: Ewma
    weights: FloatArray
    month: int = -1

    @classmethod
    def start(cls, names: Sequence[str], classes: Sequence[str], settings: Core) -> Self:
        """Before the first session."""
        ewma = Ewma.start(names, settings.half_life_sessions)
        return cls(tuple(names), tuple(classes), ewma, np.zeros(len(names)))

    def among(self, names: Sequence[str], classes: Sequence[str]) -> Self:
        """The same for these names in this order; one that is new has no session yet, and no weight."""
        before = dict(zip(self.names, self.weights.tolist(), strict=True))
        weights = np.array([before.get(name, 0.0) for name in names])
        return replace(
            self, names=tuple(names), classes=tuple(classes), ewma=self.ewma.among(names), weights=weights
        )  # fmt: skip

    def after(
        self, session: date, returns: FloatArray, listed: BoolArray, settings: Core,
        converts: BoolArray | None = None,
    ) -> Self:  # fmt: skip
        """The core at the close of the next session.

        `returns`: (names,) of the session, NaN where there is no bar. `listed`: (names,) whether the symbol has begun
        and its end is not known at this close. `converts`: (names,) see `Core.holds`; None: of none. At the
        first session of a month all weights are made anew; in between they stay, and a symbol that has ended leaves.
        """
        ewma, month = self.ewma.after(returns), session.year * 12 + session.month
        if month == self.month:
            return replace(self, ewma=ewma, weights=np.where(listed, self.weights, 0.0))
        weights = core_weights(ewma, self.classes, listed, settings, converts)
        return replace(self, ewma=ewma, weights=weights, month=month)


def core_weights(
    ewma: Ewma, classes: Sequence[str], listed: BoolArray, settings: Core, converts: BoolArray | None = None
) -> FloatArray:  # fmt: skip
    """(names,) weights of the core from the covariance of returns up to a close; see `CoreState`."""
    weights = np.zeros(len(classes))
    if settings.kind == "none":
        return weights
    if settings.kind == "weights":
        named = settings.weights or {}  # of a file: see `Core.with_file_read`
        return np.where(listed, [named.get(name, 0.0) for name in ewma.names], 0.0)
    decay = decay_of(settings.half_life_sessions)
    enough = (1 - decay**settings.minimum_sessions) / (1 - decay) * (1 - 1e-9)
    usable = listed & (ewma.sessions >= enough) & (np.diag(ewma.sums.total) > 0)
    rates = np.zeros(len(classes), np.bool_) if converts is None else converts
    which = np.flatnonzero(usable & settings.may_hold(ewma.names, classes, rates))
    if not len(which):
        return weights
    weights[which] = equal_risk_by_class(ewma.covariance(which), [classes[place] for place in which.tolist()])
    return weights


def equal_risk_by_class(covariance: FloatArray, classes: Sequence[str]) -> FloatArray:
    """(names, names) covariance -> (names,) weights above 0 that add up to 1.

    Within each class all names contribute the same risk to its portfolio; these portfolios then contribute the same.

    >>> covariance = np.array([[0.04, 0.006, 0.0], [0.006, 0.01, 0.0], [0.0, 0.0, 0.01]])
    >>> equal_risk_by_class(covariance, ("etf", "etf", "fx")).round(4).tolist()
    [0.1606, 0.3213, 0.5181]
    """
    kinds = np.array(classes, dtype=object)
    within = np.zeros((len(classes), len(set(classes))))
    for column, kind in enumerate(sorted(set(classes))):
        own = np.flatnonzero(kinds == kind)
        within[own, column] = equal_risk(covariance[np.ix_(own, own)])
    return np.asarray(within @ equal_risk(within.T @ covariance @ within), np.float64)


def equal_risk(covariance: FloatArray) -> FloatArray:
    """(names, names) covariance -> (names,) weights above 0 that add up to 1, with equal contributions to the variance.

    The minimum of x'Cx/2 - Σ log(x)/n over the correlations C, found by Newton steps, damped until they are small
    (Spinu 2013, SSRN 2297383); the weights are in proportion to x over the deviations. The covariance must be positive
    definite, as `covariance.floored` leaves it.

    >>> equal_risk(np.array([[0.04, 0.006], [0.006, 0.01]])).round(6).tolist()
    [0.333333, 0.666667]
    """
    deviation, share = np.sqrt(np.diag(covariance)), 1 / len(covariance)
    correlation = covariance / np.multiply.outer(deviation, deviation)
    x = np.full(len(covariance), 1 / np.sqrt(max(float(correlation.sum()), share)))
    for _ in range(MOST_STEPS):
        slope = correlation @ x - share / x
        step = np.linalg.solve(correlation + np.diag(share / x**2), slope)
        far = float(np.abs(step / x).max())
        x = x - step / (1 + far if far > 0.25 else 1)
        if far < ACCURATE:
            break
    weights = x / deviation
    return np.asarray(weights / weights.sum(), np.float64)
