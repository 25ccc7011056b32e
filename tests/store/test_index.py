"""The index: the same in a file and on a PostgreSQL server, and always made again from the journal."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from postgres import PROGRAMS, WHY_NOT, postgres_server

from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.experiment import Experiment
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.store import Store, indexed
from gatecast.store.index import Index
from gatecast.store.indexed import OtherJournalError, append_to_file, other_journal

BARS = synthetic.b1(60, seed=3, r2=0.05, symbols=2)
NOW = BARS["time"].max() + timedelta(hours=1)
STRANGE = "Ü/../=x\n\ufffd"
SERVER = pytest.param("server", marks=pytest.mark.skipif(not PROGRAMS, reason=WHY_NOT))


@pytest.fixture(scope="module", params=["file", SERVER])
def address(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the index is: None for a file in the store."""
    with postgres_server() if request.param == "server" else nullcontext() as found:
        yield found


@pytest.fixture
def store(address: str | None, tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "store", Experiment(), now=NOW, machine=Machine(index=address))
    made.add_bars(BARS, NOW)
    refit = made.append("refit", {"parts": {}, "cutoffs": {"index": "2000-03-01"}}, NOW)
    made.append("refused", {"model": refit.number, "reason": "worse"}, NOW)
    made.issue(decided(NOW, 0.5), NOW, model=refit.number)
    made.issue(decided(NOW, 0.9), NOW + timedelta(hours=1))
    return made


def decided(time: datetime, weight: float) -> pl.DataFrame:
    table = {"symbol": ["B1_0", STRANGE], "time": [time, time], "weight": [weight, None], "signal": [1, -1]}
    return pl.DataFrame(table, schema_overrides={"time": pl.Datetime("us", "UTC")}).with_columns(
        consensus=pl.lit(True), reason=pl.lit("because"), unknown=pl.lit(1.0)
    )


def test_the_index_has_what_the_journal_says(store: Store, address: str | None) -> None:
    index = store.index()
    assert index.last() == (store.state.number, store.state.hash)
    assert index.count() == 6
    assert [(row["status"], row["reason"], row["now"]) for row in index.refits()] == [("refused", "worse", NOW)]
    rows = index.decisions()
    assert [(row["symbol"], row["weight"], row["signal"], row["time"]) for row in rows] == [
        ("B1_0", 0.9, 1, NOW), (STRANGE, None, -1, NOW),
    ]  # fmt: skip
    assert {row["model"] for row in rows} == {None}
    assert len(index.decisions("B1_0")) == 1
    assert (store.folder / "index.sqlite").exists() == (address is None)
    assert store.check() == []


def test_an_index_is_made_again_and_is_the_same(store: Store) -> None:
    index, before = store.index(), store.index().decisions()
    assert index.follow(store.journal) == 0
    assert store.rebuild_index() == 6
    assert (index.decisions(), index.count()) == (before, 6)


def test_what_is_added_to_the_file_is_what_sqlalchemy_writes(tmp_path: Path) -> None:
    made = Store.create(tmp_path / "store", Experiment(), now=NOW)
    made.add_bars(BARS[:100], NOW)
    assert not append_to_file(tmp_path, made.id, made.journal, made.decisions_of)  # there is none
    model = made.append("refit", {"parts": {}, "cutoffs": {"index": "2000-03-01"}}, NOW)
    made.add_bars(BARS, NOW)
    for weight in (0.5, 0.9):
        made.issue(decided(NOW, weight), NOW, model=model.number)
    made.append("alarm", {"name": "stale"}, NOW)
    added = contents_of(made.folder / "index.sqlite")
    assert made.rebuild_index() == made.state.number
    assert contents_of(made.folder / "index.sqlite") == added
    assert append_to_file(made.folder, made.id, made.journal, made.decisions_of)  # which has all
    assert contents_of(made.folder / "index.sqlite") == added


