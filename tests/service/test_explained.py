"""The service says why: as the command does, of any close that was decided, and with a reason where it cannot."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.live import retrain, update
from gatecast.service.app import make_app
from gatecast.service.view import View
from gatecast.store import Store

PATH = f"/api/symbols/{quote(SYMBOLS[0], safe='')}/explain"


def test_the_newest_decision_is_explained_as_the_command_does(
    client: TestClient, made: Path, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["explain", str(made), "--symbol", SYMBOLS[0], "--now", now.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    answer = client.get(PATH).json()
    assert answer["explanation"] == told["explanations"][0]
    assert answer["titles"] == told["titles"]
    state = Store.open(made).state
    assert answer["head"]["record"] == state.number


def test_an_earlier_close_by_its_day(client: TestClient, closes: list[datetime]) -> None:
    before = client.get(PATH, params={"time": f"{closes[FIRST - 1]:%Y-%m-%d}"}).json()["explanation"]
    assert before["time"][:16] == f"{closes[FIRST - 1]:%Y-%m-%d %H:%M}"
    assert before["came"] is None
    exact = client.get(PATH, params={"time": closes[FIRST - 1].isoformat()}).json()["explanation"]
    assert exact == before


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (f"{PATH}?time=1999-01-04", 422, "nothing was decided at 1999-01-04"), (f"{PATH}?time=soon", 422, "no moment"),
        ("/api/symbols/none/explain", 404, "no symbol 'none'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(client: TestClient, path: str, status: int, said: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_model_that_is_gone_is_a_reason(store: Path, now: datetime) -> None:
    opened = Store.open(store)
    parts = opened.state.models[0].parts
    opened.artefacts.discard([part for role, part in parts.items() if role.startswith("models/")])
    answer = View(opened, now).explain(SYMBOLS[0])
    assert answer["explanation"] is None
    assert "are gone" in answer["reason"]


def test_changes_are_those_of_the_newest_refit(
    store: Path, bars: pl.DataFrame, closes: list[datetime], client: TestClient
) -> None:
    assert client.get("/api/changes").json()["changes"] == []  # there is one refit
    for place in (FIRST + 1, FIRST + 2):
        now = closes[place] + HOUR
        update(store, bars.filter(pl.col("time") <= now), now=now)
        if place == FIRST + 1:
            retrain(store, now=now, if_due=False)
    asked = TestClient(make_app(store, now=now), base_url="http://127.0.0.1")
    rows = asked.get("/api/changes").json()["changes"]
    state = Store.open(store).state
    assert len(state.models) == 2
    assert {(row["model_before"], row["model_now"]) for row in rows} == {tuple(one.record for one in state.models)}


def test_the_pages_have_a_place_for_it(client: TestClient) -> None:
    text = client.get(f"/symbols/{quote(SYMBOLS[0], safe='')}").text
    for part in ("explained-steps", "explained-models", "explained-said"):
        assert f'id="{part}"' in text
    assert 'id="changes-table"' in client.get("/models").text
