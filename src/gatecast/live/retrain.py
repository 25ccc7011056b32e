"""A refit of a store's models where one is due, and the way back: `gatecast retrain` and `gatecast rollback`.

A refit is made at the newest close, with what was known then, and its forecasts of that close take the place of those
of the model before, as long as they cannot have been traded on: until the fill. So what a store issues is what a run
over all bars says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Chain, Past, Progress, make_chain
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError, StoreError
from gatecast.experiment import Experiment, merge
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.live.book import HeldNow, book_now, of_symbol
from gatecast.live.gates import with_gate
from gatecast.live.issuing import Issued, issue_chain, with_awaited_of
from gatecast.live.kept import Served, last_issued, last_refits, parts_of_model, refuse_unserved, serve
from gatecast.live.newest import say_awaited, told_of
from gatecast.live.versions import misfit_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.reading import as_utc
from gatecast.market.sessions import orders_until
from gatecast.market.sources import Reading
from gatecast.notebook import Shown
from gatecast.runs import judged, without_doubtful
from gatecast.settings import read_toml, to_toml
from gatecast.store.checking import rows_dated_back
from gatecast.store.pieces import pieces_by_record, read_pieces
from gatecast.store.state import ISSUED, SETTINGS
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.live.kept import PiecesByRecord
    from gatecast.store.state import Model


@dataclass(frozen=True)
class Retrained(Shown):
    """What a retrain did.

    `due`: asset class -> the closes at which refits were due and not made, ISO. `missed`: those of them that are passed
    over, as the latest alone is made. `model`: number of the record of the new model, None where none was made;
    `replaces`: of the one before. `refused`: class/model -> why the guard kept the old fit, of the newest refit.
    `message`: in a sentence. `asked`: asset class -> close of a refit that was not due. `alarms`: asset class -> alarms
    of drift since its refit before. `settings_not_taken`: other settings were given, and no refit was made that takes
    them.
    """

    store: Path
    now: datetime
    due: Mapping[str, Sequence[str]]
    missed: Sequence[str]
    model: int | None
    replaces: int | None
    message: str
    refused: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    decisions: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    asked: Mapping[str, str] = field(default_factory=dict)
    alarms: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    settings_not_taken: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "due": {name: list(one) for name, one in self.due.items()},
            "asked": dict(self.asked), "alarms": {name: list(one) for name, one in self.alarms.items()},
            "missed": list(self.missed), "model": self.model, "replaces": self.replaces, "refused": dict(self.refused),
            "verdicts": dict(self.verdicts), "decisions": list(self.decisions), "warnings": list(self.warnings),
            "message": self.message, "settings_not_taken": self.settings_not_taken,
        }  # fmt: skip


@checked
def retrain(
    store: str | Path, *, if_due: bool = True, settings: Experiment | None = None, now: datetime | None = None,
    progress: Progress | bool | None = None, machine: Machine = ONE_CORE,
) -> Retrained:  # fmt: skip
    """Refits a store's models where a refit is due; the first time all refits of its history.

    Parameters
    ----------
    if_due: where no refit is due nothing is done; False: one is made at the newest close all the same, as asked for.
    settings: those of the store from this refit on, until its model is rolled back; see `CHANGEABLE`. None: as before.
    now: the moment against which a refit is due (default: the clock). progress: see `gatecast.run`. machine: cores.

    A refit is due at the first close of a period of the schedule, and where the settings let alarms of the inputs add
    one. Of several refits that were due, as on a machine that was off for months, the latest is made and the others are
    listed. The networks of a refit that was killed are kept in the store's folder, and are not trained again. Raises
    `StoreError` where the store cannot be read or written, `HistoryTooShortError` where it has too few
    bars for a first model, `SettingsError` for settings that a store cannot change; then nothing has changed.
    """
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    opened = Store.open(store, machine=machine)
    with opened.locked():
        experiment = opened.experiment if settings is None else _changed(opened, settings)
        ahead = opened.keep_time(moment)
        opened.maintain(moment)
        bars = opened.bars.for_chain(moment)
        if bars.is_empty():
            raise StoreError(f"{opened.folder} has no bars: `gatecast update {opened.folder} --bars FILE` adds some.")
        if settings is not None:
            experiment.book.refuse_unknown(bars["symbol"].unique().sort().to_list())
        model = opened.state.model(opened.state.serving)
        with shown(progress) as told, opened.refitting() as kept:
            if machine.unfinished is None:
                machine = machine.replace(unfinished=kept)
            done = _refit(opened, experiment, model, bars, moment, if_due, told, machine)
        done = replace(done, warnings=(*([ahead] if ahead else ()), *done.warnings))
        opened.beat(moment, message=done.message)
    return done


CHANGEABLE = ("name", "too_good", "signals", "strategies", "strategy", "selection", "book", "orders", "costs")
"""Sections of the settings that a store may change: what decides and judges, not what forecasts are made with."""


def settings_over(store: str | Path, file: str | Path) -> Experiment:
    """A store's settings with those of a file laid over them: a section or setting that it does not name stays.

    Raises `SettingsError` for a file that holds no settings, `StoreError` where there is no store.
    """
    own = Store.open(store).experiment
    given = {name: one for name, one in read_toml(Path(file)).items() if name != "bars"}
    try:
        return Experiment(**merge({**own.to_dict(), "bars": own.bars}, given))
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None


def _changed(store: Store, given: Experiment) -> Experiment:
    """Other settings for a store; its bars are as before. Raises `SettingsError` where what was issued cannot go on."""
    own = store.experiment
    given = given.replace(bars=own.bars, book=given.book.with_file_read())
    fixed = [
        name for name in type(own).model_fields
        if name not in CHANGEABLE and getattr(given, name) != getattr(own, name)
    ]  # fmt: skip
    for name in ("model", "confirmed_by"):
        fixed += [f"signals.{name}"] * (getattr(given.signals, name) != getattr(own.signals, name))
    if fixed:
        raise SettingsError(
            f"these settings are others than the store's in {', '.join(fixed)}, and what it has issued cannot go on "
            f"with them. A store changes {', '.join(CHANGEABLE)}. For another store with all its bars: `gatecast store "
            f"export {store.folder} --out FOLDER --format parquet`, then `gatecast update NEW --bars "
            "FOLDER/bars.parquet --stamp close --config FILE`."
        )
    return given


def _refit(
    store: Store, settings: Experiment, model: Model | None, bars: pl.DataFrame, now: datetime, if_due: bool,
    progress: Progress | None, machine: Machine,
) -> Retrained:  # fmt: skip
    experiment = settings.replace(bars=bars)
    other = settings != store.experiment
    nothing = Retrained(
        store.folder, now, {}, (), None, store.state.serving, "", settings_not_taken=other,
    )  # fmt: skip
    not_taken = " The settings are NOT taken: run it again after the next close, before its fill." if other else ""
    open_closes = untraded_closes(bars, now, store.state.calendars)
    due = {} if model is None else due_closes(store, experiment.schedule, bars)
    asked = {} if if_due or model is None else _asked(store, open_closes, due)
    if model is not None and if_due and not due:
        kept = " The settings are NOT taken: without --if-due they are." if other else ""
        return replace(nothing, message=f"no refit is due.{kept}")
    if model is not None and not open_closes:
        return replace(
            nothing, due=due,
            message="the newest bar's fill has passed: a refit is made at the next bar's close, before its fill."
            + not_taken,
        )  # fmt: skip
    pieces = pieces_by_record(store.artefacts, store.state, experiment.horizon, model.record) if model else {}
    before = serve(store, model, before=open_closes, pieces=pieces) if model is not None else None
    past = before.past if before else None
    misfit = misfit_of(store, before) if before else ""
    moments = {name: [np.datetime64(text)] for name, text in asked.items()}
    chain = make_chain(experiment, bars, progress, actions=store.actions, past=past, asked=moments, machine=machine)
    fresh = {name: one.forecasts.folds[_done(past, name) :] for name, one in chain.classes.items()}
    if not any(fresh.values()):
        why = "no refit can be made at the newest bars: their windows have gaps, or they came late."
        said = why if due or asked else "a refit was made at the newest close."
        return replace(nothing, due=due, message=said + not_taken)
    cutoffs = {name: str(one.forecasts.folds[-1].cutoff) for name, one in chain.classes.items()}
    asked = {name: text for name, text in asked.items() if cutoffs[name] == text}
    alarms = _alarms_since(chain, past, fresh)
    run = judged(experiment, chain, Reading(bars, (), store.actions), jobs=machine.jobs, goes_on=past is not None)
    run = replace(run, provenance={**run.provenance, "alarms": alarms, "asked": asked})
    chain = without_doubtful(run, chain)
    before_it = 0 if model is None else model.record
    _, awaited = with_awaited_of(experiment, bars, store.actions, store.state.calendars)
    since = _since_awaited(bars, awaited) if past is not None else None
    leaks = rows_dated_back(store.bars, store.state, store.journal, before_it)
    dated_back = [leak.sentence for leak in leaks]
    parts = {
        role: store.put(content, Path(role).suffix) for role, content in parts_of_model(run, chain, past, since).items()
    }
    parts[SETTINGS] = store.put(to_toml(settings).encode(), ".toml")
    missed = [f"{name} {close}" for name, closes in due.items() for close in closes[:-1]]
    if missed:
        store.append("missed", {"months": missed}, now)
    body = {
        "parts": parts, "cutoffs": cutoffs, "goes_on": store.state.serving, "asked": asked, "alarms": alarms,
        "dated_back": dated_back,
        "refused": refused_of(chain, fresh), "data_hash": run.provenance["data_hash"],
    }  # fmt: skip
    number = store.append("refit", body, now).number
    refused: Mapping[str, str] = body["refused"]
    reason = "the guard refused none of the newest fits"
    if refused:
        reason = f"the guard refused the newest fits of {', '.join(sorted(refused))}, whose fits before stay in force"
    issued = Issued(number)
    if open_closes:
        newest = store.state.models[-1]
        every = {**pieces, number: read_pieces(store.artefacts, parts[ISSUED], experiment.horizon)}
        if len(awaited):
            made = _newest_with(store, newest, bars, every)
        else:
            made = serve(store, newest, pieces=every), chain, awaited
        issued = _issue_again(store, *made, now, open_closes)
    store.append("accepted", {"model": number, "reason": reason}, now)  # last: until then the refit is due
    count = sum(len(one.forecasts.folds) for one in chain.classes.values())
    said = (
        f"model {number} is in force, in place of model {before.number}." if before
        else f"model {number} is in force: the first, after {count} refits over the history. Updates forecast with it."
    )  # fmt: skip
    said += f" Asked for, not due: {', '.join(sorted(asked))}." if asked else ""
    said += f" {reason[:1].upper()}{reason[1:]}." if refused else ""
    verdicts = {head: verdict["verdict"] for head, verdict in run.verdicts.items()}
    return Retrained(
        store.folder, now, due, missed, number, before.number if before else None, said, refused, verdicts,
        issued.decisions, (*([misfit] if misfit else ()), *dated_back, *issued.warnings), asked, alarms,
    )  # fmt: skip


def _issue_again(
    store: Store, served: Served, chain: Chain, awaited: pl.DataFrame, now: datetime, classes: Collection[str]
) -> Issued:  # fmt: skip
    """The newest decisions of a chain, in place of those that were issued; none over a row that may still come."""
    problems = say_awaited(chain.bars, awaited)
    return issue_chain(store, served, chain, problems, now, again=True, awaited=awaited, classes=classes)


def _since_awaited(bars: pl.DataFrame, awaited: pl.DataFrame) -> pl.DataFrame:
    """Symbol and time of the bars after a row that may still come."""
    first = awaited.group_by("symbol").agg(_first=pl.col("time").min())
    return bars.join(first, on="symbol").filter(pl.col("time") > pl.col("_first")).select("symbol", "time")


def _asked(
    store: Store, closes: Mapping[str, datetime], due: Mapping[str, Sequence[str]]
) -> dict[str, str]:  # fmt: skip
    """Asset class -> its newest close (ISO), of the classes with a model that are refitted there though not due."""
    last = last_refits(store.state.models)
    moments = {name: np.datetime64(close.replace(tzinfo=None), "us") for name, close in closes.items()}
    return {name: str(one) for name, one in moments.items() if name in last and name not in due and one > last[name]}


def _alarms_since(chain: Chain, past: Past | None, fresh: Mapping[str, Sequence[Fold]]) -> dict[str, list[Any]]:
    """Asset class -> its alarms since its refit before and up to its new one, of the classes that had one before."""
    found = {}
    for name, folds in fresh.items():
        if folds and past is not None and name in past.forecasts:
            before = past.forecasts[name].cutoffs[-1]
            alarms = [one for one in chain.classes[name].alarms if before < one.time <= folds[-1].cutoff]
            found[name] = [one.to_dict() for one in alarms]
    return {name: alarms for name, alarms in found.items() if alarms}


def untraded_closes(
    bars: pl.DataFrame, now: datetime, calendars: Mapping[str, str] | None = None
) -> dict[str, datetime]:  # fmt: skip
    """Asset class -> its newest close, of those whose deadline has not passed: what was decided is not traded yet."""
    fills = bars.with_columns(fill=orders_until(bars, calendars))
    newest = fills.group_by("asset_class").agg(pl.col("time").max(), pl.col("fill").sort_by("time").last())
    return {row["asset_class"]: row["time"] for row in newest.iter_rows(named=True) if now <= row["fill"]}


def due_closes(store: Store, schedule: Schedule, bars: pl.DataFrame) -> dict[str, list[str]]:
    """Asset class -> the closes since its last refit, even if rolled back, at which one was due; no class without.

    By the schedule, and by alarms of the inputs as the newest decisions say.
    """
    found, added = {}, last_issued(store).get("added", {})
    for name, cutoff in last_refits(store.state.models).items():
        closes = bars.filter(pl.col("asset_class") == name)["time"].dt.replace_time_zone(None).unique().sort()
        moments = closes.to_numpy().astype("datetime64[us]")
        due = np.union1d(moments[schedule.due(moments)], np.array(added.get(name, ()), "datetime64[us]"))
        if len(later := due[due > cutoff]):
            found[name] = [str(one) for one in later]
    return found


def due_in_words(store: Store, bars: pl.DataFrame) -> str:
    """How many refits are due that nobody made, and since when; "" where none is."""
    due = due_closes(store, store.experiment.schedule, bars)
    if not due:
        return ""
    count = max(len(closes) for closes in due.values())
    since = min(closes[0] for closes in due.values())[:10]
    return f"{count} refits are due since {since}" if count > 1 else f"a refit is due since {since}"


def _done(past: Past | None, name: str) -> int:
    return len(past.forecasts[name].cutoffs) if past is not None and name in past.forecasts else 0


def refused_of(chain: Chain, fresh: Mapping[str, Sequence[Fold]]) -> dict[str, str]:
    """class/model -> why the guard kept the fit before, of each class's newest refit, where that is new."""
    newest = {name: folds[-1].cutoff for name, folds in fresh.items() if folds}
    return {
        f"{name}/{model}": reasons[cutoff]
        for name, cutoff in newest.items()
        for model, reasons in chain.classes[name].forecasts.refused.items() if cutoff in reasons
    }  # fmt: skip


