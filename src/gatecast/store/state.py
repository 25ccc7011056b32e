"""The state of a store: what its records add up to. A snapshot is a state as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError

from gatecast.errors import StoreError, did_you_mean
from gatecast.store.artefacts import NAME
from gatecast.store.journal import FIRST_HASH, SNAPSHOT, Record, moment_of, text_of
from gatecast.store.schema import Alarm as DriftAlarm
from gatecast.store.schema import BookOfRecord, Count, Moment, Name, Schema, Sha256, Text, fault_of, said_of

Artefact = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
Year = Annotated[int, Field(ge=1, le=9999)]
YearText = Annotated[str, StringConstraints(pattern=r"^(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})$")]
Stamp = Annotated[Moment, AfterValidator(lambda text: text_of(moment_of(text)))]
"""A moment as the journal spells it."""
Price = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ISSUED = "issued.safetensors"
"""Role of the artefact with what a refit issued itself: part of what the store has issued, and never removed."""
ALARMS = "alarms.json"
"""Role of the artefact with the alarms of the inputs up to a refit, from which they are looked for."""
SETTINGS = "settings.toml"
"""Role of the artefact with the store's settings from a refit on, for as long as its model is in force."""
DESK_OF = "desk "
"""How the role of a desk of an earlier session than the newest one of its record begins; the session follows."""
MOST_ALARMS = 200
"""Newest alarms that a state has; the journal has all."""
MOST_MISSED = 1_000


# ── what the body of each kind of record must have ────────────────────────────────────────────────


class WithSettings(Schema):
    """The artefact of settings."""

    settings: Artefact


class Created(Schema):
    """The store was made: its id, its schema version, its settings."""

    id: Name
    version: Count = 1
    parts: WithSettings


class NewSettings(Schema):
    """Other settings from here on."""

    parts: WithSettings


class NewWait(Schema):
    """A bar of a symbol that waits, or waited, until somebody says what it is.

    `time`: its close; the symbol's later bars wait with it. `ratio`: of the split that it looks like; `was`: the close
    before; `opens`: its open. `until`: when it was said, None while it waits; from then on the bars are known.
    `left_out`: whether the bar itself is no true one.
    """

    symbol: Name
    time: Stamp
    ratio: Price
    was: Price
    opens: Price
    until: Stamp | None = None
    left_out: bool = False


class WithWaits(Schema):
    """Bars that wait from here on, or no more."""

    waits: list[NewWait] = Field(default_factory=list)


class NewBars(WithWaits):
    """Bars came: one artefact a calendar year; how many were new, repeated, corrected, late or left out."""

    parts: Annotated[dict[YearText, Artefact], Field(min_length=1)]
    rows: dict[YearText, Count]
    counts: dict[Name, Count]
    symbols: dict[Name, Name] = Field(default_factory=dict)
    columns: list[Name]
    calendars: dict[Name, Name] = Field(default_factory=dict)
    problems: list[Text] = Field(default_factory=list)


class NewTables(Schema):
    """Tables beside the bars from here on: option of `read_bars` -> artefact."""

    parts: dict[Name, Artefact]


class WithActions(Schema):
    """The artefact of actions."""

    actions: Artefact


class NewActions(WithWaits):
    """The table of actions from here on."""

    parts: WithActions


class IssuedParts(Schema):
    """The artefacts of what was issued."""

    decisions: Artefact
    forecasts: Artefact | None = None
    pieces: Artefact | None = None
    book: Artefact | None = None
    carried: Artefact | None = None
    desk: Artefact | None = None


class NewIssued(Schema):
    """Decisions were issued, by a model (the number of its refit's record) or by none.

    `alarms`: asset class -> alarms of drift that were on. `added`: asset class -> closes at which alarms of the inputs
    add a refit. `book`: what it is at its newest session.
    """

    parts: IssuedParts
    model: Count | None = None
    alarms: dict[Name, list[DriftAlarm]] = Field(default_factory=dict)
    added: dict[Name, list[Moment]] = Field(default_factory=dict)
    book: BookOfRecord | None = None


