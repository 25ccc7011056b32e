"""A store for years: bars in any order, a state from records, one process at a time, nothing lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import sha256_of
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.market.bars import make_bars
from gatecast.provenance import hash_of_bars
from gatecast.store import Store
from gatecast.store.export import export
from gatecast.store.history import parquet
from gatecast.store.identity import upgrade
from gatecast.store.state import State

BARS = synthetic.b1(300, seed=3, r2=0.05, symbols=2)
LAST = BARS["time"].max()
LATER = LAST + timedelta(days=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", Experiment(name="mine"), now=BARS["time"].min())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with bars of two updates, decisions, models, a snapshot in the middle; only read."""
    made = Store.create(tmp_path_factory.mktemp("stores") / "full", Experiment(name="full"), now=BARS["time"].min())
    fill(made)
    return made.folder


def fill(made: Store) -> None:
    half = BARS.filter(pl.col("time") <= LAST - timedelta(days=40))
    made.add_bars(half, LAST - timedelta(days=40))
    weights = made.put(b"weights", ".safetensors")
    refit = made.append("refit", {"parts": {"a.safetensors": weights}, "cutoffs": {"index": "2001-01-02"}}, LAST)
    made.append("accepted", {"model": refit.number, "reason": "first"}, LAST)
    made.issue(decided(half["time"].max()), LAST, model=refit.number)
    made.snapshot(LAST)
    made.add_bars(BARS, LATER)
    made.issue(decided(LAST), LATER, model=refit.number)
    made.append("alarm", {"name": "stale", "symbols": ["B1_0"]}, LATER)


def decided(time: datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": ["B1_0", "=B1_1"], "time": [time, time], "z": [0.5, None], "weight": [-0.25, 0.0],
            "signal": pl.Series([1, 0], dtype=pl.Int8), "strategy": ["trend", "-flat"],
            "reason": ["@because", "nothing"],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )  # fmt: skip


ODD = pl.DataFrame({"symbol": ["x" * 1001]})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("settings", {"settings": (b"name = 3", ".toml")}),
        ("tables", {"universe": (parquet(ODD.with_columns(**{"from": None, "to": None})), ".parquet")}),
        ("tables", {"symbols_file": (parquet(ODD.with_columns(asset_class=None)), ".parquet")}),
        ("actions", {"actions": (parquet(ODD), ".parquet")}),
        ("bars", {"2000": (parquet(ODD), ".parquet")}),
        ("issued", {"decisions": (parquet(ODD), ".parquet")}),
        ("issued", {"decisions": (parquet(decided(LAST)), ".parquet"), "carried": (b"none", ".safetensors")}),
        ("issued", {"decisions": (parquet(decided(LAST)), ".parquet"), "desk": (b"none", ".safetensors")}),
        ("refit", {"scores.json": (b"[]", ".json")}),
        ("proposed", {"orders": (b"{}", ".json")}),
        ("fills", {"fills": (b"{}", ".json")}),
        ("reconciled", {"positions": (b"{}", ".json")}),
        ("snapshot", {"state": (b"[]", ".json")}),
    ],
)
def test_a_record_whose_files_could_not_be_read_again_is_not_written(
    full: Path, tmp_path: Path, kind: str, body: dict[str, tuple[bytes, str]]
) -> None:
    store = Store.open(shutil.copytree(full, tmp_path / "own"))
    before = files(store.folder)
    parts = {role: store.put(*content) for role, content in body.items()}
    more = {
        "bars": {"rows": {"2000": 1}, "counts": {}, "columns": []}, "snapshot": {"bars": []},
        "proposed": {"session": "2000-01-03"}, "fills": {"new": 1, "seen": 0}, "reconciled": {"breaks": []},
    }.get(kind, {})  # fmt: skip
    with pytest.raises(StoreError, match=f"a record '{kind}' is not written: .* cannot be used"):
        store.append(kind, {"id": "a", "account": "A", "by": "ann", **more, "parts": parts}, LATER)
    assert files(store.folder) == before
    assert store.check() == []


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    """A copy of it to damage: a backup is a copy of the folder."""
    return Path(shutil.copytree(full, tmp_path / "copy"))


