"""What a store keeps of a chain, and gives back: a model's artefacts, and what was issued as the next chain's past."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.chain import Past
from gatecast.errors import InfiniteError, StoreError
from gatecast.forecasting.drift import Alarms
from gatecast.live.book import changes_before
from gatecast.runs import Run
from gatecast.store.issued import Piece, bytes_of_pieces, issued_keys, joined
from gatecast.store.parts import Parts, models_of
from gatecast.store.pieces import WEIGHTS, in_order, pieces_by_record
from gatecast.store.reading import experiment_of
from gatecast.store.schema import AlarmsOfClasses, Provenance, Scores
from gatecast.store.state import ALARMS, ISSUED, refuse_misfit
from gatecast.store.writing import json_part, model_parts, settings_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.chain import Chain, ClassResult
    from gatecast.experiment import Experiment
    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.forecasting.walkforward import Issued
    from gatecast.store.state import Model
    from gatecast.store.store import Store
    from gatecast.trading.book import Carried

    FloatArray = NDArray[np.float64]
    Fits = Mapping[str, Mapping[str, FittedForecaster]]
    PiecesByRecord = Mapping[int, Mapping[str, Piece]]


@dataclass(frozen=True)
class Served:
    """A model of a store, ready to forecast.

    `run`: its settings, verdicts and scores, without frames. `past`: what the store has issued up to now, with the
    model's fits. `number`: of its refit's record.
    """

    number: int
    run: Run
    past: Past


def pieces_from(
    chain: Chain, past: Past | None, signals: Sequence[str], awaited: pl.DataFrame | None = None
) -> dict[str, Piece]:
    """Asset class -> what a chain has issued beyond its past: rows, weights, features, and the scale of new refits.

    `signals`: the models that signals are made from, whose scale is kept. `awaited`: symbol and time of rows that are
    not issued.
    """
    keys = () if awaited is None else awaited.select("symbol", "time").iter_rows()
    waits = {(symbol, np.datetime64(time.replace(tzinfo=None), "us")) for symbol, time in keys}
    weights = chain.weights.select("symbol", "time", "weight", "book")
    found = {}
    for name, one in chain.classes.items():
        before = past.forecasts.get(name) if past else None
        found[name] = _piece_from(one, before, weights, signals, waits)
    return found


def _piece_from(
    one: ClassResult, before: Issued | None, weights: pl.DataFrame, signals: Sequence[str],
    waits: Collection[tuple[str, np.datetime64]],
) -> Piece:  # fmt: skip
    rows = one.forecasts.rows
    if before is not None:
        rows = rows[~np.isin(rows, before.rows_in(one.samples)[1])]
    if waits:
        keys = zip(*one.forecasts.keys_of(rows), strict=True)
        rows = rows[[key not in waits for key in keys]]
    table = one.samples.features[one.samples.ends[rows]]
    done = 0 if before is None else len(before.cutoffs)
    scale = {
        model: dict(list(enumerate(blocks))[done if before is not None and model in before.scale else 0 :])
        for model, blocks in one.forecasts.scale.items() if model in signals
    }  # fmt: skip
    learned = one.forecasts.learned if len(one.forecasts.folds) > done else {}  # what a refit learned is of its piece
    own = replace(
        one.forecasts.issued(rows), scale={}, fitted={}, refused_fits={}, validation=(), learned=learned
    )  # fmt: skip
    numbers = {refit for blocks in scale.values() for refit in blocks}
    held = issued_keys(own).join(weights, on=["symbol", "time"], how="left", maintain_order="left")
    return Piece(
        own, scale, {name: table[:, place] for place, name in enumerate(one.samples.names)},
        {name: held[name].fill_null(np.nan).to_numpy() for name in WEIGHTS},
        validation={refit: one.forecasts.keys_of(one.forecasts.folds[refit].validation) for refit in sorted(numbers)},
    )  # fmt: skip


def parts_of_model(
    run: Run, chain: Chain, past: Past | None, awaited: pl.DataFrame | None = None
) -> dict[str, bytes]:  # fmt: skip
    """Role -> content of everything that is kept of a refit: settings, scores, fits, and what it issued itself, but at
    the symbols and times `awaited`."""
    signals = (run.experiment.signals.model, run.experiment.signals.confirmed_by)
    return {
        "experiment.toml": settings_part(run.experiment),
        "scores.json": json_part(run.scores),
        "provenance.json": json_part(run.provenance),
        ALARMS: json_part({"classes": {name: one.inputs.to_dict() for name, one in chain.classes.items()}}),
        **model_parts(chain.forecasts),
        ISSUED: bytes_of_pieces(
            {
                name: replace(one, again=past is not None)
                for name, one in pieces_from(chain, past, signals, awaited).items()
            }
        ),
    }


def scores_in_force(store: Store) -> dict[str, Any]:
    """The scores of the refit in force; {} without one, or where its files were removed."""
    model = store.state.model(store.state.serving)
    if model is None or not store.artefacts.has(part := model.parts["scores.json"]):
        return {}
    return Parts.of_content(store.folder, {"scores.json": store.artefacts.get(part)}).json("scores.json", Scores)


def serve(
    store: Store, model: Model, before: Mapping[str, datetime] | None = None, pieces: PiecesByRecord | None = None
) -> Served:  # fmt: skip
    """A model of a store with all that the store has issued; of the classes in `before`, before these closes.

    `pieces`: what it has issued, where another part of it is meant. Raises `StoreError` for what is missing, damaged or
    does not fit together.
    """
    parts = _parts_of(store, model)
    provenance = parts.json("provenance.json", Provenance)
    experiment = experiment_of(parts, provenance)
    empty = pl.DataFrame(schema={"symbol": pl.String, "time": pl.Datetime("us", "UTC")})
    run = Run(
        experiment, empty, b"", empty, empty, empty, parts.json("scores.json", Scores), provenance, path=store.folder
    )
    features = {name: tuple(names) for name, names in (provenance.get("features") or {}).items()}
    if pieces is None:
        pieces = pieces_by_record(store.artefacts, store.state, experiment.horizon, model.record)
    past = _past_of(store, model, experiment, _fits_in(parts), before or {}, features, pieces)
    return Served(
        model.record, run, replace(past, alarms=_alarms_of(parts), carried=partial(carried_before, store))
    )  # fmt: skip


def fits_of(store: Store, model: Model) -> tuple[Fits, Fits]:
    """Asset class -> model -> fit of a refit: those in force, and those that the guard refused.

    Raises `StoreError` as `serve` does.
    """
    return _fits_in(_parts_of(store, model))


def _fits_in(parts: Parts) -> tuple[Fits, Fits]:
    return models_of(parts), models_of(parts, "refused/")


def _parts_of(store: Store, model: Model) -> Parts:
    """All files of a model but for what it issued."""
    names = {role: part for role, part in model.parts.items() if role != ISSUED}
    return Parts.of_content(store.folder, {role: store.artefacts.get(part) for role, part in names.items()})


def carried_before(store: Store, record: int | None = None) -> list[Carried]:
    """What the book of a store goes on from, of the newest two sessions, the newest last: at a record, of those before
    the session that was decided there; None: of all.

    Sessions whose numbers are not finite, as an earlier version stored them, are passed over: the sessions after those
    that are left are decided again. Raises `StoreError` where one cannot be read, and where none is left.
    """
    said = [one for one in store.state.issued if one.carried]
    if record is not None:
        decided = next((one.session for one in said if one.record >= record), "")
        said = [one for one in said if one.record < record and (not decided or one.session < decided)]
    found: dict[str, Carried] = {}
    passed: list[str] = []
    for one in reversed(said):
        if len(found) == 2:
            break
        if one.session in found or one.session in passed:
            continue
        if record is not None and not store.artefacts.has(one.carried or ""):
            raise StoreError(
                f"{store.folder}: what the book went on from at {one.session} was pruned or is missing: compare fewer "
                "closes, with --last, or restore it from a copy of the store."
            )
        try:
            found[one.session] = store.carried_of(one.carried or "", partial(changes_before, store, one.record + 1))
        except InfiniteError:
            passed.append(one.session)
    if record is None and max(passed, default="") > max(found, default=""):
        _tell_passed(store, passed, max(found, default=""))
    return [found[day] for day in sorted(found)]


def _tell_passed(store: Store, passed: Sequence[str], left: str) -> None:
    """Warns that sessions were passed over up to the newest that is `left`. Raises `StoreError` where none is."""
    since = (
        f"the book of {store.folder} was worth no finite number at {min(passed)}"
        f"{f' to {max(passed)}' if len(passed) > 1 else ''}: an earlier gatecast stored it where an action gave more "
        "than anybody can hold (`gatecast actions list` shows them all, `gatecast actions remove` takes one back)"
    )
    if not left:
        raise StoreError(
            f"{since}. No session before it is there to go on from. Make a new store of its bars: `gatecast store "
            f"export {store.folder} --out FOLDER --format parquet`, then `gatecast update NEW --bars "
            "FOLDER/bars.parquet --actions FOLDER/actions.parquet --config FILE --stamp close`."
        )
    warnings.warn(f"{since}. It is decided again from the session after {left} on.", stacklevel=2)


def book_begins(store: Store, session: date) -> date:
    """From which session on a chain makes the book of a store anew that has none before this one; never without one."""
    first = next((one.session for one in store.state.issued if one.carried), None)
    return date.max if first is None else max(date.fromisoformat(first), session)


def _alarms_of(parts: Parts) -> dict[str, Alarms]:
    if ALARMS not in parts:
        return {}
    return {name: Alarms.from_dict(one) for name, one in parts.json(ALARMS, AlarmsOfClasses)["classes"].items()}


def _past_of(
    store: Store, model: Model, experiment: Experiment, fits: tuple[Fits, Fits],
    before: Mapping[str, datetime], features: Mapping[str, tuple[str, ...]], read: PiecesByRecord,
) -> Past:  # fmt: skip
    """Rows of every refit and update; refits, scale and fits of this model and of those that it goes on from.

    `fits`: asset class -> model -> fit, those in force and those that were refused.
    """
    own, ancestry, passed = read[model.record], _ancestry(store, model), last_refits(store.state.models)
    found, weights = {}, []
    for name, refits in own.items():
        each = [(number, pieces[name]) for number, pieces in read.items() if name in pieces]
        inside = [(number, _before(piece, before.get(name))) for number, piece in each]
        ordered = in_order(inside)
        cutoffs = refits.issued.cutoffs
        blocks: dict[str, dict[int, FloatArray]] = {}
        rows: dict[int, tuple[object, object]] = {}
        for number, piece in each:
            for one, own_blocks in piece.scale.items() if number in ancestry else ():
                blocks.setdefault(one, {}).update(own_blocks)
            rows |= piece.validation if number in ancestry else {}
        scale = {
            one: tuple(many[place] for place in range(len(cutoffs)))
            for one, many in blocks.items() if set(range(len(cutoffs))) <= many.keys()
        }  # fmt: skip
        found[name] = replace(
            joined([piece.issued for piece in ordered]), cutoffs=cutoffs, in_force=refits.issued.in_force,
            rivals=refits.issued.rivals, refused=refits.issued.refused, learned=refits.issued.learned,
            fitted=fits[0].get(name, {}), refused_fits=fits[1].get(name, {}), scale=scale, passed=passed.get(name),
            validation=tuple(rows[place] for place in range(len(cutoffs))) if scale else (),
        )  # fmt: skip
        for one in sorted({experiment.signals.model, experiment.signals.confirmed_by}):
            if one not in scale or "return" not in found[name].values.get(one, {}):
                raise StoreError(
                    f"{store.folder}: what was issued of {name!r} lacks forecasts or the scale of {one!r}, from which "
                    "signals are made. Restore the store from a copy."
                )
        weights += [_weights_of(piece) for piece in ordered]
    table = pl.concat(weights).unique(["symbol", "time"], keep="first", maintain_order=True) if weights else _NOTHING
    return Past(found, features, table.sort("symbol", "time"), experiment.forecasting)


def _before(piece: Piece, moment: datetime | None) -> Piece:
    """A piece's rows before a close; all where none is given."""
    if moment is None:
        return piece
    return piece.of_rows(piece.issued.time < np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us"))


_NOTHING = pl.DataFrame(
    schema={"symbol": pl.String, "time": pl.Datetime("us", "UTC"), "weight": pl.Float64, "book": pl.Float64}
)


def _weights_of(piece: Piece) -> pl.DataFrame:
    return issued_keys(piece.issued).with_columns(pl.Series(name, piece.weights[name]) for name in WEIGHTS)


def _ancestry(store: Store, model: Model) -> set[int]:
    """Numbers of a model and of those that it goes on from."""
    found: set[int] = set()
    one: Model | None = model
    while one is not None and one.record not in found:
        found.add(one.record)
        one = store.state.model(one.goes_on)
    return found


def last_issued(store: Store) -> dict[str, Any]:
    """What the newest record of decisions says; {} where there is none. Raises `StoreError` where it does not fit."""
    if not store.state.issued:
        return {}
    record = store.journal.record(store.state.issued[-1].record)
    refuse_misfit(record.kind, record.body)
    return dict(record.body)


def alarms_said(store: Store) -> list[dict[str, Any]]:
    """The alarms of drift that were on at the newest decisions, by asset class, each as `Alarm.to_dict` has it."""
    return [one for _, alarms in sorted(last_issued(store).get("alarms", {}).items()) for one in alarms]


def last_refits(models: Iterable[Model]) -> dict[str, np.datetime64]:
    """Models of a store -> asset class -> cutoff of its newest refit that was accepted, in force or rolled back."""
    last: dict[str, np.datetime64] = {}
    for one in models:
        for name, text in one.cutoffs.items() if one.status == "accepted" else ():
            moment = np.datetime64(text, "us")
            last[name] = max(last.get(name, moment), moment)
    return last


def first_decision(folder: str | Path, model: int | None) -> str:
    """What a store without a decision says: how its first is made. `model`: the one in force, None without one.

    >>> first_decision("S", None)
    'nothing was decided yet: `gatecast retrain S` makes a model, then each `gatecast update S --bars FILE` decides.'
    """
    first = "" if model is not None else f"`gatecast retrain {folder}` makes a model, then "
    return f"nothing was decided yet: {first}each `gatecast update {folder} --bars FILE` decides."


def refuse_unserved(store: Store) -> Model:
    """The model in force. Raises `StoreError` where there is none."""
    model = store.state.model(store.state.serving)
    if model is None:
        raise StoreError(f"{store.folder} has no model yet: `gatecast retrain {store.folder}` trains one.")
    return model
