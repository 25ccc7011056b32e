"""Closes of a run or a store that were decided: the samples, forecasts, fits and book that each is explained from.

What was decided is made again by the chain from what was issued; nothing is fitted, but for closes of a run before its
last refit: a run keeps its last fits alone, and those in force there are fitted again, to the same bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as clock
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from gatecast.chain import make_chain
from gatecast.errors import NotDecidedError, NotKeptError, SettingsError, StoreError, did_you_mean
from gatecast.explanations.corrected import Correction, corrections_since, versions_that_came_later
from gatecast.files import full_path
from gatecast.forecasting.attribution import Attributable
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.tuning.tuned import TunedLSTM
from gatecast.live.book import desk_at
from gatecast.live.gates import GATES, OPEN, closed, say_gate
from gatecast.live.issuing import with_awaited_of
from gatecast.live.kept import first_decision, fits_of, serve
from gatecast.live.today import NEEDED
from gatecast.market.bars import session_date, session_of
from gatecast.market.facts import facts_of
from gatecast.runs import Run, without_doubtful
from gatecast.samples.targets import came_after
from gatecast.store.identity import ABOUT, is_store
from gatecast.store.parts import MANIFEST
from gatecast.store.reading import load_run
from gatecast.store.store import Store
from gatecast.trading.book import carry_on, no_holdings
from gatecast.trading.sizing import Sized, trades_of

if TYPE_CHECKING:
    from gatecast.chain import Chain, ClassResult
    from gatecast.experiment import Experiment
    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.market.facts import Facts
    from gatecast.store.state import Issued, Model
    from gatecast.trading.desk import Desk

    Fits = Mapping[str, FittedForecaster]

NOT_COME = "not all bars of the horizon have come"
ENDED_BEFORE = "it ended before all bars of the horizon had come"
NO_BAR = "it has no bar of this close"
MOST_CHAINS = 2
"""Models of a store whose chains are kept for the next close that is asked for."""


@dataclass(frozen=True)
class Refit:
    """One refit of an asset class: its cutoff, the number of the fold that it serves, and model -> fit in force.

    `model`: number of the refit's record in a store, None in a run.
    """

    cutoff: np.datetime64
    fold: int
    fits: Fits = field(repr=False)
    model: int | None = None


@dataclass(frozen=True)
class Moment:
    """A close of a symbol that was decided.

    `row`: of the samples of its class, -1 where nothing was forecast; `fold`: that forecast it. `result`: of its class.
    `model`: number of the model's record, None in a run. `gate`, `sentence`: the first gate that closed on the
    strategies' side, "" where none did. `corrected`: bars of the class that say something else now than then: `result`
    is of the bars as they were known then.
    """

    symbol: str
    asset_class: str
    time: datetime
    row: int
    fold: int
    result: ClassResult = field(repr=False)
    model: int | None = None
    gate: str = ""
    sentence: str = ""
    corrected: tuple[Correction, ...] = ()

    @property
    def session(self) -> date:
        """The session of the close."""
        return session_of(self.time)


@dataclass(frozen=True)
class BookAt:
    """The book at the close of a session: what sizing saw, and the trades that it made of it."""

    desk: Desk
    sized: Sized

    @classmethod
    def of(cls, desk: Desk) -> Self:
        """The book of a desk, with what it held itself."""
        return cls(desk, trades_of(desk.view, desk.sizing, desk.size))


class Origin(ABC):
    """Where decisions come from. `path`: its folder, None of a run in memory."""

    kind: str
    path: Path | None

    @property
    @abstractmethod
    def experiment(self) -> Experiment:
        """The settings."""

    @property
    @abstractmethod
    def symbols(self) -> Mapping[str, str]:
        """Symbol -> asset class."""

    @property
    @abstractmethod
    def bars(self) -> pl.DataFrame:
        """The bars that there are, those still awaited not among them."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Facts of these bars."""

    def came(self, symbols: Collection[str]) -> pl.DataFrame:
        """symbol, time and `came_return_log` after each bar of these symbols, see `targets.came_after`, and `not_come`:
        why that is not known, null where it is."""
        own = came_after(self.bars.filter(pl.col("symbol").is_in(list(symbols))), self.experiment.horizon)
        ended = pl.col("symbol").is_in(list(self.facts.symbols_ended))
        over = ended | (pl.col("listing") < pl.col("listing").max().over("symbol"))
        why = pl.when(over).then(pl.lit(ENDED_BEFORE)).otherwise(pl.lit(NOT_COME))
        unknown = pl.col("came_return_log").is_null()
        return own.select("symbol", "time", "came_return_log", not_come=pl.when(unknown).then(why))

    @abstractmethod
    def closes(self, symbol: str) -> list[datetime]:
        """The closes at which something was decided of a symbol, ascending."""

    def newest(self) -> Mapping[str, datetime]:
        """Symbol -> its newest close at which something was decided."""
        return {symbol: closes[-1] for symbol in sorted(self.symbols) if (closes := self.closes(symbol))}

    @property
    def undecided(self) -> str:
        """What is said of a symbol of which nothing was decided."""
        return "nothing was decided of it. Leave it out."

    def has_bar(self, symbol: str, session: date) -> bool:
        """Whether a bar of a session is there that was decided together with a later one."""
        return False

    @abstractmethod
    def moments(self, keys: Sequence[tuple[str, datetime]]) -> list[Moment]:
        """What was decided at closes of symbols."""

    @abstractmethod
    def book(self, session: date) -> BookAt | None:
        """The book at a session; None where there is none, or nothing is kept of it."""

    @abstractmethod
    def refits(self, moment: Moment, count: int, also: Collection[str] = ()) -> list[Refit]:
        """The refit in force at a moment and those before it, the newest first, at most so many.

        `also`: models that cannot say what their inputs add, and are fitted again with those that can.
        """

    @abstractmethod
    def holdings(self, session: date, symbol: str) -> Mapping[str, Any]:
        """The row of `trading.book.holdings_of` that was issued; {} without one."""

    def refuse_unknown(self, symbol: str) -> str:
        """The same symbol. Raises `SettingsError` for one that is not there."""
        if symbol not in self.symbols:
            advice = did_you_mean(symbol, self.symbols)
            raise SettingsError(f"the {self.kind} has no symbol {symbol!r}. {advice}")
        return symbol

    def close(self, symbol: str, time: datetime | date | None = None) -> datetime:
        """The newest close of a symbol that was decided; `time`: that close, or the newest of that session.

        A date is a session: a coin's bar of it closes at 00:00 of the next day. So is a midnight that is no close.

        Raises `NotDecidedError` where nothing was decided there, with the closes that there are.
        """
        newest = self.newest().get(self.refuse_unknown(symbol))
        if newest is None:
            raise NotDecidedError(f"{symbol!r}: {self.undecided}")
        if time is None:
            return newest
        closes = self.closes(symbol)
        if isinstance(time, datetime) and time in closes:
            return time
        moment = time if isinstance(time, datetime) else datetime.combine(time, clock(), UTC)
        if moment.time() == clock() and (same := [one for one in closes if session_of(one) == moment.date()]):
            return same[-1]
        if moment.time() == clock() and self.has_bar(symbol, moment.date()):
            after = next((one for one in closes if one > moment), None)
            with_it = f"together with the close {_spelled(after)}: ask for that one" if after else "at no close yet"
            raise NotDecidedError(f"{symbol!r}: the session of {moment:%Y-%m-%d} was decided {with_it}.")
        near = sorted(closes, key=lambda one: abs(one - moment))[:2]
        raise NotDecidedError(
            f"{symbol!r}: nothing was decided at {_spelled(moment)}. Decisions are of {len(closes):,} closes from "
            f"{_spelled(closes[0])} to {_spelled(closes[-1])}; the nearest: {', '.join(map(_spelled, sorted(near)))}."
        )


