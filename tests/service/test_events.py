"""Open pages are told of each new record, by one watcher, and not more of them than may listen."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from served import FIRST, HOUR

from gatecast.live import update
from gatecast.service.events import Events, TooManyClientsError
from gatecast.service.watching import Watched


def told(text: str) -> dict[str, object]:
    name, data = text.strip().split("\n")
    assert name == "event: record"
    found: dict[str, object] = json.loads(data.removeprefix("data: "))
    return found


def test_a_new_decision_is_told_to_all(store: Path, bars: pl.DataFrame, closes: list[datetime]) -> None:
    now = closes[FIRST + 1] + HOUR
    watched = Watched(store, now)
    events = Events(watched)

    async def listen() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        events.begin()
        streams = [events.listen(), events.listen()]
        first = [told(await anext(one)) for one in streams]
        update(store, bars.filter(pl.col("time") <= now), now=now)
        await asyncio.to_thread(watched.look)
        second = [told(await anext(one)) for one in streams]
        events.stop()
        for one in streams:
            with pytest.raises(StopAsyncIteration):
                await anext(one)
        return first, second

    first, second = asyncio.run(listen())
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert second[0]["record"] > first[0]["record"]  # type: ignore[operator]
    assert second[0]["decided"] == second[0]["record"]
    assert events.count == 0


def test_so_many_may_listen_and_one_that_left_makes_room(made: Path, now: datetime) -> None:
    events = Events(Watched(made, now), most=2)

    async def listen() -> None:
        events.begin()
        first, second = events.listen(), events.listen()
        with pytest.raises(TooManyClientsError, match="2 pages listen already"):
            events.listen()
        await anext(first)
        await first.aclose()  # type: ignore[attr-defined]
        events.listen()
        del second

    asyncio.run(listen())


def test_a_line_without_meaning_keeps_a_connection_alive(made: Path, now: datetime) -> None:
    events = Events(Watched(made, now), alive_seconds=0.01)

    async def listen() -> list[str]:
        events.begin()
        stream = events.listen()
        return [await anext(stream), await anext(stream)]

    assert asyncio.run(listen())[1] == ": alive\n\n"


def test_a_page_that_does_not_read_gets_the_newest_alone(made: Path, now: datetime) -> None:
    events = Events(Watched(made, now))
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=4)
    for place in range(9):
        events._put(queue, str(place))
    assert [queue.get_nowait() for _ in range(4)] == ["5", "6", "7", "8"]


def test_the_error_of_a_store_is_told(tmp_path: Path) -> None:
    async def listen() -> dict[str, object]:
        events = Events(Watched(tmp_path))
        events.begin()
        return told(await anext(events.listen()))

    assert "no gatecast store" in str(asyncio.run(listen())["error"])
