"""A store that vanishes, comes back, or is damaged in any way: it is said, and seen again; the watcher goes on."""

from __future__ import annotations

import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gatecast.errors import StoreError
from gatecast.live.book import book_now
from gatecast.live.kept import last_issued
from gatecast.service import watching
from gatecast.service.app import make_app
from gatecast.service.view import View
from gatecast.service.watching import Watched
from gatecast.store import Store


def until(what: Callable[[], object]) -> None:
    """Waits until something is so; the test fails where it never is."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("asked", [book_now, last_issued])
def test_a_store_that_was_moved_away_is_an_error_of_the_store(store: Path, asked: Callable[[Store], object]) -> None:
    opened = Store.open(store)
    store.rename(store.with_name("elsewhere"))
    with pytest.raises(StoreError, match="has no record"):
        asked(opened)


def test_records_that_are_gone_are_not_said_to_be_none(store: Path, now: datetime) -> None:
    view = View(Store.open(store), now)
    store.rename(store.with_name("elsewhere"))
    with pytest.raises(StoreError, match="has no record"):
        view.runs(10)
    store.with_name("elsewhere").rename(store)
    assert view.runs(1)["runs"]


@pytest.mark.parametrize("error", [RuntimeError, StopIteration, FileNotFoundError, ZeroDivisionError])
def test_the_watcher_survives_anything_and_says_it_once(
    error: type[BaseException], store: Path, now: datetime, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.005)
    prepared = threading.Event()

    def prepare(_: View) -> None:
        prepared.set()
        raise error("bad luck")

    watched = Watched(store, now, prepare)
    watched.start()
    try:
        until(prepared.is_set)
        for _ in range(3):
            store.rename(store.with_name("elsewhere"))
            until(lambda: watched._error is not None)
            with pytest.raises(StoreError):
                watched.view  # noqa: B018
            store.with_name("elsewhere").rename(store)
            until(lambda: watched._error is None)
        assert watched.view.today()
        assert watched._thread is not None
        assert watched._thread.is_alive()
    finally:
        watched.stop()
    assert capsys.readouterr().err.count("bad luck") == 1


def test_the_view_before_is_served_until_the_new_one_is_prepared(store: Path, now: datetime) -> None:
    begun, may_end = threading.Event(), threading.Event()
    may_end.set()

    def prepare(_: View) -> None:
        begun.set()
        assert may_end.wait(60)

    watched = Watched(store, now, prepare)
    before = watched.view
    begun.clear()
    may_end.clear()
    os.utime(next((store / "journal").iterdir()))
    looking = threading.Thread(target=watched.look)
    looking.start()
    assert begun.wait(60)
    assert watched.view is before
    may_end.set()
    looking.join(60)
    assert watched.view is not before


def test_pages_are_made_before_the_service_is_asked(store: Path, now: datetime) -> None:
    view = make_app(store, now=now).state.watched.view
    assert all(view.has(f"page {path} 0") for path in ("/", "/risk", "/models"))


def test_an_error_that_nobody_foresaw_while_looking_is_told_as_503(
    store: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(store, now=now)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/api/book").status_code == 200
    monkeypatch.setattr(View, "today", lambda _: next(iter(())))
    os.utime(next((store / "journal").iterdir()))
    app.state.watched.look()
    answer = client.get("/api/book")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.undo()
    app.state.watched.look()
    assert client.get("/api/book").status_code == 200


def test_an_error_under_a_store_that_changes_is_503_and_else_500(
    store: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/api/today").status_code == 200
    monkeypatch.setattr(View, "drift", lambda _: {}["gone"])
    assert client.get("/api/drift").status_code == 500
    store.rename(store.with_name("elsewhere"))
    answer = client.get("/api/drift")
    assert answer.status_code == 503
    assert "ask again" in answer.json()["error"]


def test_a_store_that_is_restored_in_any_order_is_served_again(store: Path, now: datetime) -> None:
    app = make_app(store, now=now)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/api/risk").status_code == 200
    aside = store.with_name("elsewhere")
    store.rename(aside)
    assert app.state.watched.look()
    assert not app.state.watched.look()  # nothing new is to be told
    store.mkdir()
    for name in ("journal", "index.sqlite"):
        (shutil.copytree if (aside / name).is_dir() else shutil.copy2)(aside / name, store / name)
    app.state.watched.look()
    assert client.get("/api/risk").status_code == 503
    for one in aside.iterdir():
        if not (store / one.name).exists():
            (shutil.copytree if one.is_dir() else shutil.copy2)(one, store / one.name)
    app.state.watched.look()
    assert client.get("/api/risk").status_code == 200


def test_notices_that_are_remembered_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched, most = Watched(tmp_path), watching.MOST_NOTICES
    for place in [*range(3 * most), *range(2 * most, 3 * most)]:  # the newest hundred twice
        watched._notice(RuntimeError(f"bad luck {place}"))
    assert len(watched._noticed) == most
    said = capsys.readouterr().err.splitlines()
    assert [line.rsplit(" ", 1)[1] for line in said] == [str(place) for place in range(3 * most)]


@pytest.mark.parametrize("name", ["store", "link"])
def test_an_error_is_told_without_the_place_of_the_store(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    watched = Watched(tmp_path / name)
    assert (
        watched.said(StoreError(f"{tmp_path / 'store'}: the journal is damaged.")) == f"{name}: the journal is damaged."
    )
    gone = FileNotFoundError(2, "no such file", f"{tmp_path}/a")
    assert watched.said(gone) == f"a file of {name} cannot be read now: no such file."


def test_records_that_are_lost_are_a_fault_until_somebody_accepts_it(store: Path, now: datetime) -> None:
    file = Store.open(store).journal.files()[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with warnings.catch_warnings(action="ignore"):
        client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "records were lost" in ready.json()["sentence"]
        assert client.get("/api/findings").json()["findings"][0]["kind"] == "lost"
        for page in ("/", "/health"):
            assert "records were lost" in client.get(page).text
        Store.open(store).rebuild_index()
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/health/ready").status_code == 200
    assert "records were lost" not in client.get("/api/findings").text


def test_the_page_of_health_tells_no_place_of_a_damaged_store(store: Path, now: datetime) -> None:
    client = TestClient(make_app(store, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)
    Store.open(store).journal.files()[-1].write_bytes(b"[[[[")
    for path in ("/health", "/health/ready", "/"):
        answer = client.get(path)
        assert str(store.parent) not in answer.text
        assert "no whole record" in answer.text