def contents_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Table -> its rows as SQLite has them, sorted."""
    with closing(sqlite3.connect(file)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def test_an_update_does_without_sqlalchemy(tmp_path: Path) -> None:
    made = Store.create(tmp_path / "store", Experiment(), now=NOW)
    made.add_bars(BARS[:100], NOW)
    code = (
        "import sys\nfrom datetime import datetime\nfrom gatecast.store import Store\n"
        f"opened = Store.open({str(made.folder)!r})\n"
        f"opened.append('alarm', {{'name': 'stale'}}, datetime.fromisoformat({NOW.isoformat()!r}))\n"
        "assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert made.index().last()[0] == made.state.number + 1


def test_two_stores_share_an_index(store: Store, address: str | None, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other", Experiment(), now=NOW, machine=Machine(index=address))
    other.append("alarm", {"name": "a"}, NOW)
    other.rebuild_index()
    assert (other.index().count(), store.index().count()) == (2, 6)


def test_an_index_of_another_journal_stays_until_it_is_made_again(store: Store) -> None:
    """As after a copy of an older store was put in its place."""
    last = store.journal.files()[0]
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:-2]))
    with warnings.catch_warnings(action="ignore"):
        older = Store.open(store.folder, machine=store.machine)
    (fault,) = [one for one in older.check() if not one.is_harmless]
    assert "records were lost" in fault.what
    before = older.index().last()
    number = older.state.number
    for _ in range(3):
        with pytest.raises(StoreError, match=r"records were lost \(.*Nothing is written until"):
            older.append("alarm", {"name": "a"}, NOW)
    assert (older.index().last(), older.state.number) == (before, number)
    (fault,) = [one for one in older.check() if not one.is_harmless]
    assert "records were lost" in fault.what
    older.rebuild_index()
    lost = [one for one in older.journal.records() if one.kind == "lost"]
    assert [(one.body["count"], one.body["last"]) for one in lost] == [(before[0] - number, before[1])]
    assert older.index().last() == (older.state.number, older.state.hash)
    assert older.index().decisions() == []
    assert all("no record names this artefact" in one.what for one in older.check())


def test_without_an_index_a_loss_of_records_is_said_to_be_possible(tmp_path: Path) -> None:
    """A journal that lost its last record, whose files are still there, and one that lost nothing."""
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.add_bars(BARS[:100], NOW)
    (store.folder / "index.sqlite").unlink()
    (whole,) = Store.faults(store.folder)
    last = f"its last record is {store.state.number}, of {NOW:%Y-%m-%d %H:%M} UTC"
    assert whole.what.endswith(f"Whether the journal lost its last records cannot be seen without one: {last}")
    (file,) = store.journal.files()
    lines = file.read_bytes().splitlines(keepends=True)
    lost = store.journal.last
    assert lost is not None
    assert lost.parts
    file.write_bytes(b"".join(lines[:-1]))
    said = Store.faults(store.folder)[-1].what
    assert "named by no record: a killed command leaves such files, and so do lost records" in said
    assert f"its last record is {store.state.number - 1}, of" in said
    assert all(one.is_harmless for one in Store.faults(store.folder))


@pytest.mark.parametrize(
    "made_by",
    [
        "CREATE TRIGGER other AFTER INSERT ON gatecast_records BEGIN DELETE FROM gatecast_refits; END",
        "ALTER TABLE gatecast_records RENAME TO other; CREATE VIEW gatecast_records AS "
        "SELECT store, 99 AS record, hash, kind, body, time, now FROM other",
        "ALTER TABLE gatecast_records ADD COLUMN more AS (hex(zeroblob(record * 80000000)))",
        "DROP TABLE gatecast_refits; CREATE TABLE gatecast_refits (reason TEXT DEFAULT (hex(zeroblob(400000000))))",
        "CREATE TABLE more (one CHECK (length(one) > 1))", "CREATE INDEX more ON gatecast_records (record + 1)",
        "DROP INDEX ix_gatecast_records_kind; CREATE UNIQUE INDEX ix_gatecast_records_kind ON gatecast_records (kind)",
    ],
)  # fmt: skip
def test_an_index_of_another_schema_is_a_damaged_one(tmp_path: Path, made_by: str) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    with closing(sqlite3.connect(store.folder / "index.sqlite")) as connection:
        connection.executescript(made_by)
    assert other_journal(store.folder, store.id, store.journal) is None
    assert not append_to_file(store.folder, store.id, store.journal, None)
    with pytest.raises(StoreError, match="other tables than an index"):
        store.index().last()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.append("alarm", {"name": "b"}, NOW)
    assert store.index().count() == 3


def half_written(store: Store, end: bytes = b"") -> Path:
    """Leaves the index as a process that was killed while it wrote, with an end of its journal; the journal."""
    file, journal = store.folder / "index.sqlite", store.folder / "index.sqlite-journal"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE more (one)")
        connection.executemany("INSERT INTO more VALUES (?)", [("x" * 3000,)] * 200)
        left = file.read_bytes(), journal.read_bytes()
        connection.execute("ROLLBACK")
    file.write_bytes(left[0])
    journal.write_bytes(left[1] + bytes(-len(left[1]) % 512) + end)
    return journal


def without_the_last_record(store: Store) -> Store:
    file = store.journal.files()[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with warnings.catch_warnings(action="ignore"):
        return Store.open(store.folder)


def test_a_journal_of_the_index_that_names_a_file_deletes_none(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    mine = tmp_path / "mine"
    mine.write_text("precious")
    name = str(mine).encode()
    numbers = ((1 << 30) // 4096 + 1, len(name), sum(name))
    page, length, total = (number.to_bytes(4) for number in numbers)
    half_written(store, page + name + length + total + bytes.fromhex("d9d505f920a163d7"))
    (fault,) = Store.faults(store.folder)
    assert "index.sqlite-journal names a further file" in fault.what
    store.append("alarm", {"name": "b"}, NOW)
    assert mine.read_text() == "precious"
    assert store.index().count() == 3
    assert Store.faults(store.folder) == []


def test_what_a_killed_process_left_in_the_index_is_undone_before_it_is_compared(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    half_written(store)
    with pytest.raises(StoreError, match="records were lost"):
        without_the_last_record(store).append("alarm", {"name": "b"}, NOW)


def test_an_index_that_is_locked_is_waited_for_and_never_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed, "READ_SECONDS", 0.01)
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    before = (store.folder / "index.sqlite").stat().st_ino
    with closing(sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for change in (lambda: store.append("alarm", {"name": "b"}, NOW), store.rebuild_index):
            with pytest.raises(StoreError, match="is locked by another process"):
                change()
        monkeypatch.setattr(Store, "_other_journal", lambda self: None)
        with pytest.warns(UserWarning, match="is locked by another process"):
            store.append("alarm", {"name": "b"}, NOW)
    assert (store.folder / "index.sqlite").stat().st_ino == before
    monkeypatch.undo()
    store.append("alarm", {"name": "c"}, NOW)
    assert store.index().count() == store.state.number


def test_an_index_with_a_log_of_its_own_is_damaged_and_is_not_written_by_who_reads(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    with closing(sqlite3.connect(store.folder / "index.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    before = sorted(store.folder.iterdir())
    (fault,) = Store.faults(store.folder)
    assert "index.sqlite has a write-ahead log" in fault.what
    assert sorted(store.folder.iterdir()) == before
    store.append("alarm", {"name": "b"}, NOW)
    assert store.index().count() == 3


def test_a_value_of_the_index_that_is_longer_than_a_record_is_not_read(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    with closing(sqlite3.connect(store.folder / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE gatecast_records SET hash = hex(zeroblob(5000000))")
    with pytest.raises(StoreError, match="too big"):
        store.index().last()


def test_kinds_of_lost_records_are_shown_and_not_all_of_many() -> None:
    said = str(OtherJournalError(1, [(number, "", f"kind\n{number}") for number in range(3000)]))
    assert "1 'kind\\n9' and 2,990 further kinds). Nothing is written" in said
    assert len(said) < 600


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_index_is_made_again(tmp_path: Path, content: bytes) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    (store.folder / "index.sqlite").write_bytes(content)
    faults = Store.faults(store.folder)
    assert len(faults) == 1
    assert "check --rebuild` makes it again" in faults[0].what
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.append("alarm", {"name": "b"}, NOW)
    assert store.index().count() == 3
    assert store.check() == []


@pytest.mark.parametrize(
    "address",
    [
        "nonsense", "oracle://me:secret@host/x", "sqlite:////none/at/all.sqlite", "me:secret@host",
        "oracle://host/x?password=secret", "oracle://me:se/secret@host/x?user=me&PassWord=a@secret",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_said_without_its_password(tmp_path: Path, address: str) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW, machine=Machine(index=address))
    with pytest.raises(StoreError, match="index") as said:
        store.rebuild_index()
    assert "secret" not in str(said.value)


# ── the command ───────────────────────────────────────────────────────────────────────────────────


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "store"
    store = Store.create(folder, Experiment(), now=NOW)
    store.add_bars(BARS, NOW)
    store.artefacts.put(b"nobody names it", ".json")

    def said(*words: object) -> tuple[int, dict[str, object]]:
        capsys.readouterr()
        status = execute(["store", *map(str, words), "--json"])
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    status, listed = said("list", folder)
    assert status == 0
    assert listed["bars"] == 120
    assert [record["kind"] for record in listed["newest"]] == ["created", "bars"]  # type: ignore[index, union-attr]
    status, checked = said("check", folder)
    assert (status, checked["whole"], checked["faults"], len(checked["notes"])) == (0, True, [], 1)  # type: ignore[arg-type]
    assert said("prune", folder)[1]["removed"] is False
    assert len(said("prune", folder, "--yes", "--now", "2001-01-01")[1]["unnamed"]) == 1  # type: ignore[arg-type]
    assert said("check", folder, "--rebuild") == (
        0, {"path": str(folder), "whole": True, "faults": [], "notes": [], "rebuilt": 3},
    )  # fmt: skip
    status, done = said("export", folder, "--out", tmp_path / "out", "--format", "parquet")
    assert done["files"] == {
        "bars.parquet": 120, "actions.parquet": 0, "decisions.parquet": 0, "forecasts.parquet": 0,
    }  # fmt: skip
    assert said("export", folder, "--out", tmp_path / "out", "--format", "xlsx")[0] == 2
    for words in (("list", folder), ("check", folder), ("prune", folder), ("export", folder, "--out", tmp_path / "o")):
        assert execute(["store", *map(str, words)]) == 0
    text = capsys.readouterr().out
    assert "2 symbols, 120 versions of bars of 2000" in text
    assert "store is whole." in text
    assert "Nothing to remove." in text

    part = next((folder / "parts").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    status, checked = said("check", folder)
    assert (status, checked["whole"]) == (1, False)
    assert part.name in checked["faults"][0]["fault"]  # type: ignore[index]
    assert execute(["store", "check", str(folder)]) == 1
    assert "is not whole: 1 fault" in capsys.readouterr().out
    assert said("check", tmp_path) == (2, said("check", tmp_path)[1])
    assert "no gatecast store" in str(said("check", tmp_path)[1]["error"])


def test_the_address_of_the_index_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=datetime(2024, 1, 2, tzinfo=UTC))
    other = tmp_path / "elsewhere.sqlite"
    monkeypatch.setenv("GATECAST_INDEX", f"sqlite:///{other}")
    assert execute(["store", "check", str(store.folder), "--rebuild"]) == 0, capsys.readouterr()
    assert other.exists()
    assert not (store.folder / "index.sqlite").exists()


@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-wal", "index.sqlite-journal"])
def test_a_folder_in_the_place_of_the_index_is_never_removed(tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    (store.folder / name).mkdir()
    (store.folder / name / "mine").write_bytes(b"precious")
    with pytest.raises(StoreError, match="is no regular file"):
        store.rebuild_index()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.append("alarm", {"name": "a"}, NOW)
    assert (store.folder / name / "mine").read_bytes() == b"precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize("ending", ["-journal", "-wal"])
def test_a_pipe_beside_the_index_is_said_and_nobody_waits_for_it(tmp_path: Path, ending: str) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    os.mkfifo(store.folder / f"index.sqlite{ending}")
    command = [sys.executable, "-m", "gatecast", "store", "check", str(store.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is no regular file" in " ".join((done.stdout + done.stderr).split())


def test_an_index_that_may_not_be_read_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have records that the journal lost."""
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    file = store.folder / "index.sqlite"
    there, real = file.read_bytes(), os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != file and real(path, mode, **more))
    with pytest.raises(StoreError, match="the index, may not be read: allow yourself to read it"):
        store.append("alarm", {"name": "b"}, NOW)
    with pytest.raises(StoreError, match="may not be read"):
        store.rebuild_index()
    assert file.read_bytes() == there
    monkeypatch.undo()
    store.append("alarm", {"name": "c"}, NOW)
    assert file.read_bytes() != there