# ── the way back ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RolledBack(Shown):
    """What a rollback did: `model` is in force again, `instead_of` is not; `changes`: a row a symbol, before and after.

    A row has the symbol, its newest close, and of the expected return, standard deviation and weight of the strategies
    what the model that was in force says there (`..._before`) and what the one that is says (`..._after`); and the
    shares of equity that the book holds and aims at (`held_...`, `target_...`), which are decided again only until the
    fill of the newest close.
    """

    store: Path
    now: datetime
    model: int
    instead_of: int
    changes: Sequence[Mapping[str, Any]]
    message: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "model": self.model, "instead_of": self.instead_of,
            "changes": list(self.changes), "message": self.message,
        }  # fmt: skip


COMPARED = ("expected_return_log", "standard_deviation", "weight")
OF_BOOK = ("held", "target")


@checked
def rollback(store: str | Path, *, now: datetime | None = None, machine: Machine = ONE_CORE) -> RolledBack:
    """Brings a store's model before back into force; a second time undoes that.

    The newest decisions are issued again where they cannot have been traded on yet. Raises `StoreError` where there is
    no model before, or the store cannot be read or written; then nothing has changed.
    """
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    opened = Store.open(store, machine=machine)
    with opened.locked():
        state = opened.state
        serving, old = refuse_unserved(opened), state.model(state.previous)
        if old is None:
            raise StoreError(f"{opened.folder} has no model before the one in force: nothing can be brought back.")
        if gone := sorted(role for role, part in old.parts.items() if not opened.artefacts.has(part)):
            raise StoreError(
                f"the files of model {old.record} are gone ({gone[0]}), as `gatecast store prune` removes those of "
                "older models: it cannot be brought back. Restore them from a copy of the store."
            )
        bars = opened.bars.for_chain(moment)
        pieces = pieces_by_record(opened.artefacts, state, opened.experiment.horizon)
        told = {model.record: _newest_with(opened, model, bars, pieces) for model in (serving, old)}
        if misfit := misfit_of(opened, told[old.record][0]):
            raise StoreError(misfit)
        book = book_now(opened)
        if untraded := untraded_closes(bars, moment, opened.state.calendars):
            _issue_again(opened, *told[old.record], moment, untraded)
        since = {name: str(close.replace(tzinfo=None)) for name, close in untraded.items() if name in old.cutoffs}
        record = {"model": old.record, "reason": "asked for", "since": since}
        opened.append("rollback", record, moment)  # last: until then it can be asked for again
        changes = _changes(
            *(_beside(newest_of(*told[model.record]), held)
              for model, held in ((serving, book), (old, book_now(opened))))
        )  # fmt: skip
        stays = "" if untraded or book is None else (
            " What the book holds stays: the fill of its newest close has passed, the next close is decided by this "
            "model."
        )  # fmt: skip
        said = f"model {old.record} is in force again, in place of model {serving.record}.{stays}"
        opened.beat(moment, message=said)
    return RolledBack(opened.folder, moment, old.record, serving.record, changes, said)


