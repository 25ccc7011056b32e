"""A thousand hostile requests on a store with models; the description is held to what comes, status by status."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hostile import TOKEN, Asked, answered, assert_harmless, requests
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks as told
from schemathesis.specs.openapi import checks as openapi
from starlette.testclient import TestClient

from gatecast.service.api import REFUSALS
from gatecast.service.app import make_app
from gatecast.service.security import OPEN_PATH, Rules

MANY = {"per_second": 1e9, "at_once": 1e9}
OWN = 320
"""Requests of `hostile.requests`, with and without a token."""
OF_EACH = {"positive": 6, "negative": 24}
"""Most requests of each operation and kind that schemathesis makes."""
CHECKS = [
    told.not_a_server_error, openapi.status_code_conformance, openapi.content_type_conformance,
    openapi.response_schema_conformance, openapi.response_headers_conformance, openapi.negative_data_rejection,
]  # fmt: skip


@pytest.fixture(scope="module")
def guarded(made: Path, now: datetime) -> FastAPI:
    return make_app(made, Rules(token=TOKEN, hosts=("testserver",), **MANY), now=now)


@pytest.mark.parametrize("token", ["", TOKEN])
def test_hostile_requests_get_a_sentence_and_nobody_in(
    made: Path, now: datetime, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(made, Rules(token=token, **MANY), now=now)
    asked = list(requests(7, OWN, token=bool(token)))
    for one, found in zip(asked, answered(app, asked), strict=True):
        assert_harmless(one, found, made, token=bool(token))
        assert found.status != 503, (one, found)
    assert capsys.readouterr().err == ""


def test_requests_made_from_the_description_get_what_it_says(guarded: FastAPI, made: Path) -> None:
    """Schemathesis makes good and bad parameters of each operation; every answer is as it is described."""
    own = {"authorization": f"Bearer {TOKEN}"}
    description = schemathesis.openapi.from_asgi("/openapi.json", guarded, headers=own)
    count = 0
    for found in description.get_all_operations():
        for mode in schemathesis.GenerationMode:
            if mode.value == "positive" or any(True for _ in found.ok().iter_parameters()):
                count += asked(found.ok(), mode, own, str(made))
    assert count + 2 * OWN >= 1_000


def asked(operation: Any, mode: schemathesis.GenerationMode, own: dict[str, str], store: str) -> int:
    """Asks with the token and with a wrong one; how many requests that were."""
    count = 0

    @settings(
        max_examples=OF_EACH[mode.value], deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def both(case: Any) -> None:
        nonlocal count
        answer, outside = case.call(headers=own), case.call(headers={"authorization": "Bearer wrong"})
        refused = answer.status_code == 414  # a rejection, too, which schemathesis does not count as one
        case.validate_response(answer, checks=CHECKS[:-1] if refused else CHECKS)
        if answer.status_code != 200:
            assert list(answer.json()) == ["error"]
            assert store not in answer.text
        assert outside.status_code in (200 if operation.path == OPEN_PATH else 401, 414)
        count += 2

    both()
    return count


def test_the_description_says_that_a_token_is_asked_for(guarded: FastAPI, client: TestClient) -> None:
    headers = (b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())
    (answer,) = answered(guarded, [Asked("GET", b"/openapi.json", headers)])
    said = json.loads(answer.body)
    assert said["security"] == [{"bearer": []}, {"basic": []}]
    assert set(said["components"]["securitySchemes"]) == {"bearer", "basic"}
    assert [path for path, own in said["paths"].items() if own["get"].get("security") == []] == [OPEN_PATH]
    assert "security" not in client.get("/openapi.json").json()


def test_every_status_that_is_described_comes_in_the_form_that_is_described(
    guarded: FastAPI, made: Path, now: datetime, tmp_path: Path
) -> None:
    """400 is what bytes get that are no request at all: see test_connections.py."""
    host, own = (b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())
    strange = ((b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"cors"))
    slow, none = make_app(made, Rules(at_once=1.0, per_second=1e-9), now=now), make_app(tmp_path / "none", now=now)
    asked = [
        (guarded, Asked("GET", b"/api/today", (host,))), (guarded, Asked("GET", b"/api/today", (host, own, *strange))),
        (guarded, Asked("GET", b"/api/symbols/nothing/bars", (host, own))),
        (guarded, Asked("GET", b"/api/today", (host, own, (b"content-length", b"1001")))),
        (guarded, Asked("GET", b"/api/today?" + b"x" * 3_000, (host, own))),
        (guarded, Asked("GET", b"/api/today", ((b"host", b"evil.example"), own))),
        (guarded, Asked("GET", b"/api/runs?limit=0", (host, own))), (slow, Asked("GET", b"/health/live", (host,))),
        (slow, Asked("GET", b"/health/live", (host,))), (none, Asked("GET", b"/api/today", (host,))),
    ]  # fmt: skip
    found = [answered(app, [one])[0] for app, one in asked]
    assert {one.status for one in found} - {200} == {status for status in REFUSALS if status != 400}
    for one in found:
        if one.status != 200:
            assert list(json.loads(one.body)) == ["error"]
            assert str(tmp_path).encode() not in one.body


def test_a_thousand_requests_are_the_same_again() -> None:
    assert list(requests(7, 50, token=True)) == list(requests(7, 50, token=True))
    assert len({one.target for one in requests(7, OWN, token=True)}) > 0.8 * OWN
