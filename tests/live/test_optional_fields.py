"""Records with fields that are left out, null or of another type: read as documented, or refused by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatecast.errors import StoreError
from gatecast.live import health, today
from gatecast.market.actions import no_actions
from gatecast.store import Store
from gatecast.store.about import about
from gatecast.store.contents import Contents
from gatecast.store.journal import FIRST_HASH, Record
from gatecast.store.schema import Schema
from gatecast.store.state import KINDS, State
from tests.live.desk import NEXT_OPEN, Desk

Place = tuple[str | int, ...]
LEFT_OUT = "left out"
VALUES = (LEFT_OUT, None, True, 0, -1, 1.5, "", "x", "2003-02-31", [], [None], {}, {"x": None})
ALARM = {
    "time": "2003-01-02", "asset_class": "index", "kind": "x", "statistic": 1.0, "threshold": 0.5, "sentence": "x.",
}  # fmt: skip
WAIT = {
    "symbol": "B1_0", "time": "2003-01-02T21:00:00.000000Z", "ratio": 2.0, "was": 10.0, "opens": 5.0,
    "until": "2003-01-02T21:00:00.000000Z",
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "bars": {"waits": [WAIT]}, "issued": {"alarms": {"index": [ALARM]}, "added": {"index": ["2003-01-02"]}},
    "refit": {"asked": {"index": "2003-01-02"}, "alarms": {"index": [ALARM]}, "dated_back": ["x."]},
}  # fmt: skip
"""Kind -> fields that records have at times."""


def records_of_every_kind(desk: Desk) -> list[Record]:
    """The records of a store that has one of every kind, with the fields that are there at times."""
    desk.export(name="first.csv")
    made = Store.open(desk.store).state.orders[-1]["id"]
    assert desk.do("withdraw", made, "--by", "bob").status == 0
    rows = desk.export(name="second.csv")
    desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN)
    desk.do("reconcile", "--positions", desk.held({"B1_0": 1}), after=NEXT_OPEN)
    desk.do("halt", "--by", "ann", "--reason", "out", after=NEXT_OPEN)
    desk.do("halt", "--release", "--by", "ann", "--reason", "in", after=NEXT_OPEN)
    store, now = Store.open(desk.store), desk.close + NEXT_OPEN
    model = store.state.serving
    store.set_actions(no_actions(), now, {"waits": [WAIT]})
    for kind, body in {
        "settings": {"parts": {"settings": store.state.settings}}, "tables": {"parts": {}},
        "missed": {"months": ["2003-01"]}, "alarm": {"name": "x", "text": "x", "open": True},
        "refused": {"model": model, "reason": "x"}, "rollback": {"model": model, "reason": "x", "since": {}},
        "pruned": {"removed": [], "count": 0, "bytes": 0}, "upgraded": {"before": 1, "after": 2},
        "lost": {"count": 1, "last": "0" * 64}, "clock": {},
    }.items():  # fmt: skip
        store.append(kind, body, now)
    store.snapshot(now)
    found = [replace(one, body={**one.body, **MORE.get(one.kind, {})}) for one in store.records()]
    assert {one.kind for one in found} == KINDS.keys()
    return found


def places(schema: type[Schema], body: Any, at: Place = ()) -> Iterator[Place]:
    """Where a body may have a field that may be left out, those within each other among them."""
    if not isinstance(body, Mapping):
        return
    for name, field in schema.model_fields.items():
        if not field.is_required():
            yield (*at, name)
        for inner in schemas_in(field.annotation):
            yield from within(inner, body.get(name), (*at, name))


def within(schema: type[Schema], value: Any, at: Place) -> Iterator[Place]:
    """The same of a value that is of a schema, a list of such, or a table of such or of lists of them."""
    if isinstance(value, list):
        for number, one in enumerate(value[-1:], len(value) - 1):
            yield from within(schema, one, (*at, number))
    elif isinstance(value, Mapping) and not value.keys() & schema.model_fields.keys():
        for name, one in value.items():
            yield from within(schema, one, (*at, name))
    else:
        yield from places(schema, value, at)


def schemas_in(annotation: Any) -> list[type[Schema]]:
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return [annotation]
    return [one for inner in get_args(annotation) for one in schemas_in(inner)]


def changed(body: Any, place: Place, value: Any) -> Any:
    """A body with another value at a place, or with none."""
    first, *rest = place
    if isinstance(body, list):
        return [changed(one, tuple(rest), value) if number == first else one for number, one in enumerate(body)]
    others = {name: one for name, one in body.items() if name != first}
    if rest:
        return {**others, first: changed(body[first], tuple(rest), value)}
    return others if value is LEFT_OUT else {**others, first: value}


def write(store: Path, records: Sequence[Record]) -> None:
    """The journal of a store with these records alone, and no index."""
    before, lines = FIRST_HASH, list[bytes]()
    for one in records:
        record = Record.make(one.number, one.time, one.now, one.kind, one.body, before)
        before = record.hash
        lines.append(record.line)
    for file in [*(store / "journal").iterdir(), store / "index.sqlite"]:
        file.unlink(missing_ok=True)
    (store / "journal" / "000000001.jsonl").write_bytes(b"".join(lines))


def test_an_optional_field_is_read_as_documented_or_refused_by_name(desk: Desk) -> None:
    records, now = records_of_every_kind(desk), desk.close + 2 * NEXT_OPEN
    newest = {one.kind: one for one in records}.values()
    fields = [(one, place) for one in newest for place in places(KINDS[one.kind], one.body)]

    issued = next(one for one in newest if one.kind == "issued")

    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(field=st.sampled_from(fields), value=st.sampled_from(VALUES))
    @example(field=(issued, ("book",)), value=LEFT_OUT)
    @example(field=(issued, ("parts", "forecasts")), value="x")
    @example(field=(issued, ("parts", "desk 2003-01-02")), value="x")
    def read(field: tuple[Record, Place], value: Any) -> None:
        record, place = field
        other = replace(record, body=changed(record.body, place, value))
        write(desk.store, [other if one is record else one for one in records])
        try:
            told = [about(one) for one in Store.open(desk.store).records()]
        except StoreError as error:
            said = str(error)
            assert health(desk.store, now=now).checks[0].sentence == said
            assert repr(record.kind) in said, (place, value)
            assert str(place[0]) in said, (record.kind, value)
        else:
            assert len(told) == len(records)
            for look in (health, today):
                with contextlib.suppress(StoreError):  # of a file that is another one than its record says
                    look(desk.store, now=now)

    read()


def test_a_desk_of_no_session_is_refused() -> None:
    now, part = datetime(2003, 1, 2, tzinfo=UTC), f"{'0' * 64}.parquet"
    record = Record.make(1, now, now, "issued", {"parts": {"decisions": part, "desk x": part}}, FIRST_HASH)
    with pytest.raises(StoreError, match=r"a record 'issued' does not fit: its 'desks_before\.x"):
        State().after(record)


def test_parts_that_later_versions_may_add_are_not_looked_at(tmp_path: Path) -> None:
    state = State(orders=({"kind": "fills", "parts": {"later": f"{'0' * 64}.json"}},))
    assert list(Contents(tmp_path).looks(state, State())) == []
