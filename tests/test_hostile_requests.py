"""Hostile requests where there is no store yet: a few of those of tests/service/test_hostile.py, without its models."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import TOKEN, answered, assert_harmless, requests

from gatecast.service.app import make_app
from gatecast.service.security import Rules


@pytest.mark.parametrize("token", ["", TOKEN])
def test_hostile_requests_get_a_sentence_where_there_is_no_store(
    token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "none"
    app = make_app(place, Rules(token=token, per_second=1e9, at_once=1e9))
    asked = list(requests(1, 60, token=bool(token)))
    found = answered(app, asked)
    for one, other in zip(asked, found, strict=True):
        assert_harmless(one, other, place, token=bool(token))
    assert {200, 404, 405, 414, 421, 503} <= {one.status for one in found}
    assert capsys.readouterr().err == ""
