"""Who is let in, how often and with how much; hostile requests get a sentence and never an error of the server's."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import Asked, answered
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from gatecast.errors import SettingsError
from gatecast.service.app import rules_of
from gatecast.service.security import HEADERS, TARGET_BYTES, Buckets, Guard, Rules, read_token

TOKEN = "a-token-of-32-characters-exactly"
MANY = {"per_second": 1e9, "at_once": 1e9}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("secret")(scope, receive, send)


def client_of(
    rules: Rules | None = None, clock: Callable[[], float] = lambda: 0.0, host: str = "127.0.0.1"
) -> TestClient:
    return TestClient(Guard(hello, rules or Rules(), clock), base_url=f"http://{host}")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:8765", "[::1]:80", "192.168.1.4", "pi.lan", "pi.lan:80"]
)
def test_hosts_that_are_served(host: str) -> None:
    answer = client_of(Rules(hosts=("pi.lan",))).get("/", headers={"host": host})
    assert (answer.status_code, answer.text) == (200, "secret")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "a b", "127.0.0.1:x", "[::1", "pi.lan.", "[::1]x"],
)
def test_a_name_that_leads_here_is_refused(host: str) -> None:
    """DNS rebinding: a page of evil.example asks evil.example, which leads to this machine."""
    answer = client_of(Rules(hosts=("only.lan",))).get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "secret" not in answer.text


def test_two_hosts_are_refused() -> None:
    headers = [("host", "127.0.0.1"), ("host", "evil.example")]
    assert client_of().get("/", headers=headers).status_code == 421


ADDRESSES = {
    b"http://127.0.0.1:8765/health/live": 200, b"HTTPS://PI.LAN": 401, b"http://127.0.0.1/health/%6cive?a=b": 200,
    b"http://evil.example/health/live": 421, b"http://127.0.0.1@evil.example/health/live": 421, b"http://": 421,
    b"http://[/": 421, b"http://127.0.0.1.evil.example": 421, b"http:///health/live": 421,
    b"*": 400, b"x[": 400, b"health/live": 400, b"127.0.0.1:80": 400, b"ftp://127.0.0.1/health/live": 400,
}  # fmt: skip
"""Target of a request's line -> status of its answer, without a token."""


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
@pytest.mark.parametrize("target", ADDRESSES)
def test_of_a_whole_address_its_own_host_counts(target: bytes, host: str) -> None:
    """RFC 9112, 3.2.2."""
    guard = Guard(hello, Rules(token=TOKEN, hosts=("pi.lan",)))
    (found,) = answered(guard, [Asked("GET", target, ((b"host", host.encode()),))])
    assert found.status == (ADDRESSES[target] if host == "127.0.0.1" or target[:4].lower() == b"http" else 421)


@pytest.mark.parametrize(("method", "target", "status"), [("OPTIONS", b"*", 204), ("CONNECT", b"127.0.0.1:80", 405)])
def test_targets_that_are_no_path(client: TestClient, method: str, target: bytes, status: int) -> None:
    (found,) = answered(client.app, [Asked(method, target, ((b"host", b"127.0.0.1"),))])
    assert found.status == status


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"any:{token}".encode()).decode()


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
def test_the_token_lets_in(given: str) -> None:
    assert client_of(Rules(token=TOKEN)).get("/", headers={"authorization": given}).text == "secret"


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", basic(""), basic("x"),
     TOKEN, "Basic %%%", "Basic " + base64.b64encode(b"\xff\xfe").decode(), f"Digest {TOKEN}", "Bearer \xe9" + TOKEN],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/api/today", "/health/live/", "/health/ready", "//health/live", "/HEALTH/LIVE"])
def test_nobody_without_the_token_is_let_in(given: str | None, path: str) -> None:
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    answer = client_of(Rules(token=TOKEN, **MANY)).get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert "secret" not in answer.text
    assert TOKEN not in answer.text + str(answer.headers)
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_whether_the_process_lives_is_said_without_a_token() -> None:
    assert client_of(Rules(token=TOKEN)).get("/health/live").status_code == 200


def test_the_token_is_not_shown_with_the_rules() -> None:
    assert TOKEN not in repr(Rules(token=TOKEN))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "ODD"])
def test_nothing_can_be_changed(method: str) -> None:
    answer = client_of().request(method, "/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/", "/health/live", "/api/book", "/api/symbols/none/bars", "/nothing"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_bodies_and_addresses_are_bounded() -> None:
    client = client_of()
    assert client.request("GET", "/", content=b"x" * 1_001).status_code == 413
    assert client.request("GET", "/", content=b"x" * 1_000).status_code == 200
    assert client.get("/", headers={"content-length": "-1"}).status_code == 413
    assert client.get("/", headers={"content-length": "9" * 30}).status_code == 413
    assert client.get("/" + "a" * TARGET_BYTES).status_code == 414
    assert client.get("/?" + "a" * TARGET_BYTES).status_code == 414


def test_a_body_without_a_length_is_refused() -> None:
    answer = client_of(Rules()).request("GET", "/", content=(b"x" * 400 for _ in range(50)))
    assert (answer.status_code, "1,000 bytes at most" in answer.json()["error"]) == (411, True)


def test_one_address_may_ask_so_often() -> None:
    now = [0.0]
    client = client_of(Rules(per_second=2, at_once=3), lambda: now[0])
    assert [client.get("/").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    now[0] = 1.0
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/").headers["retry-after"] == "1"


def test_wrong_tokens_are_dear() -> None:
    client = client_of(Rules(token=TOKEN, per_second=1, at_once=50))
    tries = [client.get("/", headers={"authorization": f"Bearer {place}"}).status_code for place in range(6)]
    assert tries[:3] == [401, 401, 401]
    assert tries[3:] == [429, 429, 429]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 2)), max_size=60))