class Refit(Schema):
    """A model was fitted and is a candidate: its files, the cutoff of each asset class, and the model before it.

    `asked`: asset class -> close of a refit that was not due: somebody asked for it. `alarms`: asset class -> alarms of
    drift since its refit before. `dated_back`: what was said of rows that claim to have been known before they came.
    """

    parts: dict[Name, Artefact]
    cutoffs: dict[Name, Moment] = Field(default_factory=dict)
    goes_on: Count | None = None
    asked: dict[Name, Moment] = Field(default_factory=dict)
    alarms: dict[Name, list[DriftAlarm]] = Field(default_factory=dict)
    dated_back: list[Text] = Field(default_factory=list)


class OfModel(Schema):
    """A model was accepted or refused: the number of its refit's record, and why."""

    model: Count
    reason: Text = ""


class Rollback(OfModel):
    """A model was brought back; `since`: of each class whose newest decisions it issued again, their close."""

    since: dict[Name, Moment] = Field(default_factory=dict)


class Missed(Schema):
    """Refits that were due and were not made."""

    months: list[Name]


class Alarm(Schema):
    """Something that somebody must look at."""

    name: Name
    text: Text = ""
    open: bool | None = None


class BarsPart(Schema):
    """An artefact of bars of one calendar year; `record`: that it came with, None where it has that of each row."""

    model_config = ConfigDict(extra="forbid")

    year: Year
    part: Artefact
    rows: Count
    record: Count | None = None


class SnapshotParts(Schema):
    """The artefact of the state."""

    state: Artefact


class Snapshot(Schema):
    """The state is in an artefact; the bars are in one artefact a year."""

    parts: SnapshotParts
    bars: list[BarsPart]


class Pruned(Schema):
    """Artefacts were removed: the names of those that records had named, the number of all, and their bytes."""

    removed: list[Artefact]
    count: Count
    bytes: Count


class ClockWasAhead(Schema):
    """The clock had been ahead: what came in the records before this one came by its moment at the latest."""


class Upgraded(Schema):
    """The store was brought from one schema version to the next."""

    before: Count
    after: Count


class Lost(Schema):
    """Records were taken away whose files never came to the disk: their number, and the hash of the last of them."""

    count: Count
    last: Sha256


class OfOrders(Schema):
    """Something that happened to the orders `id` of an account; `by`: who did it."""

    id: Name
    account: Name
    by: Name


class OrdersPart(Schema):
    """The artefact of orders: what they were made of and what they are."""

    orders: Artefact


class Proposed(OfOrders):
    """Orders of a session were proposed; `halt`: the record of the halt for which they close what is held."""

    parts: OrdersPart
    session: Moment
    halt: Count | None = None


class Override(Schema):
    """A soft limit that orders may exceed, why, and up to which moment."""

    limit: Name
    reason: Text
    until: Moment


class Approved(OfOrders):
    """Orders were approved."""

    overrides: list[Override]


class Exported(OfOrders):
    """The file of orders with this hash is written from here on; `again`: once more."""

    session: Moment
    sha256: Sha256
    format: Name
    halt: Count | None = None
    again: bool = False


class Withdrawn(OfOrders):
    """The export of orders counts no more; they are approved as before it."""

    session: Moment
    reason: Text = ""


class FillsPart(Schema):
    """The artefact of fills."""

    fills: Artefact


class Filled(Schema):
    """Fills of an account came: new ones, and such as were there."""

    parts: FillsPart
    account: Name
    by: Name
    new: Count
    seen: Count


class Break(Schema):
    """A holding that is not what was expected; `reason`: None while nobody has explained it."""

    symbol: Name
    expected: float
    found: float
    reason: Text | None = None


class PositionsPart(Schema):
    """The artefact of positions."""

    positions: Artefact


class Reconciled(Schema):
    """Positions of an account were compared with what was expected."""

    parts: PositionsPart
    account: Name
    by: Name
    breaks: list[Break]


class Halted(Schema):
    """Until it is released no orders are exported; `flatten`: but those that close what is held."""

    by: Name
    reason: Text
    flatten: bool = False


class Released(Schema):
    """A halt is over; `halt`: the number of its record, None in records of older versions: all are."""

    by: Name
    reason: Text
    halt: Count | None = None


