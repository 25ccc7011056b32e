"""What a chain has issued of one class, as a file of arrays and a JSON table: the past that a store keeps, in pieces.

A piece holds the rows of one update or refit; put together (`joined`) they are the whole. Fits are kept apart, see
`store.writing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.forecasting.walkforward import Issued
from gatecast.formats import refuse_infinite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

MOST_SEEDS = 1_000
"""Of a model whose seeds forecast alone."""
TIME, SYMBOL, MOVES = "time", "symbol", "moves"
VALUE, MEMBER, SCALE = "value", "member", "scale"
"""First words of the names of arrays: value/HEAD/MODEL, member/SEED/HEAD/MODEL, scale/FOLD/MODEL."""


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
    seen: set[tuple[str, int]] = set()
    fresh = []
    for piece in pieces:
        keys = list(zip(piece.symbol, piece.time.astype(np.int64).tolist(), strict=True))
        fresh.append(rows_of(piece, np.array([key not in seen for key in keys], bool)))
        seen.update(keys)
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


def _member(piece: Issued, model: str, seed: int) -> Mapping[str, FloatArray]:
    each = piece.members.get(model, ())
    return dict(each[seed]) if seed < len(each) else {}


def _stacked(arrays: Sequence[FloatArray | None], pieces: Sequence[Issued]) -> FloatArray:
    """Arrays of the pieces one after the other, NaN for a piece that has none."""
    shape = next(array.shape[1:] for array in arrays if array is not None)
    whole = [
        np.full((len(piece.time), *shape), np.nan) if array is None else array
        for array, piece in zip(arrays, pieces, strict=True)
    ]
    return np.concatenate(whole)


def arrays_of_issued(issued: Issued) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What was issued -> arrays by name, and the JSON table beside them; `issued_of` is the inverse, but for the fits.

    >>> day = np.array(["2020-01-02"], "datetime64[us]")
    >>> one = Issued(("A",), day, (), {"m": {"return": np.array([[0.1]])}}, {}, {})
    >>> sorted(arrays_of_issued(one)[0]), arrays_of_issued(one)[1]["symbols"]
    (['moves', 'symbol', 'time', 'value/return/m'], ['A'])
    """
    symbols = sorted(set(issued.symbol))
    number = {symbol: place for place, symbol in enumerate(symbols)}
    arrays: dict[str, NDArray[Any]] = {
        TIME: issued.time.astype("datetime64[us]").astype(np.int64),
        SYMBOL: np.array([number[symbol] for symbol in issued.symbol], np.int32),
        MOVES: issued.moves,
    }
    for model, heads in issued.values.items():
        arrays |= {f"{VALUE}/{head}/{model}": array for head, array in dict(heads).items()}
    for model, each in issued.members.items():
        for seed, one in enumerate(each):
            arrays |= {f"{MEMBER}/{seed}/{head}/{model}": array for head, array in dict(one).items()}
    for model, blocks in issued.scale.items():
        arrays |= {f"{SCALE}/{fold}/{model}": block for fold, block in enumerate(blocks)}
    table = {
        "symbols": symbols,
        "refits": [str(one) for one in issued.cutoffs],
        "in_force": {head: list(names) for head, names in issued.in_force.items()},
        "rivals": {head: list(names) for head, names in issued.rivals.items()},
    }
    return arrays, table


def issued_of(arrays: Mapping[str, NDArray[Any]], table: Mapping[str, Any], horizon: int) -> Issued:
    """Arrays and JSON table -> what was issued, without fits. Raises `ValueError`, in words, where they do not fit."""
    arrays = dict(arrays)
    time, symbol, moves = (arrays.pop(name, None) for name in (TIME, SYMBOL, MOVES))
    if time is None or symbol is None or moves is None:
        raise ValueError(f"it lacks one of its arrays {TIME}, {SYMBOL}, {MOVES}")
    count, symbols = len(time), table["symbols"]
    if time.dtype != np.int64 or time.ndim != 1 or symbol.dtype != np.int32 or symbol.shape != (count,):
        raise ValueError(f"its times and symbols are {time.dtype} {time.shape} and {symbol.dtype} {symbol.shape}")
    if count and not (symbol.min() >= 0 and symbol.max() < len(symbols)):
        raise ValueError(f"it has symbols beyond the {len(symbols)} that are named")
    if moves.dtype != np.float64 or moves.shape not in ((count,), (0,)):
        raise ValueError(f"its {MOVES} are {moves.dtype} {moves.shape}, expected {count:,} numbers")
    if len({*zip(symbol.tolist(), time.tolist(), strict=True)}) < count:
        raise ValueError("it has two rows of one symbol and time")
    values: dict[str, dict[str, FloatArray]] = {}
    members: dict[str, dict[int, dict[str, FloatArray]]] = {}
    scale: dict[str, dict[int, FloatArray]] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition("/")
        if array.dtype != np.float64:
            raise ValueError(f"its {name[:80]!r} is of {array.dtype}, expected float64")
        if kind == SCALE and array.ndim == 1:
            place, _, model = rest.partition("/")
            scale.setdefault(model, {})[_whole(place, name, len(table["refits"]))] = array
            continue
        if array.shape not in ((count,), (count, 1), (count, horizon)):
            raise ValueError(f"its {name[:80]!r} has the shape {array.shape}, expected {count:,} rows")
        if kind == VALUE:
            head, _, model = rest.partition("/")
            values.setdefault(model, {})[head] = array
        elif kind == MEMBER:
            place, head, model = (*rest.split("/", 2), "", "")[:3]
            members.setdefault(model, {}).setdefault(_whole(place, name, MOST_SEEDS), {})[head] = array
        else:
            raise ValueError(f"its array {name[:80]!r} is none that was issued")
    refuse_infinite(arrays, nan=True)
    for what, parts in (("seeds", members), ("refits", scale)):
        for model, each in parts.items():
            if sorted(each) != list(range(len(each))):
                raise ValueError(f"{what} of {model[:80]!r} are missing")
    return Issued(
        tuple(np.array(symbols, dtype=object)[symbol]), time.astype("datetime64[us]"),
        tuple(np.datetime64(one, "us") for one in table["refits"]), values,
        {model: tuple(each[place] for place in sorted(each)) for model, each in scale.items()}, {},
        {model: tuple(each[place] for place in sorted(each)) for model, each in members.items()},
        {head: tuple(names) for head, names in table["in_force"].items()},
        {head: tuple(names) for head, names in table["rivals"].items()}, moves,
    )  # fmt: skip


def _whole(text: str, name: str, most: int) -> int:
    if not text.isdecimal() or text != str(int(text[:6] or "0")) or int(text) >= most:
        raise ValueError(f"its array {name[:80]!r} is of no place up to {most:,}")
    return int(text)