def test_a_reader_says_that_a_locked_index_cannot_be_asked(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    with closing(sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(UserWarning, match="lost is not known now: the index at .* is locked by another process"):
            opened = Store.open(store.folder)
        assert opened.lost == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store.open(store.folder).lost == ""


def test_a_reader_says_that_a_half_written_index_cannot_be_asked(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    left = half_written(store).read_bytes()
    with pytest.warns(UserWarning, match="lost is not known now: the index at .* the next command that writes undoes"):
        opened = Store.open(store.folder)
    assert opened.lost == ""
    assert (store.folder / "index.sqlite-journal").read_bytes() == left
    opened.append("alarm", {"name": "b"}, NOW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Store.open(store.folder).lost == ""


def test_an_index_that_cannot_be_made_again_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: it may be the one place that shows what the journal loses."""
    store = Store.create(tmp_path / "store", Experiment(), now=NOW)
    store.append("alarm", {"name": "a"}, NOW)
    store.append("alarm", {"name": "b"}, NOW)
    there = (store.folder / "index.sqlite").read_bytes()

    def full(*given: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Index, "_add_record", full)
    monkeypatch.setattr("gatecast.store.store.append_to_file", lambda *given: False)
    with pytest.warns(UserWarning, match=r"index\.sqlite cannot be read or written: database or disk is full"):
        store.append("alarm", {"name": "c"}, NOW)
    with pytest.raises(StoreError, match="disk is full"):
        store.rebuild_index()
    assert (store.folder / "index.sqlite").read_bytes() == there
    assert sorted(path.name for path in store.folder.iterdir() if ".part" in path.name) == []
    monkeypatch.undo()
    assert store.rebuild_index() == store.state.number
