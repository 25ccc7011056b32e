"""What a store issues: the chain with the model in force, and of its newest rows the decisions that are stored."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.chain import Chain, make_chain
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.forecasting.drift import Drift, alarms_on
from gatecast.live.actions import say_waiting, without_waiting
from gatecast.live.book import HeldNow, book_now, course_of, desk_bytes, figures_of, newly_ordered, of_symbol
from gatecast.live.gates import (
    late_symbols,
    old_models,
    opens_passed,
    other_zones,
    say_no_window,
    say_old,
    say_without_model,
    with_gate,
    without_forecasts,
)
from gatecast.live.kept import Served, pieces_from, serve
from gatecast.live.newest import OTHER_VERSIONS, say_awaited, say_ended, stale, told_of
from gatecast.live.parity import newest_difference
from gatecast.live.versions import misfit_of
from gatecast.market.awaited import with_awaited
from gatecast.market.facts import facts_of
from gatecast.market.merging import DataProblem
from gatecast.market.sessions import open_days, versions
from gatecast.runs import without_doubtful
from gatecast.store.about import counted
from gatecast.store.carried import bytes_of_carried
from gatecast.store.issued import bytes_of_pieces
from gatecast.store.pieces import read_pieces
from gatecast.store.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.trading.book import Course

    FloatArray = NDArray[np.float64]

NO_MODEL = "no model yet"
NUMBERS = (
    "close", "expected_return_log", "expected_return_simple", "probability_up", "base_rate_up", "volatility",
    "standard_deviation", "regime_probability", "z", "signal_return_log", "evidence", "weight", "book",
)  # fmt: skip
TEXTS = ("asset_class", "today", "strategy", "gate", "reason")


@dataclass(frozen=True)
class Made:
    """A chain over all bars with the model that serves, before anything of it is issued."""

    served: Served
    chain: Chain
    bars: pl.DataFrame
    awaited: pl.DataFrame
    course: Course


def chain_on(served: Served, bars: pl.DataFrame, actions: pl.DataFrame, calendars: Mapping[str, str]) -> Made:
    """The chain over `bars`, with the rows that may still come; `calendars`: symbol -> calendar where it is not that of
    its class.

    Raises `BarsError` where the bars are not those that the model was made of, or the book is worth no finite number.
    """
    bars, awaited = with_awaited_of(served.run.experiment, bars, actions, calendars)
    experiment = served.run.experiment.replace(bars=bars)
    chain = make_chain(experiment, bars, actions=actions, past=served.past, refit="never")
    course = course_of(served.past.carried(), without_doubtful(served.run, chain))
    return Made(served, chain, bars, awaited, course)


def with_awaited_of(
    experiment: Experiment, bars: pl.DataFrame, actions: pl.DataFrame, calendars: Mapping[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """The bars of a store with a row for each that may still come within a window, and symbol and time of these."""
    window = max(experiment.lookback, experiment.context)
    ended = facts_of(bars, actions).symbols_ended
    return with_awaited(window, bars, ended, open_days(bars, calendars))


@dataclass(frozen=True)
class Issued:
    """What was issued at an update."""

    model: int | None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    problems: tuple[DataProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    horizon: int = 0
    book: HeldNow | None = None

    @property
    def message(self) -> str:
        """For the heartbeat."""
        if refused_model(self.problems):
            return "no decisions: the model in force forecasts other numbers under the versions that are installed"
        return NO_MODEL if self.model is None else counted(len(self.decisions), "decision")


def refused_model(problems: Sequence[DataProblem]) -> str:
    """Why the model in force may not forecast; "" where it may."""
    return next((one.sentence for one in problems if one.kind == OTHER_VERSIONS), "")


def model_in_force(store: Store) -> tuple[Served | None, tuple[DataProblem, ...]]:
    """The model in force, or the one before it where its files are damaged, which is said; None without a model.

    None as well, with the reason, for one that forecasts other numbers under the versions that are installed here.
    """
    model, before = (store.state.model(number) for number in (store.state.serving, store.state.previous))
    if model is None:
        return None, ()
    try:
        served = serve(store, model)
    except StoreError as error:
        if before is None:
            raise
        served = serve(store, before)
        warnings.warn(
            f"model {model.record} cannot be used, model {before.record} before it forecasts: {error}", stacklevel=2
        )
    if misfit := misfit_of(store, served):
        return None, (DataProblem(OTHER_VERSIONS, tuple(store.state.symbols), misfit),)
    return served, ()


def issue_made(store: Store, made: Made | None, problems: Sequence[DataProblem], now: datetime) -> Issued:
    """Forecasts and decisions from the newest bars; those that were not issued yet are stored."""
    if made is None:
        problems = (*problems, *say_waiting(store))
        if len(bars := store.bars.for_chain(now)):
            gone = {*facts_of(bars, store.actions).symbols_ended, *store.state.waiting}
            problems = (*problems, *stale(bars, now, gone, store.state.calendars))
        return Issued(None, problems=tuple(problems), warnings=tuple(one.sentence for one in problems))
    if said := other_zones(made.served.run.provenance.get("calendars") or {}, versions()):
        warnings.warn(said, stacklevel=2)
    every = (*problems, *say_awaited(made.bars, made.awaited))
    unlike = _unlike_before(store, made.chain)
    done = issue_chain(store, made.served, made.chain, every, now, awaited=made.awaited, course=made.course)
    return replace(done, warnings=(*unlike, *done.warnings))


def issue_chain(
    store: Store, served: Served, chain: Chain, problems: Sequence[DataProblem], now: datetime, *,
    again: bool = False, awaited: pl.DataFrame | None = None, classes: Collection[str] | None = None,
    course: Course | None = None,
) -> Issued:  # fmt: skip
    """The newest rows of a chain, told and stored.

    `again`: they take the place of what was issued at these closes before. `awaited`: symbol and time of rows that may
    still come, of which nothing is issued. `classes`: of which something is issued; None: of all.
    `course`: of the book, where it was decided already.
    """
    ended = chain.facts.symbols_ended
    model = store.state.model(served.number)
    assert model is not None
    old = old_models(model.cutoffs, store.experiment.schedule, chain.bars)
    problems = (*problems, *say_old(old, store.state.symbols), *say_without_model(chain, store.state.symbols))
    problems = (*problems, *say_waiting(store), *say_ended(ended))
    problems = (*problems, *stale(chain.bars, now, {*ended, *store.state.waiting}, store.state.calendars))
    chain, late = without_doubtful(served.run, chain), late_symbols(chain.bars)
    nobody = chain.bars.clear().select("symbol", "time")
    problems = (*problems, *say_no_window(chain, nobody if awaited is None else awaited, late))
    newest = told_of(served.run, served.past, chain, problems, awaited, store.state.calendars)
    told = without_waiting(without_forecasts(newest.rows, old, late), store, now)
    rows = [with_gate(row, served.run, served.number) for row in told]
    experiment = served.run.experiment
    signals = (experiment.signals.model, experiment.signals.confirmed_by)
    pieces = {
        name: replace(piece, again=again, weights=_nothing(piece.weights) if name in old else piece.weights)
        for name, piece in pieces_from(chain, served.past, signals, awaited).items() if len(piece.issued.time)
    }  # fmt: skip
    if classes is not None:
        rows = [row for row in rows if row["asset_class"] in classes]
        pieces = {name: piece for name, piece in pieces.items() if name in classes}
    table = decisions_table(rows)
    if not again:
        issued = latest(store)
        held = issued.filter(pl.col("weight").fill_null(0) != 0)  # what was traded stays, whatever gate closes later
        table = table.join(issued, on=["symbol", "time", "gate"], how="anti", maintain_order="left")
        table = table.join(held, on=["symbol", "time"], how="anti", maintain_order="left")
    course = course_of(served.past.carried(), chain, again=again) if course is None else course
    said = (*newest.warnings, *opens_passed(chain.bars, newly_ordered(store, course), now))
    if len(table) or pieces or course.steps:
        content = bytes_of_pieces(pieces) if pieces else None
        more = _alarms_at(chain, experiment.drift)
        holdings, carried, desks = None, None, dict[str, bytes]()
        if course.steps:
            holdings, carried = course.holdings, bytes_of_carried(course.carried[-1])
            desks = {
                str(one.day): desk_bytes(one, chain, experiment.orders, store.state.calendars) for one in course.desks
            }
            more["book"] = figures_of(course, experiment.book)
        store.issue(
            table, now, model=served.number, pieces=content, more=more, holdings=holdings, carried=carried,
            desks=desks,
        )  # fmt: skip
    now_held = book_now(store)
    rows = [{**row, **_narrow(row), **of_symbol(now_held, row["symbol"])} for row in rows]
    return Issued(served.number, rows, newest.problems, said, experiment.horizon, now_held)


def _alarms_at(chain: Chain, settings: Drift) -> dict[str, Any]:
    """What a record of decisions says of drift: alarms that are on, and closes at which alarms add a refit."""
    on = {name: alarms_on(one.alarms, one.samples.times, settings) for name, one in chain.classes.items()}
    added = {name: [str(time) for time in one.inputs.refits] for name, one in chain.classes.items()}
    return {
        "alarms": {name: [alarm.to_dict() for alarm in alarms] for name, alarms in on.items() if alarms},
        "added": {name: times for name, times in added.items() if times},
    }


def _unlike_before(store: Store, chain: Chain) -> tuple[str, ...]:
    """In words, where a chain no longer says of the newest close that was issued what was issued there; mostly ().

    Its features are compared, where no row up to that close has come or changed since.
    """
    last = next((one for one in reversed(store.state.issued) if one.pieces is not None), None)
    if last is None or last.pieces is None:
        return ()
    counts = [one.body for one in store.journal.records(since=last.record) if one.kind == "bars"]
    if any(body["counts"].get("corrected") or body["counts"].get("late") or body.get("symbols") for body in counts):
        return ()
    found = newest_difference(read_pieces(store.artefacts, last.pieces, store.experiment.horizon), chain)
    if found is None:
        return ()
    return (
        f"What was issued is no longer what the chain says. {found.sentence} `gatecast parity` compares all of it.",
    )


def _nothing(weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Weights -> 0 for each."""
    return {name: np.zeros_like(one) for name, one in weights.items()}