def _newest_with(
    store: Store, model: Model, bars: pl.DataFrame, pieces: PiecesByRecord
) -> tuple[Served, Chain, pl.DataFrame]:  # fmt: skip
    """A model, the chain with which it forecasts the newest closes, whatever was issued there, and the symbol and time
    of rows that may still come. `pieces`: all that the store has issued."""
    newest = dict(bars.group_by("asset_class").agg(pl.col("time").max()).iter_rows())
    served = serve(store, model, before=newest, pieces=pieces)
    bars, awaited = with_awaited_of(served.run.experiment, bars, store.actions, store.state.calendars)
    experiment = served.run.experiment.replace(bars=bars)
    return served, make_chain(experiment, bars, actions=store.actions, past=served.past, refit="never"), awaited


def newest_of(served: Served, chain: Chain, awaited: pl.DataFrame | None = None) -> dict[str, dict[str, Any]]:
    """Symbol -> its row of `told_of`, with the gate that decided."""
    told = told_of(served.run, served.past, without_doubtful(served.run, chain), (), awaited)
    return {row["symbol"]: with_gate(row, served.run, served.number) for row in told.rows}


def _beside(rows: Mapping[str, Mapping[str, Any]], book: HeldNow | None) -> dict[str, dict[str, Any]]:
    """Rows of symbols with what the book holds of each and aims at."""
    told = {symbol: of_symbol(book, symbol) for symbol in rows}
    return {symbol: {**row, **{name: told[symbol][name] for name in OF_BOOK}} for symbol, row in rows.items()}


def _changes(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:  # fmt: skip
    return [
        {"symbol": symbol, "time": row["time"]}
        | {f"{name}_before": before.get(symbol, {}).get(name) for name in (*COMPARED, *OF_BOOK)}
        | {f"{name}_after": row.get(name) for name in (*COMPARED, *OF_BOOK)}
        for symbol, row in after.items()
    ]