def _spelled(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def origin_of(of: Run | Store | str | Path, now: datetime | None = None) -> Origin:
    """The origin of a run, a store, or the folder of either. `now`: up to which bars of a store count.

    Raises `StoreError` for a folder that is neither.
    """
    if isinstance(of, Run):
        return RunOrigin(of)
    if isinstance(of, Store):
        return StoreOrigin(of, now)
    place = full_path(of)
    if is_store(place):
        return StoreOrigin(Store.open(place).as_of(now), now)
    if not (place / MANIFEST).is_file():
        raise StoreError(f"{place} is neither a run nor a store: expected a folder with {MANIFEST} or {ABOUT}.")
    return RunOrigin(load_run(place))


def _rows_of(result: ClassResult) -> dict[tuple[str, datetime], int]:
    """Symbol and close -> row of the samples, of all that was forecast."""
    rows = result.forecasts.rows
    names, times = result.forecasts.keys_of(rows)
    moments = pl.Series(times).dt.replace_time_zone("UTC").to_list()
    return dict(zip(zip(names.tolist(), moments, strict=True), rows.tolist(), strict=True))


def _fold_of(result: ClassResult, row: int) -> int:
    return next(number for number, fold in enumerate(result.forecasts.folds) if row in fold.test)


# ── a run ─────────────────────────────────────────────────────────────────────────────────────────


class RunOrigin(Origin):
    """A run, in memory or of a folder."""

    kind = "run"

    def __init__(self, run: Run) -> None:
        self.run, self.path = run, run.path
        self._books: dict[date, BookAt | None] = {}
        self._fitted: dict[tuple[str, int, frozenset[str]], Refit] = {}
        self._results: dict[str, ClassResult] = {}

    @property
    def experiment(self) -> Experiment:
        """See `Origin`."""
        return self.run.experiment

    @cached_property
    def chain(self) -> Chain:
        """The run's chain, with nothing held where its outcome is in doubt."""
        return without_doubtful(self.run, self.run.stored.chain)

    @property
    def bars(self) -> pl.DataFrame:
        """See `Origin`."""
        return self.chain.bars

    @property
    def facts(self) -> Facts:
        """See `Origin`."""
        return self.chain.facts

    @cached_property
    def symbols(self) -> Mapping[str, str]:
        """See `Origin`: of the classes that were forecast."""
        return {
            name: kind for kind, one in self.chain.classes.items() for name in one.samples.symbols
        }  # fmt: skip

    @cached_property
    def _rows(self) -> dict[tuple[str, datetime], int]:
        return {key: row for one in self.chain.classes.values() for key, row in _rows_of(one).items()}

    @cached_property
    def _closes(self) -> dict[str, list[datetime]]:
        found: dict[str, list[datetime]] = {}
        for symbol, time in sorted(self._rows):
            found.setdefault(symbol, []).append(time)
        return found

    def closes(self, symbol: str) -> list[datetime]:
        """See `Origin`."""
        return self._closes.get(symbol, [])

    def moments(self, keys: Sequence[tuple[str, datetime]]) -> list[Moment]:
        """See `Origin`."""
        found = []
        for symbol, time in keys:
            name = self.symbols[symbol]
            result, row = self._result(name), self._rows[symbol, time]
            gate = self._gate(result, row)
            found.append(
                Moment(
                    symbol, name, time, row, _fold_of(result, row), result, None, *((gate, GATES[gate]) if gate else ())
                )
            )
        return found

    def _result(self, name: str) -> ClassResult:
        """A class in memory, where several wait on disk."""
        if name not in self._results:
            result = self.chain.classes[name]
            self._results[name] = deepcopy(result) if self.chain.disk else result
        return self._results[name]

    def _gate(self, result: ClassResult, row: int) -> str:
        """The first gate that closed on the strategies' side, "" where none did."""
        choice, at = result.selection, result.samples.decided[row]
        told = {
            "today": "bar", "current": True, "strategy": result.proposals.names[choice.chosen[at]],
            "evidence": float(choice.evidence[at]), "weight": float(choice.weight[at]),
            "reason": "too good" if choice.too_good[at] else "",
        }  # fmt: skip
        override = self.run.experiment.selection.evidence is not None
        doubt = "doubtful" if self.run.doubtful else "late claim" if self.run.untradable else ""
        gate = closed(told, "" if override else doubt, override, [])
        return "" if gate == OPEN else gate

    def book(self, session: date) -> BookAt | None:
        """See `Origin`: gatecast's line is made again up to the session."""
        if session not in self._books:
            chain = self.chain
            bars = chain.bars.filter(session_date(pl.col("time")) <= session)
            facts = facts_of(bars, chain.actions)
            desks = carry_on(chain.classes, facts, chain.book, level="newest").desks
            self._books[session] = BookAt.of(desks[-1]) if desks else None
        return self._books[session]

    def holdings(self, session: date, symbol: str) -> Mapping[str, Any]:
        """See `Origin`."""
        rows = self.run.book.filter(pl.col("session") == session, pl.col("symbol") == symbol)
        return rows.row(0, named=True) if len(rows) else {}

    def refits(self, moment: Moment, count: int, also: Collection[str] = ()) -> list[Refit]:
        """See `Origin`; earlier ones are fitted again."""
        numbers = range(moment.fold, max(moment.fold - count, -1), -1)
        return [self._refit(moment.asset_class, number, frozenset(also)) for number in numbers]

    def _refit(self, name: str, number: int, also: frozenset[str]) -> Refit:
        if (name, number, also) not in self._fitted:
            forecasts = self._result(name).forecasts
            last = number == len(forecasts.folds) - 1
            fits = forecasts.fitted if last else self._fitted_again(name, number, also)
            self._fitted[name, number, also] = Refit(forecasts.folds[number].cutoff, number, fits)
        return self._fitted[name, number, also]

    def _fitted_again(self, name: str, number: int, also: Collection[str]) -> Fits:
        """The fits in force at an earlier fold, of models that say what their inputs add, but for searched settings.

        `also`: of these, too.
        """
        result, found = self._result(name), dict[str, Any]()
        folds = [fold.on(result.samples) for fold in result.forecasts.folds]
        for model, forecaster in result.forecasts.panel.items():
            fitted = result.forecasts.fitted.get(model)
            asked = isinstance(fitted, Attributable) or (fitted is not None and model in also)
            if not asked or isinstance(forecaster, TunedLSTM):
                continue
            refused = result.forecasts.refused.get(model, {})
            own = number
            while own > 0 and folds[own].cutoff in refused:
                own -= 1
            begun = own - own % getattr(forecaster, "every", 1)
            found[model] = forecaster.fit_many(folds[: own + 1], Task(name=model, since=begun))[-1]
        return found


# ── a store ───────────────────────────────────────────────────────────────────────────────────────


class StoreOrigin(Origin):
    """A store after the newest record that it has read. `now`: the moment up to which bars count."""

    kind = "store"

    def __init__(self, store: Store, now: datetime | None = None) -> None:
        self.store, self.path, self.now = store, store.folder, now or datetime.now(UTC)
        self._chains: dict[tuple[int, str], Chain] = {}
        self._rows: dict[tuple[int, str, str], dict[tuple[str, datetime], int]] = {}
        self._held: dict[date, dict[str, Mapping[str, Any]]] = {}
        self._books: dict[date, BookAt | None] = {}

    @cached_property
    def experiment(self) -> Experiment:
        """See `Origin`."""
        return self.store.experiment

    @cached_property
    def bars(self) -> pl.DataFrame:
        """See `Origin`."""
        return self.store.bars.for_chain(self.now)

    @cached_property
    def facts(self) -> Facts:
        """See `Origin`."""
        return facts_of(self.bars, self.store.actions)

    @cached_property
    def _later(self) -> pl.DataFrame:
        return versions_that_came_later(self.store.bars.versions(), self.now)

    @cached_property
    def symbols(self) -> Mapping[str, str]:
        """See `Origin`."""
        return dict(self.store.state.symbols)

    @cached_property
    def _decided(self) -> dict[str, dict[datetime, dict[str, Any]]]:
        """Symbol -> close -> its decision that counts: the newest."""
        found: dict[str, dict[datetime, dict[str, Any]]] = {}
        for one in self.store.state.issued:
            for row in self._decisions(one):
                found.setdefault(row["symbol"], {})[row["time"]] = row
        return found

    @cached_property
    def _newest(self) -> dict[str, dict[str, Any]]:
        """Symbol -> its newest decision; not all records are read for it."""
        found: dict[str, dict[str, Any]] = {}
        for one in reversed(self.store.state.issued):
            for row in self._decisions(one):
                if row["symbol"] not in found or found[row["symbol"]]["time"] < row["time"]:
                    found[row["symbol"]] = row
            if len(found) >= len(self.symbols):
                break
        return found

    def _decisions(self, issued: Issued) -> list[dict[str, Any]]:
        """symbol, time, gate, model and the record itself of what a record decided."""
        table = self.store.decisions_of(issued.decisions, NEEDED).select("symbol", "time", "gate")
        return [{**row, "model": issued.model, "issued": issued} for row in table.to_dicts()]

    @property
    def undecided(self) -> str:
        """See `Origin`; of a store without a decision how its first is made."""
        state = self.store.state
        return super().undecided if state.issued else first_decision(self.store.folder, state.serving)

    def has_bar(self, symbol: str, session: date) -> bool:
        """See `Origin`."""
        own = self.store.bars.for_chain(self.now).filter(pl.col("symbol") == symbol)
        return session in own.select(session_date(pl.col("time"))).to_series().to_list()

    def newest(self) -> Mapping[str, datetime]:
        """See `Origin`."""
        return {symbol: row["time"] for symbol, row in sorted(self._newest.items())}

    def closes(self, symbol: str) -> list[datetime]:
        """See `Origin`."""
        return sorted(self._decided.get(symbol, {}))

    def moments(self, keys: Sequence[tuple[str, datetime]]) -> list[Moment]:
        """See `Origin`. Raises `StoreError` for a model whose files are gone."""
        found = []
        for symbol, time in keys:
            said = self._newest.get(symbol)
            said = self._decided[symbol][time] if said is None or said["time"] != time else said
            name, model = self.symbols[symbol], said["model"]
            if model is None:
                raise NotKeptError(f"{symbol!r}: no model decided at {_spelled(time)}: {say_gate(said['gate'])}.")
            corrected = corrections_since(said["issued"], symbol, time, self.store, self._later, self.bars)
            then = said["issued"].now if corrected else ""
            result = self._chain(model, then).classes.get(name)
            if result is None:
                raise NotKeptError(f"{symbol!r}: model {model} knows no {name}: its symbols join at the next refit.")
            if (model, then, name) not in self._rows:
                self._rows[model, then, name] = _rows_of(result)
            row = self._rows[model, then, name].get((symbol, time), -1)
            fold = _fold_of(result, row) if row >= 0 else len(result.forecasts.folds) - 1
            gate = "" if said["gate"] == OPEN else said["gate"]
            sentence = say_gate(gate) if gate else ""
            found.append(Moment(symbol, name, time, row, fold, result, model, gate, sentence, corrected))
        return found

    def _chain(self, number: int, then: str = "") -> Chain:
        """The chain of all bars with a model's fits, and with all that was issued; `then`: with what was known and
        issued by that moment alone. Those asked for last are kept."""
        if (number, then) not in self._chains:
            while len(self._chains) >= MOST_CHAINS:
                oldest = next(iter(self._chains))
                del self._chains[oldest]
                self._rows = {key: rows for key, rows in self._rows.items() if key[:2] != oldest}
            model = self._model(number)
            store = self.store.as_of(datetime.fromisoformat(then)) if then else self.store
            served = serve(store, model)
            bars = store.bars.for_chain(datetime.fromisoformat(then)) if then else self.bars
            if bars.is_empty():
                raise SettingsError(f"{self.path}: no bar was known at {_spelled(self.now)}. Ask for a later moment.")
            bars, _ = with_awaited_of(served.run.experiment, bars, store.actions, store.state.calendars)
            experiment = served.run.experiment.replace(bars=bars)
            chain = make_chain(experiment, bars, actions=store.actions, past=served.past, refit="never", watch=False)
            self._chains[number, then] = without_doubtful(served.run, chain)
        return self._chains[number, then]

    def _model(self, number: int) -> Model:
        model = self.store.state.model(number)
        if model is None or not all(map(self.store.artefacts.has, model.parts.values())):
            there = [
                str(one.record) for one in self.store.state.models
                if all(map(self.store.artefacts.has, one.parts.values()))
            ]  # fmt: skip
            self._refuse_lost(model)
            raise NotKeptError(
                f"the files of model {number}, which decided there, are gone, as `gatecast store prune` "
                f"removes those of older models. Models that are there: {', '.join(there) or 'none'}. Ask for a close "
                "that one of these decided, or restore the files from a copy."
            )
        return model

    def _refuse_lost(self, model: Model | None) -> None:
        """Raises `StoreError` where a file of a model is missing that no command removed, as in a store that moved."""
        self.store.journal.record(self.store.state.number)
        removed = {
            name for one in self.store.journal.records() if one.kind == "pruned" for name in one.body["removed"]
        }  # fmt: skip
        for part in () if model is None else model.parts.values():
            if part not in removed:
                self.store.artefacts.get(part)

    def book(self, session: date) -> BookAt | None:
        """See `Origin`: the desk that is kept of the session."""
        if session not in self._books:
            desk = desk_at(self.store, session)
            self._books[session] = None if desk is None else BookAt.of(desk)
        return self._books[session]

    def holdings(self, session: date, symbol: str) -> Mapping[str, Any]:
        """See `Origin`."""
        if session not in self._held:
            later = [one for one in self.store.state.issued if one.book and one.session[:10] >= str(session)]
            own = [one for one in later if one.session[:10] == str(session)]
            found = (own[-1:] or later[:1])[:1]  # an update that brought several sessions tells them together
            table = self.store.holdings_of(str(found[0].book)) if found else no_holdings()
            rows = table.filter(pl.col("session") == session).to_dicts()
            self._held[session] = {row["symbol"]: row for row in rows}
        return self._held[session].get(symbol, {})

    def refits(self, moment: Moment, count: int, also: Collection[str] = ()) -> list[Refit]:
        """See `Origin`: the models of the store that were accepted, as far as their files are there."""
        name, folds = moment.asset_class, moment.result.forecasts.folds
        assert moment.model is not None
        first = self._model(moment.model)
        found = [Refit(folds[moment.fold].cutoff, moment.fold, moment.result.forecasts.fitted, first.record)]
        for one in reversed(self.store.state.models):
            if len(found) >= count:
                break
            cutoff = np.datetime64(one.cutoffs.get(name, "NaT"), "us")
            there = one.status == "accepted" and all(map(self.store.artefacts.has, one.parts.values()))
            if one.record < first.record and there and cutoff < found[-1].cutoff:
                number = int(np.searchsorted(np.array([fold.cutoff for fold in folds]), cutoff))
                found.append(Refit(cutoff, number, fits_of(self.store, one)[0].get(name, {}), one.record))
        return found
