"""The journal: one changed byte is found, a line that was not finished never happened, a fault of the disk is one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gatecast.errors import StoreError
from gatecast.files import sha256_of
from gatecast.store.artefacts import Artefacts
from gatecast.store.journal import Journal, Record, canonical

NOW = datetime(2024, 1, 2, 21, tzinfo=UTC)
SAME_FOLDER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Five records in two files."""
    made = Journal.open(tmp_path)
    for number in range(5):
        kind = "snapshot" if number == 3 else "alarm"
        made.append(kind, {"name": f"a{number}", "x": [0.5, None, "ü\n"]}, NOW + timedelta(days=number), time=NOW)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_records_come_back_in_order_and_in_files_of_their_numbers(journal: Journal, tmp_path: Path) -> None:
    again = Journal.open(tmp_path)
    assert [one.number for one in again.records()] == [1, 2, 3, 4, 5]
    assert [one.number for one in again.records(since=4)] == [4, 5]
    assert list(contents(journal.folder)) == ["000000001.jsonl", "000000004.jsonl"]
    assert again.last == journal.last
    assert [one.body["x"] for one in again.records()] == [[0.5, None, "ü\n"]] * 5
    assert [one.number for one in again.snapshots()] == [4]
    assert again.check() == []


def test_a_clock_that_jumps_back_does_not_take_the_journal_with_it(journal: Journal) -> None:
    record = journal.append("alarm", {"name": "a"}, NOW, time=NOW - timedelta(days=900))
    assert record.time == NOW
    assert journal.check() == []


@SAME_FOLDER
@given(data=st.data())
def test_any_changed_byte_is_found(journal: Journal, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(journal.files()))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1) | st.just(len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    file.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
    try:
        assert journal.check(), (file.name, at, byte)
        with pytest.raises(StoreError, match=rf"{file.name}, line \d"):
            list(Journal(journal.folder, None).records())
    finally:
        file.write_bytes(content)


def test_a_record_that_was_written_again_with_its_hash_is_found_by_the_next(journal: Journal) -> None:
    file = journal.files()[0]
    lines = file.read_bytes().splitlines()
    record = json.loads(lines[1])
    record["body"]["name"] = "other"
    record.pop("hash")
    record["hash"] = sha256_of(canonical(record))
    file.write_bytes(b"\n".join([lines[0], canonical(record), *lines[2:]]) + b"\n")
    (fault,) = journal.check()
    assert "line 3" in fault
    assert "one of them was changed" in fault


@SAME_FOLDER
@given(cut=st.integers(1, 10_000), zeros=st.integers(0, 50))
def test_a_torn_tail_is_no_record_and_is_cut_off_by_the_next(journal: Journal, cut: int, zeros: int) -> None:
    file = journal.files()[-1]
    content = file.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    kept = last[: -1 - cut % (len(last) - 1)]
    assume(len(kept) < len(last) - 1 or not zeros)  # a whole record with a zero for its end may have been changed
    torn = kept + b"\0" * zeros
    file.write_bytes(content[: -len(last)] + torn)
    try:
        opened = Journal.open(journal.folder.parent)
        assert opened.last is not None
        assert opened.last.number == 4
        assert (opened.check(), opened.tail()) == ([], len(torn))
        opened.append("alarm", {"name": "again"}, NOW, time=NOW)
        assert opened.tail() == 0
        assert [one.body["name"] for one in Journal.open(journal.folder.parent).records()][-1] == "again"
        assert opened.check() == []
    finally:
        file.write_bytes(content)


def test_a_long_file_is_followed_by_another(journal: Journal) -> None:
    journal.append("alarm", {"name": "a", "x": [["y" * 99_000] * 35] * 1}, NOW)
    for _ in range(6):
        journal.append("alarm", {"name": "a", "x": ["y" * 99_000] * 35}, NOW)
    assert [file.name for file in journal.files()] == ["000000001.jsonl", "000000004.jsonl", "000000012.jsonl"]
    assert Journal.open(journal.folder.parent).last == journal.last
    assert journal.check() == []


def test_lost_and_swapped_lines_and_files_are_found(journal: Journal) -> None:
    first, second = journal.files()
    content = first.read_bytes()
    lines = content.splitlines(keepends=True)
    first.write_bytes(lines[0] + lines[2])
    assert any("record 3, expected 2" in fault for fault in journal.check())
    first.write_bytes(lines[0] + lines[2] + lines[1])
    assert journal.check()
    first.write_bytes(content[:-20])
    assert journal.check(), "only the newest file may have no end"
    first.write_bytes(b"")
    assert any("no whole record" in fault for fault in journal.check())
    first.unlink()
    assert any("begins with record 4, expected 1" in fault for fault in journal.check())
    first.write_bytes(content)
    second.rename(second.with_name("000000005.jsonl"))
    assert journal.check()


@pytest.mark.parametrize(
    "body",
    [
        {"a": float("nan")}, {"a": {1, 2}}, {"a": 2**60}, {1: "number as a name"}, {"a": (1, 2)},
        {"a": "x" * 200_000}, {"a": ["y" * 90_000] * 60},
    ],
)  # fmt: skip
def test_a_body_that_would_not_come_back_is_refused(journal: Journal, body: dict[Any, Any]) -> None:
    before = contents(journal.folder)
    with pytest.raises(StoreError, match=r"cannot be written|has .* bytes"):
        journal.append("alarm", body, NOW)
    assert contents(journal.folder) == before


def test_a_body_with_half_a_surrogate_pair_comes_back_or_is_refused(journal: Journal) -> None:
    journal.append("alarm", {"name": "\ud800", "b": "a\x00b"}, NOW)
    assert [*journal.records()][-1].body == {"name": "\ud800", "b": "a\x00b"}


def failing(work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, code: int) -> int:
    """Does the work with its 1st, 2nd, ... operation on files failing, until it comes through; how often it failed."""
    names = ("fsync", "replace", "open", "write", "truncate")
    plain = {name: getattr(os, name) for name in names}
    for at in range(1, 100):
        count = [0]

        def operation(name: str, count: list[int] = count, at: int = at) -> Callable[..., Any]:
            def call(*given: Any, **more: Any) -> Any:
                count[0] += name != "open" or bool(given[1] & (os.O_WRONLY | os.O_RDWR))
                if count[0] == at and (name != "open" or given[1] & (os.O_WRONLY | os.O_RDWR)):
                    raise OSError(code, os.strerror(code))
                return plain[name](*given, **more)

            return call

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, operation(name))
            try:
                work()
            except StoreError:
                continue
        return at - 1
    raise AssertionError("it never comes through")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("kind", ["alarm", "snapshot"])