ORDERS: dict[str, type[Schema]] = {
    "proposed": Proposed, "approved": Approved, "exported": Exported, "withdrawn": Withdrawn,
    "fills": Filled, "reconciled": Reconciled, "halted": Halted, "released": Released,
}  # fmt: skip
"""Kinds of records of what happened to orders."""
KINDS: dict[str, type[Schema]] = {
    "created": Created, "settings": NewSettings, "bars": NewBars, "actions": NewActions, "tables": NewTables,
    "issued": NewIssued, "refit": Refit, "accepted": OfModel, "refused": OfModel, "rollback": Rollback,
    "missed": Missed, "alarm": Alarm, SNAPSHOT: Snapshot, "pruned": Pruned, "upgraded": Upgraded,
    "lost": Lost, "clock": ClockWasAhead, **ORDERS,
}  # fmt: skip
"""Kind of a record -> what its body must have; more may be there."""


# ── the state ─────────────────────────────────────────────────────────────────────────────────────


class Issued(Schema):
    """What was issued at once: the number of its record, when, and its artefacts.

    `book`: what the book holds, `carried`: what it goes on from, after `session`, of which it has seen bars up to the
    close `until`; `desk`: what orders of it are made of, `desks_before`: session -> the same of those that were decided
    with it. None and empty where no session of the book was decided.
    """

    record: Count
    now: Moment
    decisions: Artefact
    forecasts: Artefact | None = None
    pieces: Artefact | None = None
    model: Count | None = None
    book: Artefact | None = None
    carried: Artefact | None = None
    desk: Artefact | None = None
    session: Moment | Literal[""] = ""
    until: Moment | Literal[""] = ""
    desks_before: dict[Moment, Artefact] = Field(default_factory=dict)

    @property
    def desks(self) -> dict[str, str]:
        """Session -> what orders of it are made of, of all that were decided, the newest last."""
        return {**self.desks_before, **({self.session: self.desk} if self.desk else {})}


class Model(Schema):
    """A model: the number of its refit's record, when, its files, cutoffs, and what became of it."""

    record: Count
    now: Moment
    parts: dict[Name, Artefact]
    cutoffs: dict[Name, Moment] = Field(default_factory=dict)
    goes_on: Count | None = None
    status: Literal["candidate", "accepted", "refused"] = "candidate"
    reason: Text = ""


class Clock(Schema):
    """A record that says that the clock had been ahead, and the right moment."""

    record: Count
    now: Moment


class Wait(NewWait):
    """A bar that waits, or waited, and the number of the record since which."""

    record: Count