def files(folder: Path) -> dict[str, bytes]:
    found = {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    return {name: content for name, content in found.items() if name not in ("lock", "heartbeat")}


# ── bars ──────────────────────────────────────────────────────────────────────────────────────────


def test_bars_come_back_as_they_were_known(store: Store) -> None:
    first = store.add_bars(BARS, LATER)
    assert first is not None
    assert first.body["counts"] == {"new": 600, "repeated": 0, "corrected": 0, "late": 0, "unfinished": 0}
    assert sorted(first.parts) == ["2000", "2001"]
    assert store.bars.as_of(LATER).equals(BARS)
    before = files(store.folder)
    assert store.add_bars(BARS, LATER + HOUR) is None
    assert store.add_bars(BARS[100:200], LATER + HOUR) is None
    assert files(store.folder) == before

    other = BARS[50:52].with_columns(pl.col("close") * 1.0001, pl.col("high") * 1.01)
    record = store.add_bars(other, LATER + 2 * HOUR)
    assert record is not None
    assert record.body["counts"]["corrected"] == 2
    assert store.bars.as_of(LATER + HOUR).equals(BARS)
    assert store.bars.first_known().equals(BARS)
    now = store.bars.as_of(LATER + 2 * HOUR)
    assert now["close"][50] == other["close"][0]
    assert now["known_at"][50] == LATER + 2 * HOUR
    assert store.bars.as_of(LATER + 2 * HOUR, record=first.number).equals(BARS)
    assert store.add_bars(other, LATER + 3 * HOUR) is None
    nearly = BARS.with_columns(pl.col("close") * (1 + 1e-10), pl.col("high") * 1.01)
    assert store.add_bars(nearly[300:301].with_columns(pl.col("high") / 1.01), LATER + 3 * HOUR) is None


def test_late_and_unfinished_rows(store: Store) -> None:
    hole = BARS["time"][200]
    store.add_bars(BARS.filter(pl.col("time") != hole), LAST)
    record = store.add_bars(BARS.filter(pl.col("time") <= LAST - timedelta(days=1)), LATER)
    assert record is not None
    assert record.body["counts"]["late"] == record.body["counts"]["new"] == 2
    assert store.bars.as_of(LATER - HOUR).height == 598
    assert set(store.bars.as_of(LATER).filter(pl.col("time") == hole)["known_at"]) == {LATER}
    tomorrow = BARS.tail(1).with_columns(time=pl.lit(LATER), known_at=pl.lit(LATER))
    assert store.add_bars(tomorrow, LATER - HOUR) is None
    assert store.add_bars(make_bars(tomorrow.drop("segment")), LATER) is not None


def test_a_row_in_time_is_known_at_its_close(store: Store) -> None:
    store.add_bars(BARS.filter(pl.col("time") < LAST), LAST - HOUR)
    record = store.add_bars(BARS.filter(pl.col("time") == LAST), LAST + HOUR)
    assert record is not None
    assert record.body["counts"]["late"] == 0
    assert store.bars.as_of(LATER).equals(BARS)


def test_the_newest_year_is_read_alone(store: Store) -> None:
    store.add_bars(BARS, LATER)
    store.snapshot(LATER)
    for part in store.state.bars:
        if part.year < 2001:
            store.artefacts.path(part.part).unlink()
    tail = store.bars.as_of(LATER, since=datetime(2001, 1, 1, tzinfo=UTC))
    assert tail.equals(BARS.filter(pl.col("time") >= datetime(2001, 1, 1, tzinfo=UTC)))
    with pytest.warns(UserWarning, match="is missing"):
        assert store.bars.as_of(LATER).equals(BARS)


def test_segments_stay_where_the_source_put_them(store: Store) -> None:
    cut = BARS.with_columns(segment=pl.col("segment") + (pl.int_range(pl.len()).over("symbol") >= 150).cast(pl.Int32))
    cut = make_bars(cut)
    store.add_bars(cut, LATER)
    store.snapshot(LATER)
    assert store.bars.as_of(LATER)["segment"].equals(cut["segment"])


@pytest.mark.parametrize(
    ("bars", "match"),
    [
        (BARS.drop("x"), "have the columns x"),
        (BARS.with_columns(asset_class=pl.lit("crypto")), "of the class crypto in the new bars and index in the store"),
        (BARS.with_columns(symbol=pl.lit("s" * 1001)), "a symbol is 1 to 100 printable characters"),
        (BARS.drop("close"), "lacks close"),
    ],
)
def test_bars_of_another_kind_are_refused_and_change_nothing(store: Store, bars: pl.DataFrame, match: str) -> None:
    store.add_bars(BARS[:10], LATER)
    before = files(store.folder)
    with pytest.raises(BarsError, match=match):
        store.add_bars(bars, LATER)
    assert files(store.folder) == before


def test_a_column_that_the_store_does_not_have_is_left_out_and_said(store: Store) -> None:
    store.add_bars(BARS[:10], LATER)
    record = store.add_bars(BARS.with_columns(y=pl.lit(1.0)), LATER)
    assert record is not None
    assert "left out: y" in record.body["problems"][0]
    assert store.bars.as_of(LATER).columns == BARS.columns


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_feeds_in_any_order_doubled_and_corrected_converge(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """The source says when each row became known: what is stored does not depend on the order in which it came."""
    draw = random.Random(seed)
    first = BARS.filter(pl.col("time") <= BARS["time"][11]).with_columns(known_at=pl.col("time").dt.offset_by("5m"))
    versions = [first]
    for number in range(1, 4):
        rows = first.sample(fraction=0.4, seed=draw.randrange(2**31))
        later = pl.col("time") + number * HOUR
        versions.append(rows.with_columns(pl.col("close") + number * 1e-3, high=pl.col("high") + 1, known_at=later))
    single = [row for version in versions for row in version.iter_slices(1)]
    folder = tmp_path_factory.mktemp("feeds")
    hashes = set()
    for name in ("sorted", "shuffled"):
        order = single if name == "sorted" else draw.sample(single + draw.sample(single, 20), len(single) + 20)
        store = Store.create(folder / name, Experiment())
        with store.locked():
            for piece in (order[:20], order[20:21], order[21:]):
                for batch in each_key_once(pl.concat(piece)):
                    store.add_bars(make_bars(batch.drop("segment")), LATER, stated=True)
                if draw.random() < 0.5:
                    store.snapshot(LATER)
        hashes.add((hash_of_bars(store.bars.as_of(LATER)), hash_of_bars(store.bars.first_known())))
    assert len(hashes) == 1


def each_key_once(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows in batches, each of which has every symbol and time at most once, in the order in which they came."""
    number = pl.int_range(pl.len()).over("symbol", "time")
    return [batch.drop("_n") for _, batch in rows.with_columns(_n=number).group_by("_n", maintain_order=True)]


def test_corrections_without_a_known_time_converge_in_the_order_in_which_they_come(store: Store) -> None:
    for number, factor in enumerate((1.0, 1.01, 1.0)):
        rows = BARS[:5].with_columns(pl.col("close", "high", "low", "open") * factor)
        assert store.add_bars(rows, LATER + number * HOUR) is not None
    assert store.bars.versions().height == 15
    assert store.bars.as_of(LATER + HOUR)["close"][0] == pytest.approx(BARS["close"][0] * 1.01)
    assert store.bars.as_of(LATER + 2 * HOUR)["close"].equals(BARS["close"][:5])


# ── the state ─────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_and_the_records_after_it_are_all_records(full: Path) -> None:
    store = Store.open(full)
    assert store.state == State().after_all(store.journal.records())
    assert store.state.serving == store.state.models[0].record
    assert [one.model for one in store.state.issued] == [store.state.serving] * 2
    assert store.check() == []
    assert store.experiment.name == "full"
    assert store.bars.as_of(LATER).equals(BARS.with_columns(known_at=store.bars.as_of(LATER)["known_at"]))
    assert [row["symbol"] for row in store.decisions().iter_rows(named=True)] == ["B1_0", "=B1_1"] * 2
    assert len(store.decisions()["issued"].unique()) == 2


def test_a_damaged_snapshot_is_passed_over_with_a_warning(copy: Path) -> None:
    whole = Store.open(copy)
    whole.snapshot(LATER)
    newest, before = list(whole.journal.snapshots())
    whole.artefacts.path(newest.parts["state"]).write_bytes(b"{}")
    with pytest.warns(UserWarning, match=f"snapshot of record {newest.number}.*cannot be used"):
        assert Store.open(copy).state == whole.state
    whole.artefacts.path(before.parts["state"]).unlink()
    with pytest.warns(UserWarning, match="cannot be used"):
        assert Store.open(copy).state == whole.state
    assert sum("damaged" in one.what or "missing" in one.what for one in Store.faults(copy)) >= 2


def test_damaged_bars_of_a_snapshot_are_read_as_they_came_and_made_again(copy: Path) -> None:
    store = Store.open(copy)
    whole = store.bars.versions()
    path = store.artefacts.path(next(part for part in store.state.bars if part.record is None).part)
    path.write_bytes(b"damaged")
    assert [path.name in one.what for one in Store.faults(copy)] == [True]
    with pytest.warns(UserWarning, match="read as they came"):
        assert store.bars.versions().equals(whole)
    with pytest.warns(UserWarning, match="read as they came"):
        store.snapshot(LATER)
    assert store.bars.versions().equals(whole)
    assert path.read_bytes() != b"damaged" or path.name not in {part.part for part in store.state.bars}


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.parametrize("name", ["journal", "parts"])
def test_a_folder_that_leads_elsewhere_is_neither_read_nor_written(copy: Path, tmp_path: Path, name: str) -> None:
    store = Store.open(copy)
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    before = files(tmp_path / "outside")
    with pytest.raises(StoreError, match=r"is a link|through a link"):
        store.add_bars(BARS[:1].with_columns(volume=pl.lit(7.0)), LATER)
    assert [one for one in Store.faults(copy) if not one.is_harmless]
    assert files(tmp_path / "outside") == before


def test_a_state_that_was_made_up_with_its_hash_is_found(copy: Path) -> None:
    store = Store.open(copy)
    state = store.state.to_json() | {"serving": None}
    part = store.put(json.dumps(state).encode(), ".json")
    bars = [one.model_dump() for one in store.state.bars]
    store.append("snapshot", {"bars": bars, "parts": {"state": part}}, LATER)
    assert Store.open(copy).state.serving is None
    (fault,) = [one for one in Store.faults(copy) if not one.is_harmless]
    assert "not what the records before it add up to" in fault.what


@pytest.mark.parametrize(
    ("kind", "body", "match"),
    [
        ("alarms", {}, r"Did you mean 'alarm'\?"),
        ("accepted", {"model": 999}, "names the model 999"),
        ("accepted", {"model": "1"}, "'model': Input should be a valid integer"),
        ("refit", {"parts": {"a": "b"}}, "'parts.a'"),
        ("settings", {"parts": {"settings": "0" * 64 + ".toml"}}, "which is not there: put it"),
        ("settings", {}, "'parts'"),
        ("refit", {"parts": {}, "goes_on": "first"}, "'goes_on'"),
        ("refit", {"parts": {}, "cutoffs": {"index": "2003-02-31"}}, "out of range"),
        ("bars", {"parts": {"0000": "0" * 64 + ".parquet"}, "rows": {}, "counts": {}, "columns": []}, "0000"),
        ("alarm", {"name": "a", "parts": ["a"]}, "no names of artefacts"),
        ("alarm", {"name": "a", "parts": {"a": ["b"]}}, "no names of artefacts"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_and_nothing_changes(
    copy: Path, kind: str, body: dict[str, object], match: str
) -> None:
    store = Store.open(copy)
    before, state = files(copy), store.state
    with pytest.raises(StoreError, match=match):
        store.append(kind, body, LATER)
    assert (files(copy), store.state) == (before, state)


def test_a_rollback_brings_the_model_before_back(copy: Path) -> None:
    store = Store.open(copy)
    first = store.state.serving
    second = store.append("refit", {"parts": {"a.safetensors": store.put(b"2", ".safetensors")}}, LATER).number
    assert store.state.models[-1].status == "candidate"
    assert store.state.serving == first
    store.append("accepted", {"model": second}, LATER)
    assert (store.state.serving, store.state.previous) == (second, first)
    store.append("rollback", {"model": first}, LATER)
    assert (Store.open(copy).state.serving, Store.open(copy).state.previous) == (first, second)


# ── check ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_but_for_the_index(full: Path, data: st.DataObject) -> None:
    names = sorted(name for name in files(full) if name.startswith(("journal/", "parts/", "store.json")))
    file = full / data.draw(st.sampled_from(names))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    file.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
    try:
        assert [one for one in Store.faults(full) if not one.is_harmless], (file, at, byte)
    finally:
        file.write_bytes(content)


def test_what_killed_processes_left_is_no_fault(copy: Path) -> None:
    store = Store.open(copy)
    store.artefacts.put(b"nobody names it", ".json")
    (copy / "journal" / "notes.txt").write_text("mine")
    (copy / "parts" / "zz").mkdir()
    file = store.journal.files()[-1]
    file.write_bytes(file.read_bytes() + b'{"before":"')
    found = Store.faults(copy)
    assert [one.is_harmless for one in found] == [True] * 4
    assert any("did not finish" in one.sentence for one in found)
    assert Store.open(copy).state == store.state


def test_a_record_that_was_lost_is_known_from_the_index(copy: Path) -> None:
    file = Store.open(copy).journal.files()[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    (fault,) = Store.faults(copy)
    assert "records were lost" in fault.what
    with pytest.warns(UserWarning, match="records were lost"):
        opened = Store.open(copy)
    opened.rebuild_index()
    assert Store.faults(copy) == []


@pytest.mark.parametrize(
    ("about", "match"),
    [
        (b"", "damaged"), (b"[]", "not of a gatecast store"),
        (b'{"format": "gatecast run"}', "not of a gatecast store"),
        (b'{"format": "gatecast store", "version": 3, "id": "a", "gatecast": "9.1"}', r"version 3, .* \(9.1\) or a"),
        (b'{"format": "gatecast store", "version": "1", "id": "a"}', "'version'"),
        (b'{"format": "gatecast store", "version": 2, "id": "other"}', "files of two stores"),
        (b'{"format": "gatecast store", "version": 0, "id": "a"}', "no longer reads"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_store_of_this_version_is_refused(copy: Path, about: bytes, match: str) -> None:
    (copy / "store.json").write_bytes(about)
    with pytest.raises(StoreError, match=match):
        Store.open(copy)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no gatecast store: there is no such folder"):
        Store.open(tmp_path / "none")
    with pytest.raises(StoreError, match=r"it has no store.json"):
        Store.open(tmp_path)
    (tmp_path / "mine").write_text("x")
    for place, match in ((tmp_path, "holds something"), (tmp_path / "mine", "is a file")):
        with pytest.raises(StoreError, match=match):
            Store.create(place, Experiment())
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
    made = Store.create(tmp_path / "a" / "b", Experiment())
    with pytest.raises(StoreError, match="a store already"):
        Store.create(made.folder, Experiment())


def test_an_older_store_is_brought_to_this_version_step_by_step(copy: Path) -> None:
    steps = {1: lambda place: (place / "new").write_text("2"), 2: lambda place: (place / "new").write_text("3")}
    about = json.loads((copy / "store.json").read_bytes())
    (copy / "store.json").write_text(json.dumps({**about, "version": 1}))
    with pytest.warns(UserWarning, match="from schema version 1 to 3"):
        assert upgrade(copy, steps=steps, newest=3)["version"] == 3
    assert upgrade(copy, steps=steps, newest=3)["version"] == 3
    assert (copy / "new").read_text() == "3"
    with pytest.raises(StoreError, match="no longer reads"):
        upgrade(copy, steps=steps, newest=4)
    with pytest.raises(StoreError, match=r"store of schema version 3"):
        Store.open(copy)
    (copy / "store.json").write_text(json.dumps(about))
    said = [(one.kind, one.body["before"], one.body["after"]) for one in [*Store.open(copy).journal.records()][-2:]]
    assert said == [("upgraded", 1, 2), ("upgraded", 2, 3)]


def test_an_upgrade_that_was_killed_is_no_damage_and_is_made_up_for(copy: Path) -> None:
    lines = [line for file in Store.open(copy).journal.files() for line in file.read_bytes().splitlines()]
    about = json.loads((copy / "store.json").read_bytes())
    (copy / "store.json").write_text(json.dumps({**about, "version": 1}, sort_keys=True, indent=1) + "\n")
    with pytest.warns(UserWarning, match="from schema version 1 to 2"):
        upgraded = Store.open(copy)
    assert [fault for fault in Store.faults(copy) if not fault.is_harmless] == []
    record = [*upgraded.journal.records()][-1]
    assert (record.kind, record.number, record.now) == ("upgraded", len(lines) + 1, json_now(lines[-1]))
    content = (copy / "store.json").read_bytes()
    (copy / "store.json").write_bytes(content.replace(b'"version": 2', b'"version": 1'))  # killed after its record
    assert [fault for fault in Store.faults(copy) if not fault.is_harmless] == []
    with pytest.warns(UserWarning, match="from schema version 1 to 2"):
        Store.open(copy)
    assert (copy / "store.json").read_bytes() == content
    assert [fault for fault in Store.faults(copy) if not fault.is_harmless] == []
    (copy / "store.json").write_bytes(content.replace(b'"gatecast": "', b'"gatecast": "9'))
    assert "it was changed" in " ".join(fault.what for fault in Store.faults(copy))


def json_now(line: bytes) -> datetime:
    """The moment of a line of the journal."""
    return datetime.fromisoformat(json.loads(line)["now"])


# ── one process at a time ─────────────────────────────────────────────────────────────────────────

OTHER = """
import sys
from datetime import UTC, datetime
from gatecast.store import Store
store = Store.open(sys.argv[1])
for _ in range(2):
    with store.locked():
        print("locked", flush=True)
        sys.stdin.readline()
        store.append("alarm", {"name": "of the other"}, datetime(2024, 1, 2, tzinfo=UTC))
    print("free", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(copy: Path) -> Iterator[Callable[[str], str]]:
    """Another process that takes the lock, gives it back and takes it again, one line of its input after the other."""
    command = [sys.executable, "-c", OTHER, str(copy)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def go_on(word: str = "go on") -> str:
            if word == "kill":
                process.kill()
                process.wait()
                return str(process.pid)
            if word == "go on":
                print(file=process.stdin, flush=True)
            return process.stdout.readline().strip()  # type: ignore[union-attr]

        assert go_on("begin") == "locked"
        yield go_on
        process.kill()


def test_two_processes_write_one_after_the_other(copy: Path, other: Callable[..., str]) -> None:
    store = Store.open(copy)
    with pytest.raises(StoreError, match=r"another process writes to .* \(process \d+, since \d{4}-") as said:
        store.append("alarm", {"name": "mine"}, LATER)
    assert other() == "free"
    store.append("alarm", {"name": "mine"}, LATER)
    assert [one["name"] for one in store.state.alarms] == ["stale", "of the other", "mine"]
    assert Store.open(copy).state == store.state
    assert Store.faults(copy) == []

    assert other() == "locked"
    killed = other("kill")
    assert f"process {killed}," in str(said.value)
    with pytest.warns(UserWarning, match=f"process {killed} ended without a word; its lock was taken over"):
        store.append("alarm", {"name": "again"}, LATER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store.open(copy).append("alarm", {"name": "and again"}, LATER)
    assert Store.faults(copy) == []


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize("name", ["lock", "index.sqlite", "heartbeat"])
def test_what_is_no_file_is_never_opened(copy: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(outside)
    store = Store.open(copy)
    if name == "lock":
        with pytest.raises(StoreError, match="is no file"):
            store.append("alarm", {"name": "a"}, LATER)
    elif name == "index.sqlite":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store.append("alarm", {"name": "a"}, LATER)
    else:
        assert store.heartbeat() == {}
        store.beat(LATER, symbols=2)
        assert (Store.open(copy).heartbeat() or {})["symbols"] == 2
    assert outside.read_bytes() == b"untouched"


# ── tables and what can go ────────────────────────────────────────────────────────────────────────


def test_exported_tables_hold_no_formulas(full: Path, tmp_path: Path) -> None:
    done = export(Store.open(full), tmp_path / "out", LATER)
    assert done == {"bars.csv": 600, "actions.csv": 0, "decisions.csv": 4, "forecasts.csv": 0}
    text = (tmp_path / "out" / "decisions.csv").read_text()
    assert "'=B1_1" in text
    assert "'-flat" in text
    assert "'@because" in text
    assert ",-0.25," in text
    assert not [line for line in text.splitlines() if line[0] in "=+-@"]
    export(Store.open(full), tmp_path / "out", LATER, "parquet")
    exact = pl.read_parquet(tmp_path / "out" / "bars.parquet")
    assert exact.equals(Store.open(full).bars.as_of(LATER))
    with pytest.raises(StoreError, match="is a store"):
        export(Store.open(full), full, LATER)


def test_pruning_removes_what_is_not_needed_and_nothing_else(copy: Path) -> None:
    store = Store.open(copy)
    orphan = store.artefacts.put(b"nobody names it", ".json")
    for number in range(3):
        part = store.put(f"weights {number}".encode(), ".safetensors")
        refit = store.append("refit", {"parts": {"a.safetensors": part}}, LATER)
        store.append("accepted", {"model": refit.number}, LATER)
        store.add_bars(
            BARS[:1].with_columns(pl.col("close") + number / 100, high=pl.col("high") + 9), LATER + number * HOUR
        )
        store.snapshot(LATER)
    before = files(copy)
    planned = store.prunable(keep=1)
    assert list(planned.unnamed) == [orphan]
    assert len(planned.models) == 2
    assert planned.superseded
    assert files(copy) == before
    bars, state = store.bars.versions(), store.state
    done = store.prune(LATER, keep=1)
    assert done == planned
    assert not set(done.all) & {Path(name).name for name in files(copy)}
    again = Store.open(copy)
    assert again.bars.versions().equals(bars)
    assert (again.state.serving, again.state.bars) == (state.serving, state.bars)
    assert Store.faults(copy) == []
    assert store.prune(LATER, keep=1).all == {}
    assert [one.kind for one in again.journal.records()].count("pruned") == 1
    name = sha256_of(b"weights 0") + ".safetensors"
    assert name in done.models
    again.put(b"weights 0", ".safetensors")
    again.append("refit", {"parts": {"a": name}}, LATER)
    assert name not in again.prunable(keep=1).all


def test_a_snapshot_is_taken_when_the_journal_has_grown(copy: Path) -> None:
    store = Store.open(copy)
    assert store.maintain(LATER) is None
    with store.locked():
        for _ in range(100):
            store.append("alarm", {"name": "a"}, LATER)
    assert store.maintain(LATER) is not None
    assert store.maintain(LATER) is None
    assert len(store.journal.files()) == 3


def test_an_index_that_cannot_be_reached_is_said_and_stops_nothing(copy: Path) -> None:
    machine = Machine(index="postgresql+psycopg://me:secret@127.0.0.1:1/none")
    store = Store.open(copy, machine=machine)
    with pytest.warns(UserWarning, match=r"//\*\*\*@.*The store itself is whole") as said:
        store.append("alarm", {"name": "a"}, LATER)
    assert "secret" not in str(said[0].message)
    assert [one.is_harmless for one in Store.faults(copy, machine=machine)] == [True]


def test_a_moment_without_time_zone_is_refused(store: Store) -> None:
    naive = datetime(2024, 1, 2)
    for work in (
        lambda: store.add_bars(BARS, naive), lambda: store.bars.as_of(naive), lambda: store.snapshot(naive),
        lambda: store.append("alarm", {"name": "a"}, naive), lambda: store.beat(naive),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match="has no time zone"):
            work()


@pytest.mark.parametrize("inner", [False, True])
def test_nothing_is_pruned_through_a_link(store: Store, tmp_path: Path, inner: bool) -> None:
    other = Store.create(tmp_path / "other", Experiment(name="other"), now=LAST)
    kept = other.artefacts.put(b"of another store", ".json")
    link = store.folder / "parts"
    if inner:
        link /= kept[:2]
        shutil.rmtree(link, ignore_errors=True)
        link.symlink_to(other.folder / "parts" / kept[:2], target_is_directory=True)
    else:
        shutil.rmtree(link)
        link.symlink_to(other.folder / "parts", target_is_directory=True)
    before = files(other.folder)
    assert store.prunable().all == {}
    store.prune(LAST)
    assert files(other.folder) == before
    with pytest.raises(StoreError, match="through a link"):
        store.artefacts.discard([kept])
    assert files(other.folder) == before
