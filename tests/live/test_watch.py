"""A watched folder: files become updates, refits are made when due, what breaks is alerted once and ends once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.live import Round, health, watch
from gatecast.live.alerts import webhook
from gatecast.live.episodes import open_episodes
from gatecast.store import Store
from gatecast.store.folders import acquired
from tests.live.conftest import HOUR


def dropped(bars: pl.DataFrame, folder: Path, closes: list[datetime]) -> None:
    """A file with the bars of these closes."""
    folder.mkdir(exist_ok=True)
    part = bars.filter(pl.col("time").is_in(closes)).drop("segment")
    part.write_parquet(folder / f"{closes[-1]:%Y-%m-%d}.parquet")


def looked(store: Path, folder: Path, now: datetime, **more: Any) -> Round:
    found: list[Round] = []
    options = {"asset_class": "index", "stamp": "close"}
    watch(store, folder, rounds=1, clock=lambda: now, on_round=found.append, options=options, **more)
    return found[0]


def test_each_new_file_is_an_update_and_a_refit_is_made_when_it_is_due(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    dropped(bars, folder, closes[month - 6 : month - 2])
    first = looked(store, folder, closes[month - 3] + HOUR)
    assert len(first.files) == 1
    assert first.retrained is None
    dropped(bars, folder, closes[month - 6 : month + 1])
    second = looked(store, folder, closes[month] + HOUR)
    assert second.retrained is not None
    assert Store.open(store).state.serving == second.retrained.model
    (folder / "notes.md").write_text("no bars")
    assert Store.open(store).check() == []


def test_silence_is_alerted_once_and_its_end_once(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path, hook: tuple[str, list[Any]]
) -> None:
    address, heard = hook
    folder = tmp_path / "files"
    dropped(bars, folder, closes[month - 6 : month - 2])
    looked(store, folder, closes[month - 3] + HOUR, alert=webhook(address))
    heard.clear()
    silent = closes[month - 3] + timedelta(days=9)
    for hours in range(3):
        looked(store, folder, silent + hours * HOUR, alert=webhook(address))
    about_bars = [one for one in heard if one["name"] == "bars"]
    assert [one["begins"] for one in about_bars] == [True]
    assert "bars" in open_episodes(Store.open(store))
    assert health(store, now=silent).status == 2
    dropped(bars, folder, closes[month - 6 : month + 4])
    looked(store, folder, closes[month + 3] + HOUR, alert=webhook(address))
    about_bars = [one for one in heard if one["name"] == "bars"]
    assert [one["begins"] for one in about_bars] == [True, False]


def test_a_file_that_is_refused_is_alerted_and_the_next_one_is_taken(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    dropped(bars, folder, closes[month - 6 : month - 2])
    (folder / "1999.csv").write_text("symbol,time\nA,nonsense\n")
    done = looked(store, folder, closes[month - 3] + HOUR)
    assert len(done.files) == 1
    assert "1999.csv was refused" in done.refused[0]
    assert any("1999.csv" in text for text in done.alerted)


def test_an_alert_that_cannot_be_sent_ends_nothing(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    dropped(bars, folder, closes[month - 6 : month - 2])
    looked(store, folder, closes[month - 3] + timedelta(days=9), alert=webhook("http://127.0.0.1:1"))
    told = [str(one.get("text")) for one in Store.open(store).state.alarms]
    assert any("could not be sent" in text for text in told)


def test_a_folder_that_is_not_there_is_said(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="is no folder"):
        watch(store, tmp_path / "nowhere", rounds=1)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """A server on this machine, and what was posted to it."""
    heard: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()
    thread.join()


def test_looks_that_fail_are_one_episode_and_the_next_ones_try_again(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path, hook: tuple[str, list[Any]]
) -> None:  # fmt: skip
    address, heard = hook
    folder, now = tmp_path / "files", closes[month - 3] + HOUR
    dropped(bars, folder, closes[month - 6 : month - 2])
    found: list[Round] = []

    def after(done: Round) -> None:
        found.append(done)
        if len(found) == 1:
            folder.rename(tmp_path / "away")
        if len(found) == 3:
            (tmp_path / "away").rename(folder)

    watch(store, folder, rounds=4, seconds=0.01, clock=lambda: now, on_round=after, alert=webhook(address))
    assert len(found) == 4
    about = [one["begins"] for one in heard if one["name"] == "look"]
    assert about == [True, False]
    assert not open_episodes(Store.open(store)).keys() & {"look"}
    assert "the next ones try again" in found[1].alerted[0]
    assert str(folder) in found[1].alerted[0]


def test_a_lock_that_another_process_holds_for_a_moment_ends_no_daemon(
    store: Path, closes: list[datetime], month: int, tmp_path: Path, hook: tuple[str, list[Any]]
) -> None:
    address, heard = hook
    (tmp_path / "files").mkdir()
    now = closes[month - 3] + HOUR
    holder = acquired(store / "lock")
    found: list[Round] = []

    def after(done: Round) -> None:
        found.append(done)
        if len(found) == 2:
            holder.release()

    watch(store, tmp_path / "files", rounds=3, seconds=0.01, clock=lambda: now, on_round=after, alert=webhook(address))
    assert [one["begins"] for one in heard if one["name"] == "look"] == [True, False]
    names = [(one["name"], one["open"]) for one in Store.open(store).state.alarms if one["name"] == "look"]
    assert names == [("look", True), ("look", False)]


def test_a_file_that_still_grows_is_taken_once_it_is_whole(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    folder, now = tmp_path / "files", closes[month - 3] + HOUR
    folder.mkdir()
    part = bars.filter(pl.col("time").is_in(closes[month - 6 : month - 2])).drop("segment")
    text = part.write_csv()
    (folder / "a.csv").write_text(text[:-9])
    options = {"asset_class": "index", "stamp": "close"}
    found: list[Round] = []

    def after(done: Round) -> None:
        found.append(done)
        if len(found) == 1:
            (folder / "a.csv").write_text(text)

    watch(store, folder, rounds=2, seconds=1.0, clock=lambda: now, on_round=after, options=options)
    assert [one.files for one in found] == [(), ("a.csv",)]
    assert not any(one.refused for one in found)