def test_a_fault_of_the_disk_leaves_the_journal_as_it_was(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, code: int, kind: str
) -> None:
    before = contents(journal.folder)

    def work() -> None:
        try:
            journal.append(kind, {"name": "a"}, NOW)
        except StoreError as error:
            assert os.strerror(code) in str(error)  # noqa: PT017 - it fails at each operation in turn
            assert contents(journal.folder) == before
            assert journal.check() == []
            raise

    assert failing(work, monkeypatch, code) >= 3
    assert [one.number for one in Journal.open(journal.folder.parent).records()] == [1, 2, 3, 4, 5, 6]


def test_an_artefact_is_itself_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefacts = Artefacts(tmp_path)
    name = artefacts.put(b"content", ".json")
    path = artefacts.path(name)
    assert artefacts.put(b"content", ".json") == name
    for at in range(7):
        path.write_bytes(bytes(byte ^ (place == at) for place, byte in enumerate(b"content")))
        with pytest.raises(StoreError, match="damaged or was changed"):
            artefacts.get(name)
    assert artefacts.put(b"content", ".json") == name  # mends it
    assert artefacts.get(name) == b"content"
    failing(lambda: artefacts.put(b"more", ".json"), monkeypatch, errno.ENOSPC)
    assert len([*artefacts.names()]) == 2
    assert dict(artefacts.unreferenced({name})) == {sha256_of(b"more") + ".json": 4}
    assert artefacts.strangers() == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 64, "a" * 63 + "/.json", "A" * 64 + ".json", "", "\0"])
def test_no_other_file_is_an_artefact(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no name of an artefact"):
        Artefacts(tmp_path).get(name)


def test_an_artefact_is_not_read_through_a_link(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path / "store")
    name = artefacts.put(b"content", ".json")
    inner = artefacts.path(name).parent
    inner.rename(tmp_path / "outside")
    inner.symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="through a link"):
        artefacts.get(name)
    assert artefacts.strangers() == [inner]


def test_a_long_tail_with_many_ends_of_records_is_looked_at_in_few_places(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, of_line = [], Record.of_line
    file = journal.files()[-1]
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Record, "of_line", staticmethod(lambda line: read.append(len(line)) or of_line(line)))
        file.write_bytes(whole + b'"time":"%s"}' % (b"a" * 27) * 1000)
        Journal.open(journal.folder.parent)
    assert len(read) <= 2 + 3
    file.write_bytes(whole + b"x" * 4_000_001)
    with pytest.raises(StoreError, match="line 3"):
        Journal.open(journal.folder.parent)


def test_a_line_that_is_longer_than_a_record_is_called_so(journal: Journal) -> None:
    with journal.files()[-1].open("ab") as file:
        file.write(b"x" * 4_000_000 + b"\n")
    (fault,) = journal.check()
    assert fault.endswith("line 3: it has 4,000,001 bytes, expected at most 4,000,000")


def test_a_journal_that_this_user_may_not_read_is_not_called_damaged(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("os.listdir", "gatecast.store.journal.opened"):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(StoreError, match=r"cannot be read: Permission denied\. Allow yourself to read it\.$"):
                Journal.open(journal.folder.parent)


def test_artefacts_that_this_user_may_not_read_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts = Artefacts(tmp_path)
    name = artefacts.put(b"{}", ".json")

    def refuse(path: str | Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    for function in ("stat", "lstat"):
        monkeypatch.setattr(os, function, refuse)
    assert not artefacts.is_lost(name)
    with pytest.raises(StoreError, match=r"cannot be read: Permission denied\. Allow yourself to read it\.$"):
        artefacts.get(name)