def decisions_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of decisions as a table: symbol, time (the newest close of the symbol's class), numbers, gate and reason."""
    schema: dict[str, Any] = {
        "symbol": pl.String, "time": pl.Datetime("us", "UTC"), "forecast_time": pl.Datetime("us", "UTC"),
        **dict.fromkeys(TEXTS, pl.String), **dict.fromkeys(NUMBERS, pl.Float64), "signal": pl.Int8,
        "consensus": pl.Boolean, "low_80": pl.Float64, "high_80": pl.Float64, "flags": pl.String,
    }  # fmt: skip
    made = []
    for row in rows:
        made.append(
            {
                **{name: row.get(name) for name in (*TEXTS, *NUMBERS, "symbol", "signal", "consensus")},
                "time": row["class_newest_bar"], "forecast_time": row.get("time"),
                **_narrow(row), "flags": ", ".join(row.get("flags") or ()),
            }
        )  # fmt: skip
    return pl.DataFrame(made, schema=schema, strict=False).sort("symbol")


def _narrow(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The ends of the narrowest interval of a row of `newest_rows`, over the horizon; None each without one."""
    narrow = next(iter(row.get("intervals") or ()), None)
    return {f"{end}_80": narrow[end][-1] if narrow else None for end in ("low", "high")}


def latest(store: Store) -> pl.DataFrame:
    """The newest decision of every symbol that was issued: symbol, time, gate, weight."""
    schema: dict[str, Any] = {
        "symbol": pl.String, "time": pl.Datetime("us", "UTC"), "gate": pl.String, "weight": pl.Float64,
    }  # fmt: skip
    frames = [pl.DataFrame(schema=schema)]
    for one in reversed(store.state.issued[-LOOKED_AT:]):
        table = store.decisions_of(one.decisions, ("gate",))
        weight = pl.col("weight") if table.schema.get("weight") == pl.Float64 else pl.lit(None, pl.Float64)
        frames.append(table.select("symbol", "time", "gate", weight=weight))
    return pl.concat(frames).unique("symbol", keep="first", maintain_order=True)


LOOKED_AT = 20
"""Latest records of decisions in which a symbol's newest is looked for."""
