"""The features by name, with the bars each needs before its first value, and the way to add one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatecast.errors import FeatureError, did_you_mean
from gatecast.plugins import Registry
from gatecast.samples.features import calendar, momentum, volatility, volume

PRICES = ("open", "high", "low", "close")
BAR_COLUMNS = (*PRICES, "volume", "session_date")  # what a feature can need beside the user's own columns
NOT_FEATURES = (*PRICES, "volume", "symbol", "asset_class", "time", "known_at", "segment")

RECURSIVE_WARMUP = 250  # bars until Wilder's and exponential averages have forgotten their start to about 1e-8
EQUALITY_BARS = 800  # trailing bars from which every feature's last value equals that of a longer history to the bit

Function = Callable[..., NDArray[Any]]


@dataclass(frozen=True)
class Feature:
    """One number a bar, from that bar and earlier ones of the same symbol and segment.

    Attributes
    ----------
    name: its column; `unit`, `description`: in words.
    function: the columns of `needs` as arrays (bars,) of one segment, in time order -> array (bars,). Row t
        may use rows up to and including t.
    warmup: bars at the start of each segment without a value; after them every value is finite.
    needs: columns of the bars, or `session_date` (datetime64[D]).
    """

    name: str
    function: Function
    warmup: int
    needs: tuple[str, ...]
    unit: str = ""
    description: str = ""


def _family(
    name: str,
    function: Function,
    spans: Iterable[int],
    needs: tuple[str, ...],
    unit: str,
    description: str,
    before: int = 0,
    warmup: int | None = None,
) -> list[Feature]:
    """One feature a span: of the last n bars and, with `before`, of so many bars before those."""
    return [
        Feature(
            f"{name}_{n}",
            partial(function, bars=n),
            n - 1 + before if warmup is None else warmup,
            needs,
            unit,
            description.format(span=f"{n} bar{'s' * (n > 1)}"),
        )
        for n in spans
    ]


CLOSE = ("close",)
SESSION = ("session_date",)
LOG, FRACTION, VOLATILITY = "log return", "fraction of the price", "log return per bar"
HORIZONS = (1, 5, 22)  # a day, a week and a month of daily bars
MOMENTUM = (1, 2, 3, 5, 10, 22, 66, 132, 252)

# fmt: off
_BUILT_IN = (
    *_family("ret_log", momentum.log_return, MOMENTUM, CLOSE, LOG,
             "log of the close over the close {span} earlier", before=1),
    *_family("rsi", momentum.relative_strength, (14,), CLOSE, "0 to 100",
             "Wilder's relative strength index of {span}", warmup=RECURSIVE_WARMUP),
    Feature("macd_hist", momentum.macd_histogram, RECURSIVE_WARMUP, CLOSE, FRACTION,
            "moving average convergence divergence (12, 26) minus its signal line (9)"),
    *_family("sma_distance", momentum.sma_distance, (20, 50, 200), CLOSE, "fraction",
             "close over its mean of {span}, minus 1"),
    *_family("volume_ratio", volume.volume_ratio, (20,), ("volume",), "ratio",
             "volume over its mean of {span}; 1 where nothing was traded in any of them"),
    *_family("atr", volatility.average_true_range, (14,), ("high", "low", "close"), FRACTION,
             "Wilder's average true range of {span}", warmup=RECURSIVE_WARMUP),
    *_family("rv", volatility.realised_volatility, HORIZONS, CLOSE, VOLATILITY,
             "realised volatility: root of the mean squared log return over {span}", before=1),
    *_family("parkinson", volatility.parkinson, HORIZONS, ("high", "low"), VOLATILITY,
             "Parkinson's range volatility over {span}, without gaps"),
    *_family("garman_klass", volatility.garman_klass, HORIZONS, PRICES, VOLATILITY,
             "Garman and Klass's volatility over {span}, without gaps"),
    *_family("har", volatility.har, HORIZONS, PRICES, "log variance per bar",
             "log of the mean over {span} of squared gap plus Garman-Klass variance, floor 1e-10", before=1),
    *_family("downside_semivariance", volatility.downside_semivariance, (5, 22), CLOSE, "squared log return",
             "mean over {span} of the squared log return where it fell, else 0", before=1),
    Feature("gap_log", volatility.gap, 1, ("open", "close"), LOG, "log of the open over the previous close"),
    Feature("day_of_week", calendar.day_of_week, 0, SESSION, "0 to 6", "0 for Monday to 6 for Sunday"),
    Feature("turn_of_month", calendar.turn_of_month, 0, SESSION, "0 or 1",
            "1 from a month's last weekday to the third of the next"),
)
# fmt: on


def _fault(thing: object) -> str:
    if not isinstance(thing, Feature):
        return f"expected a function with @gatecast.samples.features.register of the same name, got {thing!r}"
    if isinstance(thing.warmup, bool) or not isinstance(thing.warmup, int) or thing.warmup < 0:
        return f"warmup must be a number of bars, 0 or more, got {thing.warmup!r}"
    return "" if thing.needs else "needs must name a column of the bars, such as 'close'"


FEATURES = Registry[Feature]("feature", "gatecast.features", fault=_fault, code=lambda feature: feature.function)
"""Name -> feature: built in, added by `@register`, or of an installed package."""
for _feature in _BUILT_IN:
    FEATURES.add(_feature.name, _feature, built_in=True)
DEFAULT_FEATURES = ("ret_log_1", "rsi_14", "macd_hist", "volume_ratio_20", "atr_14")
BUILT_IN = frozenset(feature.name for feature in _BUILT_IN)


def register(
    name: str, warmup: int, needs: Iterable[str] = ("close",), unit: str = "", description: str = ""
) -> Callable[[Function], Function]:
    """A decorator that puts one's own function into the catalogue under a name.

    The function gets the columns of `needs` of one segment of one symbol as float64 arrays, in time order,
    and returns an array of the same length; what it returns for the first `warmup` bars is not used. It must
    not look ahead: its value at row t may use rows up to t. One's own name may be registered again, a
    built-in one may not.

    Raises `FeatureError` where the name is taken or the warm-up is not a number of bars.

    >>> @register("body", warmup=0, needs=("open", "high", "low", "close"))
    ... def body(open, high, low, close):
    ...     return (close - open) / (high - low + 1e-9)
    >>> FEATURES.find("body").warmup
    0
    >>> FEATURES.remove("body")
    """
    needs = (needs,) if isinstance(needs, str) else tuple(needs)
    if not name.isidentifier() or name in BUILT_IN or name in (*NOT_FEATURES, "session_date"):
        raise FeatureError(
            f"the name {name!r} cannot be registered: it is taken, or no word of letters, digits and underscores. "
            "Choose another name."
        )
    if fault := _fault(Feature(name, np.positive, warmup, needs)):
        raise FeatureError(f"feature {name!r}: {fault}.")

    def into_catalogue(function: Function) -> Function:
        about = description or (function.__doc__ or "").strip().split("\n")[0]
        FEATURES.add(name, Feature(name, function, warmup, needs, unit, about))
        return function

    return into_catalogue


def find_feature(name: str, own_columns: Iterable[str] = ()) -> Feature:
    """The feature of a name: of the catalogue, or one of the user's own numeric columns as it stands.

    Raises `FeatureError` where there is none, where there are two, or where the bars lack a needed column;
    `PluginError` where its package cannot be imported.

    >>> find_feature("rsi14")
    Traceback (most recent call last):
        ...
    gatecast.errors.FeatureError: there is no feature 'rsi14'. Did you mean 'rsi_14'?
    """
    own_columns = list(own_columns)
    in_catalogue = name in FEATURES
    if in_catalogue and name in own_columns:
        raise FeatureError(f"{name!r} is a feature and a column of the bars: rename the column to say which is meant.")
    if name in own_columns and name in SESSION:
        raise FeatureError(f"{name!r} is what features read the session from: rename the column of the bars.")
    if name in own_columns:
        return Feature(name, np.positive, 0, (name,), "the column's own", "a column of the bars, as it stands")
    if name in NOT_FEATURES:
        raise FeatureError(
            f"the column {name!r} of the bars cannot be a feature: models need changes, not levels. "
            f"Known: {', '.join([*FEATURES, *own_columns])}."
        )
    if not in_catalogue:
        raise FeatureError(f"there is no feature {name!r}. {did_you_mean(name, [*FEATURES, *own_columns])}")
    feature = FEATURES.find(name)
    for column in feature.needs:
        if column not in (*BAR_COLUMNS, *own_columns):
            raise FeatureError(
                f"feature {name!r} needs the column {column!r}, which these bars lack. "
                f"{did_you_mean(column, [*BAR_COLUMNS, *own_columns])}"
            )
    return feature if feature.name == name else replace(feature, name=name)