class State(Schema):
    """What a store holds after its record `number`, by the names of artefacts.

    Attributes
    ----------
    number, hash, time, now: of the last record; 0 before the first one.
    settings, actions: artefacts in force; tables: those that were given beside the bars, by the name of their option.
    bars: artefacts of bars; symbols: symbol -> asset class; columns: further columns that bars have.
    issued: what was issued, the oldest first. models: all refits, the oldest first.
    serving: the number of the model that forecasts, None where there is none; previous: of the one before.
    missed: refits that were due and not made; alarms: the newest.
    clocks: the records by which the clock had been ahead before them.
    waits: bars that wait until somebody says what they are, and those that did.
    orders: what happened to orders, the oldest first: body, kind, number and moment of each record of `ORDERS`.
    """

    model_config = ConfigDict(extra="forbid")

    number: Count = 0
    hash: Sha256 = FIRST_HASH
    time: Moment = ""
    now: Moment = ""
    id: Name = ""
    settings: Artefact | None = None
    actions: Artefact | None = None
    tables: dict[Name, Artefact] = Field(default_factory=dict)
    bars: tuple[BarsPart, ...] = ()
    symbols: dict[Name, Name] = Field(default_factory=dict)
    columns: tuple[Name, ...] = ()
    calendars: dict[Name, Name] = Field(default_factory=dict)
    issued: tuple[Issued, ...] = ()
    models: tuple[Model, ...] = ()
    serving: Count | None = None
    previous: Count | None = None
    missed: tuple[Name, ...] = ()
    alarms: tuple[dict[str, Any], ...] = ()
    clocks: tuple[Clock, ...] = ()
    waits: tuple[Wait, ...] = ()
    orders: tuple[dict[str, Any], ...] = ()

    @property
    def waiting(self) -> dict[str, Wait]:
        """Symbol -> its first bar that waits now."""
        return {one.symbol: one for one in reversed(self.waits) if one.until is None}

    def after(self, record: Record) -> Self:
        """The state after one more record. Raises `StoreError` for a record that does not fit."""
        if record.number != self.number + 1:
            raise StoreError(f"record {record.number} came after record {self.number}, expected {self.number + 1}.")
        refuse_misfit(record.kind, record.body)
        change = _CHANGES.get(record.kind)
        try:
            changed = change(self, record) if change else {}
        except KeyError as error:
            raise StoreError(
                f"record {record.number} ({record.kind}) names the model {error.args[0]}, which no refit before it "
                "has made."
            ) from None
        except ValidationError as error:
            raise StoreError(f"a record {record.kind!r} does not fit: {said_of(error)}.") from None
        place = {
            "number": record.number, "hash": record.hash, "time": text_of(record.time), "now": text_of(record.now)
        }  # fmt: skip
        return self.model_copy(update=changed | place)

    def after_all(self, records: Iterable[Record]) -> Self:
        """The state after several more records, in order."""
        state = self
        for record in records:
            state = state.after(record)
        return state

    def model(self, number: int | None) -> Model | None:
        """The model of a refit's record; None where there is none."""
        return next((one for one in self.models if one.record == number), None)

    def to_json(self) -> dict[str, Any]:
        """The state as a snapshot holds it: without its place in the journal, which the snapshot's record has."""
        return self.model_dump(mode="json", exclude={"number", "hash", "time", "now"})

    @classmethod
    def of_json(cls, value: Any, record: Record) -> Self:
        """The state of a snapshot, after its record. Raises `ValueError` for what is none."""
        place = {
            "number": record.number, "hash": record.hash, "time": text_of(record.time), "now": text_of(record.now)
        }  # fmt: skip
        if not isinstance(value, dict) or place.keys() & value.keys():
            raise ValueError("it is no state of a store")
        try:
            return cls.model_validate(value | place, strict=False)
        except ValidationError as error:
            raise ValueError(f"it is no state of a store: {said_of(error)}") from None


def refuse_misfit(kind: str, body: Mapping[str, Any]) -> None:
    """Raises `StoreError` for a kind of record that there is not, and for a body that is none of its kind.

    >>> refuse_misfit("alarm", {"name": "stale"})
    >>> refuse_misfit("alarms", {})
    Traceback (most recent call last):
        ...
    gatecast.errors.StoreError: there is no record of the kind 'alarms'. Did you mean 'alarm'?
    """
    if kind not in KINDS:
        raise StoreError(f"there is no record of the kind {kind[:80]!r}. {did_you_mean(kind, KINDS)}")
    if fault := fault_of(KINDS[kind], dict(body)):
        raise StoreError(f"a record {kind!r} does not fit: {fault}.")
    parts = body.get("parts") or {}
    if not isinstance(parts, Mapping) or not all(map(_may_be_part, parts.values())):
        raise StoreError(f"a record {kind!r} does not fit: its parts are no names of artefacts.")


def _may_be_part(name: Any) -> bool:
    return name is None or (isinstance(name, str) and re.fullmatch(NAME, name) is not None)


# ── what each kind of record changes ──────────────────────────────────────────────────────────────


def _created(state: State, record: Record) -> dict[str, Any]:
    return {"id": record.body["id"], "settings": record.parts["settings"]}


def _settings(state: State, record: Record) -> dict[str, Any]:
    return {"settings": record.parts["settings"]}


def _bars(state: State, record: Record) -> dict[str, Any]:
    added = [
        BarsPart(year=int(year), part=part, rows=record.body["rows"].get(year, 0), record=record.number)
        for year, part in sorted(record.parts.items())
    ]
    symbols = {**state.symbols, **record.body.get("symbols", {})}
    return {
        "bars": (*state.bars, *added), "symbols": dict(sorted(symbols.items())),
        "columns": state.columns or tuple(record.body["columns"]),
        "calendars": {**state.calendars, **record.body.get("calendars", {})}, "waits": _waits(state, record),
    }  # fmt: skip


def _actions(state: State, record: Record) -> dict[str, Any]:
    return {"actions": record.parts["actions"], "waits": _waits(state, record)}


