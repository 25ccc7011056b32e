"""A run's folder -> the run, its models and what it issued: every part is checked before it is used.

Each reader raises `StoreError`, one sentence with the file, what was expected, what came and what to do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Chain, Past, make_chain
from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path
from gatecast.forecasting.panel import FORMER_NAMES
from gatecast.forecasting.walkforward import Issued
from gatecast.formats import refuse_infinite, refuse_table
from gatecast.market.actions import WHOLE, read_actions, recorded_delistings
from gatecast.provenance import hash_of_bars
from gatecast.runs import Run, without_doubtful
from gatecast.store import schema
from gatecast.store.issued import is_path
from gatecast.store.parts import ACTIONS, BOOK, FORECASTS, Parts, models_of
from gatecast.store.writing import OF_CLASSES, TIME
from gatecast.trading.book import no_holdings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]

MOST_SEEDS = 1_000
"""Of a model whose seeds forecast alone."""
AGAIN = "Restore it from a copy, or run the experiment again."


@checked
def load_run(folder: str | Path) -> Run:
    """The run of a folder, every part checked against the manifest before it is read.

    `classes` is empty and `control` None: their numbers are in `scores`. `chain_of` makes the classes again without a
    fit; see `load_models` for the fitted models.

    Raises `StoreError` with the file and what to do, for what is missing, damaged, was changed or is of another run.
    """
    return _run_of(Parts(_place(folder)))


def _place(folder: str | Path) -> Path:
    return full_path(folder)


def _run_of(parts: Parts) -> Run:
    scores, provenance = parts.json("scores.json", schema.Scores), parts.json("provenance.json", schema.Provenance)
    bars = parts.table("bars.parquet", schema.TABLES["bars"], further=pl.Float64)
    _refuse_missing(parts, "bars", bars)
    _refuse_no_bars(parts, bars)
    if hash_of_bars(bars) != provenance["data_hash"]:
        raise parts.fault("bars.parquet", "these are not the bars that provenance.json has the hash of")
    signals, weights, equity = (
        parts.table(f"{name}.parquet", schema.TABLES[name], most_rows=len(bars))
        for name in ("signals", "weights", "equity")
    )
    for name, table in (("signals", signals), ("weights", weights), ("equity", equity)):
        _refuse_missing(parts, name, table)
        _refuse_other_rows(parts, name, table, bars)
    book = no_holdings()
    if BOOK in parts:
        book = parts.table(BOOK, schema.HOLDINGS)
        _refuse_missing(parts, "book", book)
    forecasts = parts.bytes_of(FORECASTS)
    try:
        refuse_table(forecasts, schema.TABLES["forecasts"])
    except ValueError as error:
        raise parts.fault(FORECASTS, str(error)) from None
    experiment = experiment_of(parts, provenance)
    return Run(
        experiment, bars, forecasts, signals, weights, equity, scores, provenance, path=parts.folder,
        book=book, actions=_actions_of(parts), makes_chain=_chain_of,
    )  # fmt: skip


def _actions_of(parts: Parts) -> pl.DataFrame | None:
    """The actions among the parts; None where an older version wrote them without."""
    if ACTIONS not in parts:
        return None
    try:
        return read_actions(parts.table(ACTIONS, WHOLE))
    except BarsError as error:
        raise parts.fault(ACTIONS, str(error)) from None


def _refuse_missing(parts: Parts, name: str, table: pl.DataFrame) -> None:
    """Raises `StoreError` for a column with a value that is missing or not finite where none may be."""
    for column, kind in table.schema.items():
        if column not in schema.TABLES[name]:
            continue  # the user's own
        wrong = table[column].null_count() if column not in schema.MAY_BE_EMPTY.get(name, ()) else 0
        if kind.is_float():
            wrong += int((~table[column].is_finite()).sum())
        if wrong:
            raise parts.fault(f"{name}.parquet", f"its column {column!r} has no finite value in {wrong:,} rows")


def _refuse_no_bars(parts: Parts, bars: pl.DataFrame) -> None:
    if bars.is_empty():
        raise parts.fault("bars.parquet", "it has no row")
    if bars.select(pl.struct("symbol", "time").is_duplicated().any()).item():
        raise parts.fault("bars.parquet", "it has two rows of one symbol and time")
    if not bars.select(pl.all_horizontal(pl.col(name) > 0 for name in schema.PRICES).all()).item():
        raise parts.fault("bars.parquet", "it has a price that is not above 0")
    if not bars.select((pl.col("known_at") >= pl.col("time")).all()).item():
        raise parts.fault("bars.parquet", "it has a row that was known before its close")


def _refuse_other_rows(parts: Parts, name: str, table: pl.DataFrame, bars: pl.DataFrame) -> None:
    """Raises `StoreError` for rows that are of no bar, or there twice."""
    keys = [key for key in ("symbol", "time") if key in table.columns]
    if table.select(pl.struct(keys).is_duplicated().any()).item():
        raise parts.fault(f"{name}.parquet", f"it has two rows of one {' and '.join(keys)}")
    other = table.join(bars, on=keys, how="anti")
    if len(other):
        raise parts.fault(f"{name}.parquet", f"it has {len(other):,} rows of other symbols or times than its bars")


def experiment_of(parts: Parts, provenance: Mapping[str, Any]) -> Experiment:
    """The settings among the parts. Raises `StoreError` where they are of another version or name what is not here."""
    content = parts.bytes_of("experiment.toml")
    try:
        return Experiment(**tomllib.loads(content.decode()))
    except (SettingsError, TypeError, ValueError, RecursionError) as error:
        made_with = provenance.get("plugins") or {}
        hint = f" The run was made with {', '.join(made_with.values())}: install it." if made_with else ""
        raise StoreError(
            f"{parts.folder / 'experiment.toml'}: written by another version of gatecast, or with parts that are not "
            f"here: {str(error)[:300]}{hint}"
        ) from None


@checked
def load_models(folder: str | Path) -> dict[str, dict[str, FittedForecaster]]:
    """Asset class -> model -> the fitted forecaster in force. Raises `StoreError` as `load_run` does."""
    return models_of(Parts(_place(folder), "models/"))


@checked
def load_scale(folder: str | Path) -> dict[str, dict[str, FloatArray]]:
    """Asset class -> model -> forecasts of each refit's validation rows, one refit after the other.

    They are what signals are measured against (`Forecasts.scale`, joined). Raises `StoreError` as `load_run` does.
    """
    return _scale_of(Parts(_place(folder), "scale/"))


def _scale_of(parts: Parts) -> dict[str, dict[str, FloatArray]]:
    found = {}
    for name in parts.content:
        if not name.startswith("scale/"):
            continue
        if name.count("/") != 1 or not name.endswith(".safetensors"):
            raise parts.fault(name, "it is no scale of a class")
        arrays = parts.arrays(name)
        _refuse_odd_floats(parts, name, arrays, dimensions=(1,))
        own = name.removeprefix("scale/").removesuffix(".safetensors")
        found[unquote(own)] = {FORMER_NAMES.get(model, model): values for model, values in arrays.items()}
    return found


def _refuse_odd_floats(parts: Parts, name: str, arrays: dict[str, NDArray[Any]], dimensions: tuple[int, ...]) -> None:
    """Raises `StoreError` for arrays that are no forecasts: floats, of so many dimensions, finite or NaN."""
    for key, array in arrays.items():
        if array.dtype != np.float64 or array.ndim not in dimensions:
            raise parts.fault(name, f"its {key[:80]!r} is {array.dtype} {array.shape}, expected float64 numbers")
    try:
        refuse_infinite(arrays, nan=True)
    except ValueError as error:
        raise parts.fault(name, str(error)) from None


@checked
def chain_of(run: Run | str | Path) -> Chain:
    """The chain of a run, or of the run of a folder, made again from what it issued: nothing is fitted.

    Its classes have samples, forecasts with their models, signals, proposals and choices as the run had them. Raises
    `StoreError` as `past_of` does.

    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=synthetic.b1(900, seed=1), features=("x",), schedule={"refit": "1Y"}, **few))
    >>> again = chain_of(done).classes["index"].selection
    >>> np.array_equal(again.weight, done.classes["index"].selection.weight)
    True
    """
    run = run if isinstance(run, Run) else load_run(run)
    return without_doubtful(run, _chain_of(run))


def _chain_of(run: Run) -> Chain:
    """The chain of a run with all that its strategies decided, doubtful or not."""
    actions = _delistings_of(run) if run.actions is None else run.actions
    return make_chain(run.experiment, run.bars, actions=actions, past=past_of(run), refit="never")


def _delistings_of(run: Run) -> pl.DataFrame:
    try:
        return recorded_delistings(run.scores.get("delistings"))
    except BarsError as error:
        raise StoreError(f"{run.path}: the delistings in scores.json cannot be used: {error} {AGAIN}") from None


def past_of(run: Run | str | Path) -> Past:
    """What a run, or the run of a folder, has issued: the `past` of a chain over its bars and newer ones.

    In: a run with its classes, or with the folder that it was read from. Out: see `chain.Past`; of what the seeds of a
    model forecast alone nothing where a version before 0.2 wrote the folder. Raises `StoreError` as `load_run` does,
    and where the parts do not fit together.

    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=synthetic.b1(900, seed=1), features=("x",), schedule={"refit": "1Y"}, **few))
    >>> past_of(done).forecasts["index"].cutoffs == tuple(one.cutoff for one in done.classes["index"].forecasts.folds)
    True
    """
    if not isinstance(run, Run):
        run = load_run(run)
    features = {name: tuple(names) for name, names in (run.provenance.get("features") or {}).items()}
    if run.classes:
        issued = {name: one.forecasts.issued() for name, one in run.classes.items()}
        return Past(issued, features, run.weights, run.experiment.forecasting)
    if run.path is None:
        raise StoreError("this run has neither its classes nor a folder: load it with load_run(folder).")
    parts = Parts(run.path, *OF_CLASSES, FORECASTS)
    if parts.bytes_of(FORECASTS) != run.forecasts_parquet:
        raise StoreError(f"{run.path} holds another run than it did when it was read: load it again.")
    models, scales, refused_fits = models_of(parts), _scale_of(parts), models_of(parts, "refused/")
    table = _forecasts_of(run, parts)
    found = {
        name: _issued(run, name, models[name], refused_fits.get(name, {}), scales.get(name, {}), parts, table)
        for name in features if name in models
    }  # fmt: skip
    return Past(found, features, run.weights, run.experiment.forecasting)


def _forecasts_of(run: Run, parts: Parts) -> pl.DataFrame:
    """The table of forecasts. Raises `StoreError` where it has values, steps or rows that cannot be."""
    table = parts.table(FORECASTS, schema.TABLES["forecasts"])
    _refuse_missing(parts, "forecasts", table)
    keys = ["symbol", "time", "model", "head", "step"]
    if table.select(pl.struct(keys).is_duplicated().any()).item():
        raise parts.fault(FORECASTS, f"it has two rows of one {', '.join(keys)}")
    if not table["step"].is_between(1, run.experiment.horizon).all():
        raise parts.fault(FORECASTS, f"it has steps outside of 1 to {run.experiment.horizon}, the horizon")
    other = table.join(run.bars, on=["symbol", "time"], how="anti")
    if len(other):
        raise parts.fault(FORECASTS, f"it has {len(other):,} rows of other symbols or times than its bars")
    return table


def _issued(
    run: Run, name: str, fitted: dict[str, FittedForecaster], refused_fits: dict[str, FittedForecaster],
    scale: dict[str, FloatArray], parts: Parts, forecasts: pl.DataFrame,
) -> Issued:  # fmt: skip
    """What a run on disk has issued of one class. Raises `StoreError` where its parts do not fit together."""
    symbols = run.bars.filter(pl.col("asset_class") == name)["symbol"].unique()
    table = forecasts.filter(pl.col("symbol").is_in(symbols.implode()))
    keys = table.select("symbol", "time").unique().sort("symbol", "time")
    time = keys["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
    stem = f"issued/{quote(name, safe='')}"
    own = parts.json(f"{stem}.json", schema.Issued) if f"{stem}.json" in parts else {}
    rows = [one for one in run.scores.get("folds") or () if one["asset_class"] == name]
    cutoffs = own.get("refits") or [one["refit"] for one in rows]
    if len(keys) == 0 or not cutoffs or len(cutoffs) != len(rows) or sorted(cutoffs) != cutoffs:
        raise StoreError(f"{run.path}: the forecasts or the refits of {name} are missing. {AGAIN}")
    wrong = [head for part in ("in_force", "rivals") for head, names in own.get(part, {}).items()
             if len(names) != len(cutoffs)]  # fmt: skip
    if wrong:
        raise parts.fault(f"{stem}.json", f"{wrong[0]!r} has not one name for each of {len(cutoffs)} refits")
    refused = {
        FORMER_NAMES.get(model, model): {np.datetime64(one, "us"): reason for one, reason in refits.items()}
        for model, refits in (own.get("refused") or {}).items()
    }
    times = [np.datetime64(one, "us") for one in cutoffs]
    if odd := [model for model, refits in refused.items() if model not in fitted or not {*refits} <= {*times}]:
        raise parts.fault(f"{stem}.json", f"{odd[0][:80]!r} is no model of these refits, of which one was refused")
    if odd := sorted({*refused_fits} - {*refused}):
        raise parts.fault(f"{stem}.json", f"no refit of {odd[0][:80]!r} was refused, and there is a refused one")
    bounds = np.cumsum([one["validation"] for one in rows])
    for model, values in scale.items():
        if len(values) != bounds[-1]:
            raise parts.fault(
                f"scale/{quote(name, safe='')}.safetensors",
                f"its {model[:80]!r} has {len(values):,} rows, expected the {bounds[-1]:,} of all validation blocks",
            )
    members = _members_of(parts, f"{stem}.safetensors", time, run.experiment.horizon)
    closes = run.bars.select("symbol", "time", "close").sort("symbol", "time")
    moves = closes.with_columns(move=(pl.col("close").shift(-1) / pl.col("close")).log().over("symbol"))
    move = keys.join(moves, on=["symbol", "time"], how="left", maintain_order="left")["move"].fill_null(np.nan)
    return Issued(
        tuple(keys["symbol"]), time, tuple(times),
        _tables(table, keys, run.experiment.horizon),
        {model: tuple(np.split(values, bounds[:-1])) for model, values in scale.items()}, fitted, members,
        {head: tuple(names) for head, names in (own.get("in_force") or {}).items()},
        {head: tuple(names) for head, names in (own.get("rivals") or {}).items()}, move.to_numpy(), refused,
        refused_fits,
    )  # fmt: skip


def _members_of(
    parts: Parts, name: str, time: NDArray[np.datetime64], horizon: int
) -> dict[str, tuple[dict[str, FloatArray], ...]]:
    """Model -> for each seed head -> array over the rows issued; empty where an older version wrote the folder."""
    if name not in parts:
        return {}
    arrays = parts.arrays(name)
    if not np.array_equal(arrays.pop(TIME, np.zeros(0)), time.astype(np.int64)):
        raise parts.fault(name, "it is not of these forecasts, but of other times")
    _refuse_odd_floats(parts, name, arrays, dimensions=(1, 2))
    found: dict[str, dict[int, dict[str, FloatArray]]] = {}
    for key, array in arrays.items():
        model, seed, head = key.rsplit("/", 2) if key.count("/") >= 2 else ("", "", "")
        if not model or not seed.isdecimal() or int(seed[:6]) >= MOST_SEEDS or seed != str(int(seed)):
            raise parts.fault(name, f"its array {key[:80]!r} is of no model, seed and head")
        if array.shape not in ((len(time),), (len(time), 1), (len(time), horizon)):
            raise parts.fault(name, f"its array {key[:80]!r} has the shape {array.shape}, expected {len(time):,} rows")
        found.setdefault(FORMER_NAMES.get(model, model), {}).setdefault(int(seed), {})[head] = array
    for model, seeds in found.items():
        if sorted(seeds) != list(range(len(seeds))):
            raise parts.fault(name, f"seeds of {model[:80]!r} are missing")
    return {model: tuple(seeds[number] for number in range(len(seeds))) for model, seeds in found.items()}


def _tables(issued: pl.DataFrame, keys: pl.DataFrame, horizon: int) -> dict[str, dict[str, FloatArray]]:
    """Model -> head -> array over the keys, as `Forecasts.values` has them; of a path (keys, horizon)."""
    table = issued.join(keys.with_row_index("row"), on=["symbol", "time"], how="inner")
    values: dict[str, dict[str, FloatArray]] = {}
    for (model, head), part in table.group_by("model", "head", maintain_order=True):
        wide = is_path(str(head))
        array = np.full((len(keys), horizon) if wide else len(keys), np.nan)
        rows = part["row"].to_numpy()
        if wide:
            array[rows, part["step"].to_numpy() - 1] = part["value"].to_numpy()
        else:
            array[rows] = part["value"].to_numpy()
        values.setdefault(FORMER_NAMES.get(str(model), str(model)), {})[str(head)] = array
    return values
