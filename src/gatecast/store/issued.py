"""What a chain has issued, in pieces: the rows of one update or refit, as a file of arrays; together they are the past.

Fits are kept apart, see `store.writing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from gatecast.forecasting.combining.intervals import HIGH, LOW
from gatecast.forecasting.walkforward import Issued
from gatecast.formats import arrays_of, json_of, refuse_infinite
from gatecast.store.schema import Piece as PieceTable
from gatecast.store.schema import fault_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

MOST_SEEDS = 1_000
"""Of a model whose seeds forecast alone."""
TIME, SYMBOL, MOVES, TABLE = "time", "symbol", "moves", "table"
VALUE, MEMBER, SCALE, ROWS, FEATURE, WEIGHT = "value", "member", "scale", "validation", "feature", "decided"
LEARNED = "learned"
"""Words after the class in the names of arrays: value/HEAD/MODEL, member/SEED/HEAD/MODEL, scale/REFIT/MODEL,
validation/REFIT/symbol and /time, feature/NAME, decided/weight, learned/PART."""


@dataclass(frozen=True)
class Piece:
    """What one update or refit issued of an asset class.

    `issued`: its rows, with all refits and names in force, without fits and scale. `scale`: model -> number of a refit
    -> what it forecast for its validation rows, of the refits that came with the piece. `features`: name -> (rows,) the
    newest values that each forecast was made from. `weights`: "weight" (of the symbol by itself) and "book" (its share
    of the portfolio) -> (rows,) what was decided. `again`: its rows take the place of what was issued there before.
    `validation`: number of a refit -> symbols and times of its validation rows, which `scale` is of.
    """

    issued: Issued
    scale: Mapping[str, Mapping[int, FloatArray]] = field(default_factory=dict)
    features: Mapping[str, FloatArray] = field(default_factory=dict)
    weights: Mapping[str, FloatArray] = field(default_factory=dict)
    again: bool = False
    validation: Mapping[int, tuple[Any, Any]] = field(default_factory=dict)

    def of_rows(self, rows: BoolArray) -> Piece:
        """The same with these rows alone; refits and their scale stay."""
        return replace(
            self, issued=rows_of(self.issued, rows), weights={name: one[rows] for name, one in self.weights.items()},
            features={name: one[rows] for name, one in self.features.items()},
        )  # fmt: skip


def rows_of(issued: Issued, rows: BoolArray) -> Issued:
    """The same with these rows alone; the scale, refits and fits stay.

    >>> one = Issued(("A", "A"), np.array(["2020-01-02", "2020-01-03"], "datetime64[us]"), (), {}, {}, {})
    >>> rows_of(one, np.array([False, True])).time.astype("datetime64[D]").tolist()
    [datetime.date(2020, 1, 3)]
    """
    return replace(
        issued,
        symbol=tuple(np.array(issued.symbol, dtype=object)[rows]),
        time=issued.time[rows],
        values={
            model: {head: array[rows] for head, array in dict(heads).items()} for model, heads in issued.values.items()
        },
        members={
            model: tuple({head: array[rows] for head, array in dict(one).items()} for one in each)
            for model, each in issued.members.items()
        },
        moves=issued.moves[rows] if len(issued.moves) else issued.moves,
    )


def issued_keys(issued: Issued) -> pl.DataFrame:
    """symbol and time (UTC) of what was issued, a row a forecast, in its order.

    >>> day = np.array(["2020-01-02"], "datetime64[us]")
    >>> issued_keys(Issued(("A",), day, (), {}, {}, {})).rows()
    [('A', datetime.datetime(2020, 1, 2, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')))]
    """
    keys = pl.DataFrame({"symbol": issued.symbol, "time": issued.time}, schema_overrides={"symbol": pl.String})
    return keys.with_columns(pl.col("time").dt.replace_time_zone("UTC"))


def in_force(decisions: pl.DataFrame) -> pl.Series:
    """(rows,) of decisions with symbol, time and record, whether each counts: of one symbol and close the newest does.

    >>> in_force(pl.DataFrame({"symbol": ["A", "A", "B"], "time": [1, 1, 1], "record": [5, 9, 5]})).to_list()
    [False, True, True]
    """
    return decisions.select(pl.col("record") == pl.col("record").max().over("symbol", "time")).to_series()


def joined(pieces: Sequence[Issued]) -> Issued:
    """Pieces in time order -> one; a row that two of them have is that of the first, as it was issued.

    Refits, what was in force, the scale and the fits are those of the last piece. What a piece lacks (a model, a head)
    is NaN in its rows. Raises `ValueError` without a piece.

    >>> day = np.array(["2020-01-02", "2020-01-03"], "datetime64[us]")
    >>> first = Issued(("A",), day[:1], (), {"m": {"return": np.array([[0.1]])}}, {}, {})
    >>> again = Issued(("A", "A"), day, (), {"m": {"return": np.array([[0.3], [0.2]])}}, {}, {})
    >>> joined([first, again]).values["m"]["return"].ravel().tolist()
    [0.1, 0.2]
    """
    if not pieces:
        raise ValueError("expected at least one piece of what was issued")
    number: dict[str, int] = {}
    symbol = np.array([number.setdefault(one, len(number)) for piece in pieces for one in piece.symbol], np.int64)
    first = ~_repeated(symbol, np.concatenate([piece.time for piece in pieces]).astype(np.int64))
    each = np.split(first, np.cumsum([len(piece.time) for piece in pieces])[:-1])
    fresh = [piece if rows.all() else rows_of(piece, rows) for piece, rows in zip(pieces, each, strict=True)]
    last = pieces[-1]
    names = {model: list(heads) for piece in fresh for model, heads in piece.values.items()}
    seeds = {model: len(each) for piece in fresh for model, each in piece.members.items()}
    moves = [piece.moves if len(piece.moves) else np.full(len(piece.time), np.nan) for piece in fresh]
    return replace(
        last,
        symbol=tuple(symbol for piece in fresh for symbol in piece.symbol),
        time=np.concatenate([piece.time for piece in fresh]),
        values={
            model: {
                head: _stacked([dict(piece.values.get(model, {})).get(head) for piece in fresh], fresh)
                for head in dict.fromkeys(
                    name for piece in fresh for name in dict(piece.values.get(model, {}))
                )
            }
            for model in names
        },
        members={
            model: tuple(
                {
                    head: _stacked([_member(piece, model, seed).get(head) for piece in fresh], fresh)
                    for head in dict.fromkeys(name for piece in fresh for name in _member(piece, model, seed))
                }
                for seed in range(count)
            )
            for model, count in seeds.items()
        },
        moves=np.concatenate(moves) if any(len(piece.moves) for piece in fresh) else last.moves,
    )  # fmt: skip


def _repeated(symbol: NDArray[np.integer], time: NDArray[np.int64]) -> BoolArray:
    """(rows,) whether an earlier row has the same symbol and time."""
    order = np.lexsort((time, symbol))  # rows that are alike stay in their order
    again = np.zeros(len(order), bool)
    again[order[1:]] = (np.diff(symbol[order]) == 0) & (np.diff(time[order]) == 0)
    return again


def _member(piece: Issued, model: str, seed: int) -> Mapping[str, FloatArray]:
    each = piece.members.get(model, ())
    return dict(each[seed]) if seed < len(each) else {}


def _stacked(arrays: Sequence[FloatArray | None], pieces: Sequence[Issued]) -> FloatArray:
    """Arrays of the pieces one after the other, NaN for a piece that has none."""
    if len(arrays) == 1 and arrays[0] is not None:
        return arrays[0]
    shape = next(array.shape[1:] for array in arrays if array is not None)
    whole = [
        np.full((len(piece.time), *shape), np.nan) if array is None else array
        for array, piece in zip(arrays, pieces, strict=True)
    ]
    return np.concatenate(whole)


def bytes_of_pieces(pieces: Mapping[str, Piece]) -> bytes:
    """Asset class -> piece, as one file of arrays; `pieces_of` is the inverse.

    >>> day = np.array(["2020-01-02"], "datetime64[us]")
    >>> one = Piece(Issued(("A",), day, (), {"m": {"return": np.array([[0.1]])}}, {}, {}))
    >>> pieces_of(bytes_of_pieces({"index": one}), 1)["index"].issued.values
    {'m': {'return': array([[0.1]])}}
    """
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    for name, piece in pieces.items():
        arrays |= {f"{quote(name, safe='')}/{key}": array for key, array in _arrays_of(piece).items()}
    return save({name: np.array(array, order="C", copy=True) for name, array in sorted(arrays.items())})


def _arrays_of(piece: Piece) -> dict[str, NDArray[Any]]:
    issued = piece.issued
    symbols = sorted({*issued.symbol, *(one for names, _ in piece.validation.values() for one in names)})
    number = {symbol: place for place, symbol in enumerate(symbols)}
    table = {
        "again": piece.again,
        "symbols": symbols,
        "refits": [str(one) for one in issued.cutoffs],
        "in_force": {head: list(names) for head, names in issued.in_force.items()},
        "rivals": {head: list(names) for head, names in issued.rivals.items()},
        "refused": {
            model: {str(cutoff): why for cutoff, why in refits.items()} for model, refits in issued.refused.items()
        },
    }
    arrays: dict[str, NDArray[Any]] = {
        TABLE: np.frombuffer(json.dumps(table, sort_keys=True).encode(), np.uint8),
        TIME: issued.time.astype("datetime64[us]").astype(np.int64),
        SYMBOL: np.array([number[symbol] for symbol in issued.symbol], np.int32),
        MOVES: issued.moves,
    }
    for model, heads in issued.values.items():
        arrays |= {f"{VALUE}/{head}/{model}": array for head, array in dict(heads).items()}
    for model, each in issued.members.items():
        for seed, one in enumerate(each):
            arrays |= {f"{MEMBER}/{seed}/{head}/{model}": array for head, array in dict(one).items()}
    for model, blocks in piece.scale.items():
        arrays |= {f"{SCALE}/{refit}/{model}": block for refit, block in blocks.items()}
    for refit, (names, times) in piece.validation.items():
        arrays[f"{ROWS}/{refit}/{SYMBOL}"] = np.array([number[one] for one in names], np.int32)
        arrays[f"{ROWS}/{refit}/{TIME}"] = times.astype("datetime64[us]").astype(np.int64)
    for kind, columns in ((FEATURE, piece.features), (WEIGHT, piece.weights), (LEARNED, issued.learned)):
        arrays |= {f"{kind}/{name}": values for name, values in columns.items()}
    return arrays


def pieces_of(content: bytes, horizon: int) -> dict[str, Piece]:
    """A file of `bytes_of_pieces` -> asset class -> piece. Raises `ValueError`, in words, for what is none."""
    by_class: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays_of(content).items():
        asset_class, _, key = name.partition("/")
        by_class.setdefault(unquote(asset_class), {})[key] = array
    return {name: _piece_of(arrays, horizon) for name, arrays in by_class.items()}


def _piece_of(arrays: dict[str, NDArray[Any]], horizon: int) -> Piece:
    time, symbol, moves, told = (arrays.pop(name, None) for name in (TIME, SYMBOL, MOVES, TABLE))
    if time is None or symbol is None or moves is None or told is None or told.dtype != np.uint8:
        raise ValueError(f"it lacks one of its arrays {TIME}, {SYMBOL}, {MOVES}, {TABLE}")
    table = json_of(told.tobytes())
    if fault := fault_of(PieceTable, table):
        raise ValueError(fault)
    count, symbols, refits = time.size, table["symbols"], table["refits"]
    if time.dtype != np.int64 or time.ndim != 1 or symbol.dtype != np.int32 or symbol.shape != (count,):
        raise ValueError(f"its times and symbols are {time.dtype} {time.shape} and {symbol.dtype} {symbol.shape}")
    if count and not (symbol.min() >= 0 and symbol.max() < len(symbols)):
        raise ValueError(f"it has symbols beyond the {len(symbols)} that are named")
    if moves.dtype != np.float64 or moves.shape not in ((count,), (0,)):
        raise ValueError(f"its {MOVES} are {moves.dtype} {moves.shape}, expected {count:,} numbers")
    if _repeated(symbol, time).any():
        raise ValueError("it has two rows of one symbol and time")
    names = np.array(symbols, dtype=object)
    validation = {}
    for refit in sorted({key.split("/")[1] for key in arrays if key.startswith(f"{ROWS}/")}):
        own, when = (arrays.pop(f"{ROWS}/{refit}/{part}", None) for part in (SYMBOL, TIME))
        if (
            own is None or when is None or own.dtype != np.int32 or when.dtype != np.int64 or own.shape != when.shape
            or own.ndim != 1 or (len(own) and not (own.min() >= 0 and own.max() < len(symbols)))
        ):  # fmt: skip
            raise ValueError(f"its validation rows of refit {refit[:20]!r} are none")
        validation[_whole(refit, ROWS, len(refits))] = (names[own], when.astype("datetime64[us]"))
    refuse_infinite(arrays, nan=True)
    values: dict[str, dict[str, FloatArray]] = {}
    members: dict[str, dict[int, dict[str, FloatArray]]] = {}
    scale: dict[str, dict[int, FloatArray]] = {}
    columns: dict[str, dict[str, FloatArray]] = {FEATURE: {}, WEIGHT: {}, LEARNED: {}}
    for name, array in arrays.items():
        kind, _, rest = name.partition("/")
        place, _, of = rest.partition("/")
        if array.dtype != np.float64:
            raise ValueError(f"its {name[:80]!r} is of {array.dtype}, expected float64")
        if kind == SCALE and array.ndim == 1:
            scale.setdefault(of, {})[_whole(place, name, len(refits))] = array
            continue
        if kind == LEARNED and array.ndim == 1:
            columns[kind][rest] = array
            continue
        shapes = [(count,), (count, 1), (count, horizon)]
        if kind in (VALUE, MEMBER) and is_path(place if kind == VALUE else of.partition("/")[0]):
            shapes = [(count, horizon)] if kind == VALUE else shapes[1:]  # a seed's may be the last step alone
        elif kind == VALUE:
            shapes = shapes[:1]
        if array.shape not in shapes:
            raise ValueError(f"its {name[:80]!r} has the shape {array.shape}, expected {shapes[-1]}")
        if kind == VALUE:
            values.setdefault(of, {})[place] = array
        elif kind in columns and array.ndim == 1:
            columns[kind][rest] = array
        elif kind == MEMBER:
            head, _, model = of.partition("/")
            members.setdefault(model, {}).setdefault(_whole(place, name, MOST_SEEDS), {})[head] = array
        else:
            raise ValueError(f"its array {name[:80]!r} is none that was issued")
    for model, each in members.items():
        if sorted(each) != list(range(len(each))):
            raise ValueError(f"seeds of {model[:80]!r} are missing")
    issued = Issued(
        tuple(names[symbol]), time.astype("datetime64[us]"),
        tuple(np.datetime64(one, "us") for one in refits), values, {}, {},
        {model: tuple(each[place] for place in sorted(each)) for model, each in members.items()},
        {head: tuple(names) for head, names in table["in_force"].items()},
        {head: tuple(names) for head, names in table["rivals"].items()}, moves,
        {model: {np.datetime64(cutoff, "us"): why for cutoff, why in refits.items()}
         for model, refits in table["refused"].items()},
        learned=columns[LEARNED],
    )  # fmt: skip
    return Piece(issued, scale, columns[FEATURE], columns[WEIGHT], table["again"], validation)


def is_path(head: str) -> bool:
    """Whether a head's forecast has one number for each step ahead, and not one for the whole horizon.

    >>> is_path("return"), is_path("variance")
    (True, False)
    """
    return head == "return" or head.startswith((LOW, HIGH))


def _whole(text: str, name: str, most: int) -> int:
    if not text.isdecimal() or text != str(int(text[:6] or "0")) or int(text) >= most:
        raise ValueError(f"its array {name[:80]!r} is of no place up to {most:,}")
    return int(text)