def _waits(state: State, record: Record) -> tuple[Wait, ...]:
    """The bars that wait, or did, after a record."""
    found = {(one.symbol, one.time): one for one in state.waits}
    for wait in record.body.get("waits", ()):
        key = wait["symbol"], wait["time"]
        since = found[key].record if key in found else record.number
        found[key] = Wait.model_validate({**wait, "record": since})
    return tuple(found[key] for key in sorted(found))


def _tables(state: State, record: Record) -> dict[str, Any]:
    return {"tables": dict(record.parts)}


def _issued(state: State, record: Record) -> dict[str, Any]:
    parts, book = record.parts, record.body.get("book") or {}
    if "book" in parts and not book:
        raise StoreError(
            f"a record {record.kind!r} does not fit: it has the part 'book', and no figures of its 'book'."
        )
    one = Issued(
        record=record.number, now=text_of(record.now), decisions=parts["decisions"], forecasts=parts.get("forecasts"),
        pieces=parts.get("pieces"), model=record.body.get("model"), book=parts.get("book"),
        carried=parts.get("carried"), desk=parts.get("desk"), session=book.get("session", ""),
        until=book.get("close", ""),
        desks_before={
            role.removeprefix(DESK_OF): name for role, name in sorted(parts.items()) if role.startswith(DESK_OF)
        },
    )  # fmt: skip
    return {"issued": (*state.issued, one)}


def _refit(state: State, record: Record) -> dict[str, Any]:
    cutoffs = dict(record.body.get("cutoffs", {}))
    one = Model(
        record=record.number, now=text_of(record.now), parts=record.parts, cutoffs=cutoffs,
        goes_on=record.body.get("goes_on"),
    )  # fmt: skip
    return {"models": (*state.models, one)}


def _known(state: State, record: Record) -> int:
    number = int(record.body["model"])
    if state.model(number) is None:
        raise KeyError(number)
    return number


def _with_status(state: State, record: Record, status: str) -> dict[str, Any]:
    number = _known(state, record)
    changed = {"status": status, "reason": record.body.get("reason", "")}
    return {
        "models": tuple(one.model_copy(update=changed) if one.record == number else one for one in state.models)
    }  # fmt: skip


def _serving(state: State, record: Record) -> dict[str, Any]:
    """A model is in force, and with it the settings that it was made with."""
    number = _known(state, record)
    model = state.model(number)
    settings = model.parts.get(SETTINGS, state.settings) if model else state.settings
    return {"serving": number, "previous": state.serving, "settings": settings}


def _accepted(state: State, record: Record) -> dict[str, Any]:
    return {**_with_status(state, record, "accepted"), **_serving(state, record)}


def _refused(state: State, record: Record) -> dict[str, Any]:
    return _with_status(state, record, "refused")


def _missed(state: State, record: Record) -> dict[str, Any]:
    return {"missed": tuple(dict.fromkeys((*state.missed, *record.body["months"])))[-MOST_MISSED:]}


def _alarm(state: State, record: Record) -> dict[str, Any]:
    one = {"record": record.number, "now": text_of(record.now), **record.body}
    return {"alarms": (*state.alarms, one)[-MOST_ALARMS:]}


def _orders(state: State, record: Record) -> dict[str, Any]:
    one = {**record.body, "record": record.number, "now": text_of(record.now), "kind": record.kind}
    return {"orders": (*state.orders, one)}


def _clock(state: State, record: Record) -> dict[str, Any]:
    return {"clocks": (*state.clocks, Clock(record=record.number, now=text_of(record.now)))}


def _snapshot(state: State, record: Record) -> dict[str, Any]:
    return {"bars": tuple(BarsPart.model_validate(one) for one in record.body["bars"])}


_CHANGES: dict[str, Callable[[State, Record], dict[str, Any]]] = {
    "created": _created, "settings": _settings, "bars": _bars, "actions": _actions, "tables": _tables,
    "issued": _issued, "refit": _refit,
    "accepted": _accepted, "refused": _refused, "rollback": _serving, "missed": _missed, "alarm": _alarm,
    SNAPSHOT: _snapshot, "clock": _clock, **dict.fromkeys(ORDERS, _orders),
}  # fmt: skip
"""Kind -> what it changes; a kind that is not here changes nothing but the place in the journal."""