def test_no_address_gets_more_than_its_share(asked: list[tuple[str, float]]) -> None:
    now = [0.0]
    buckets, allowed = Buckets(3.0, 5.0, lambda: now[0]), {"a": 0, "b": 0}
    for address, later in asked:
        now[0] += later
        allowed[address] += buckets.takes(address)
        assert allowed[address] <= 5.0 + 3.0 * now[0] + 1e-6


def test_addresses_that_are_remembered_are_bounded() -> None:
    buckets = Buckets(1.0, 1.0, lambda: 0.0)
    for place in range(3_000):
        buckets.takes(str(place))
    assert len(buckets._left) == 1_000


def test_no_site_may_read_but_those_that_are_named() -> None:
    rules = Rules(origins=("https://mine.example",))
    strange = client_of(rules).get("/", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in strange.headers
    mine = client_of(rules).get("/", headers={"origin": "https://mine.example"})
    assert mine.headers["access-control-allow-origin"] == "https://mine.example"
    assert "access-control-allow-credentials" not in mine.headers
    asked = client_of(Rules(token=TOKEN, origins=rules.origins)).options(
        "/", headers={"origin": "https://mine.example"}
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-headers"] == "authorization"


def test_a_page_of_another_site_is_refused_but_a_link_is_followed() -> None:
    cross = {"sec-fetch-site": "cross-site"}
    assert client_of().get("/", headers={**cross, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client_of().get("/", headers={**cross, "sec-fetch-mode": "navigate"}).status_code == 200
    assert client_of().get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_sockets_are_closed() -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client_of().websocket_connect("/events"):
        pass


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/nothing", "/static/style.css", "/symbols/nothing"])
def test_every_answer_has_the_headers_of_security(client: TestClient, path: str) -> None:
    answer = client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()  # of the style sheet that Plotly fills by rules
    assert f"style-src 'self' 'sha256-{empty}';" in policy
    assert "unsafe" not in policy
    assert "server" not in answer.headers


def test_a_token_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    for text in ("short", "with a space in between them", "x" * 1_001, "", "ä" * 20, "a\nb" * 9):
        file.write_text(text)
        with pytest.raises(SettingsError, match="token"):
            read_token(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_token(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o777])
def test_a_token_that_others_can_read_is_none(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "my token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=r"Run `chmod 600 '.*my token'`"):
        read_token(file)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org"])
def test_another_address_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--token-file"):
        rules_of(host, None)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    assert rules_of(host, tmp_path / "token").token == TOKEN


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://a b",
        "https://a\n",
        "https://a\r\nx: y",
        "https://",
        "https://a/",
        "https://a:99999",
        "ftp://a",
        "null",
    ],
)
def test_an_origin_is_that_of_a_site(origin: str) -> None:
    with pytest.raises(SettingsError, match="expected a site"):
        rules_of("localhost", None, allow_origins=(origin,))


HOSTILE = (
    "/../../etc/passwd", "/static/../../etc/passwd", "/static/%2e%2e%2fstyle.css", "/symbols/%00", "/symbols/../",
    "/api/symbols/%2F%2F/bars", "/api/symbols//bars", "/symbols?symbol=", "/symbols?symbol=%0d%0aset-cookie:x",
    "/api/decisions?from=9999-12-31T23:59:59-14:00", "/api/decisions?from=0001-01-01", "/api/decisions?limit=1e3",
    "/api/decisions?limit=9223372036854775808", "/api/decisions?from[]=1&from[$ne]=2", "/api/runs?limit=%00",
    "/api/symbols/A%2FB/bars?from=2000&to=%F0%9F%92%A9", "/%c0%ae%c0%ae/", "/api/symbols/" + "%41" * 300 + "/bars",
    "/api/symbols/%ff%fe/bars", "/symbols/%E2%80%AE", "/?__proto__[a]=1", "/api/symbols/';DROP TABLE bars;--/bars",
    "/api/symbols/{{7*7}}/forecast", "/symbols/{{7*7}}", "/symbols/<script>alert(1)</script>", "/events/../api/today",
)  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_addresses_get_a_sentence(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code in (200, 303, 404, 414, 422), answer.text
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text
    assert "<script>alert" not in answer.text
    assert "set-cookie" not in answer.headers
