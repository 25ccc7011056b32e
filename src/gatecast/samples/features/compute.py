"""Bars -> features, segment by segment, and which features a class of bars can have."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.arguments import checked
from gatecast.errors import FeatureError
from gatecast.market.bars import FURTHER_LIMITS, make_bars, session_date
from gatecast.market.calendar import FIRST
from gatecast.samples.features.catalogue import DEFAULT_FEATURES, NOT_FEATURES, Feature, find_feature

FloatArray = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


@checked(error=FeatureError)
def compute_features(bars: Any, names: Iterable[str] | None = None) -> Any:
    """The features of bars, on the same rows.

    Parameters
    ----------
    bars: Bars, as a Polars or pandas frame; one without their derived columns goes through `make_bars` first.
    names: features of the catalogue or further numeric columns of the bars; None: the default five.

    Returns
    -------
    Frame of the same kind: symbol, time, one Float64 column a feature. Row t is known when bar t is, and uses
    bars up to and including t of its own symbol and segment. Null during the warm-up, then finite; null also
    where a column that the feature needs is missing (no volume).

    Raises
    ------
    FeatureError: a name that does not exist, or one's own function that fails or returns what is not finite.

    >>> from gatecast.market import synthetic
    >>> features = compute_features(synthetic.a1(300, seed=1), ["ret_log_1", "rsi_14"])
    >>> features.columns, features["rsi_14"].null_count()
    (['symbol', 'time', 'ret_log_1', 'rsi_14'], 250)
    """
    frame = _as_bars(bars)
    features = find_features(frame, names)
    rows = frame.with_row_index("_row").sort("symbol", "time", maintain_order=True)
    computed = _by_segment(rows, features)
    result = (
        rows.select("_row", "symbol", "time", *(pl.Series(f.name, computed[f.name]).fill_nan(None) for f in features))
        .sort("_row")
        .drop("_row")
    )
    return result if isinstance(bars, pl.DataFrame) else result.to_pandas()


def available_features(bars: Any, names: Iterable[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Which features the bars of one asset class can have, and why the others are left out.

    A feature is left out where, in the class's first 20 sessions, there is none of a column that it needs (no volume:
    nothing is filled with zeros): a feature of `names` where no symbol has it, one of the default five where one symbol
    lacks it. A symbol without the column of a feature that stays gets no forecast. Later bars never change that.

    Returns
    -------
    The names that stay, in the order asked for; left-out name -> reason in words.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1).with_columns(volume=pl.lit(None, pl.Float64))
    >>> available_features(bars, ["ret_log_1", "volume_ratio_20"])
    (['ret_log_1'], {'volume_ratio_20': 'no volume'})
    """
    frame = _as_bars(bars)
    features = find_features(frame, names)
    day = session_date(pl.col("time"))
    first = frame.select(day.unique().sort().head(FIRST).last()).item()
    opening = frame.filter(day <= first)
    reasons = {feature.name: _why_not(opening, feature, named=names is not None) for feature in features}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}


def find_features(bars: pl.DataFrame, names: Iterable[str] | None = None) -> list[Feature]:
    """The features of the names, each once, in order; None: the default five. Raises `FeatureError`."""
    names = DEFAULT_FEATURES if names is None else (names,) if isinstance(names, str) else names
    own = [name for name, kind in bars.schema.items() if kind.is_numeric() and name not in NOT_FEATURES]
    return [find_feature(name, own) for name in dict.fromkeys(names)]


def _as_bars(bars: Any) -> pl.DataFrame:
    if not isinstance(bars, pl.DataFrame):
        try:
            bars = nw.from_native(bars, eager_only=True).to_polars()
        except TypeError:
            raise FeatureError(
                f"bars must be a Polars or pandas frame, got {type(bars).__name__}. read_bars reads files."
            ) from None
    return bars if {"asset_class", "volume", "known_at", "segment"} <= set(bars.columns) else make_bars(bars)


def _by_segment(bars: pl.DataFrame, features: list[Feature]) -> dict[str, FloatArray]:
    """Name -> (bars,) values, NaN where there is none; `bars` sorted by symbol and time."""
    columns = _columns(bars, {column for feature in features for column in feature.needs})
    run = bars.select(pl.struct("symbol", "segment").rle_id()).to_series().to_numpy()
    edges = np.flatnonzero(np.diff(run, prepend=-1, append=-1))
    table = {feature.name: np.full(len(bars), np.nan) for feature in features}
    for start, stop in pairwise(edges.tolist()):
        for feature in features:
            if stop - start <= feature.warmup:
                continue
            inputs = [columns[name][start:stop] for name in feature.needs]
            try:
                table[feature.name][start + feature.warmup : stop] = _of_segment(feature, inputs)
            except FeatureError as error:
                symbol, since, until = bars["symbol"][start], bars["time"][start], bars["time"][stop - 1]
                raise FeatureError(f"{error} Symbol {symbol}, segment from {since} to {until}.") from error
    return table


def _of_segment(feature: Feature, inputs: list[NDArray[Any]]) -> FloatArray:
    """The values of one feature after its warm-up in one segment."""
    try:
        values = np.asarray(feature.function(*inputs), dtype=np.float64)
    except Exception as error:
        raise FeatureError(f"feature {feature.name!r} failed: {type(error).__name__}: {error}.") from error
    if values.shape != inputs[0].shape:
        raise FeatureError(
            f"feature {feature.name!r} must return one number a bar, shape {inputs[0].shape}, got {values.shape}."
        )
    values = values[feature.warmup :]
    finite = np.isfinite(values)
    largest = float(np.abs(values, where=finite, out=np.zeros_like(values)).max(initial=0))
    if largest > FURTHER_LIMITS[1]:
        raise FeatureError(
            f"feature {feature.name!r} reaches {largest:.3g}, beyond {FURTHER_LIMITS[1]:g}: divide it by a power of "
            "ten, or return its log."
        )
    if finite.all():
        return values
    if all(np.isfinite(column).all() for column in inputs if column.dtype.kind == "f"):
        bar = feature.warmup + int(np.argmin(finite))
        raise FeatureError(
            f"feature {feature.name!r} is {values[bar - feature.warmup]} at bar {bar} of a segment, after "
            f"its warm-up of {feature.warmup} bars: expected a finite number. Declare more or mend it."
        )
    return np.where(finite, values, np.nan)


def _columns(bars: pl.DataFrame, names: set[str]) -> Columns:
    columns: Columns = {
        name: bars[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names - {"session_date"}
    }
    if "session_date" in names:
        columns["session_date"] = bars.select(session_date(pl.col("time"))).to_series().to_numpy()
    for column in columns.values():
        column.flags.writeable = False
    return columns


def _why_not(bars: pl.DataFrame, feature: Feature, named: bool) -> str:
    """Why a feature is left out, empty where it is not; what the user `named` stays if one symbol can have it."""
    every, lacking, reason = bars["symbol"].n_unique(), set[str](), ""
    for column in feature.needs:
        if column == "session_date":
            continue
        present = pl.col(column).is_not_null() & pl.col(column).cast(pl.Float64).is_not_nan()
        without = bars.group_by("symbol").agg(present.any()).filter(~pl.col(column))["symbol"].sort().to_list()
        lacking |= set(without)
        if without and not reason:
            reason = f"no {column}" + (f" in {', '.join(without)}" if len(without) < every else "")
    return "" if named and len(lacking) < every else reason
