"""The command itself: a real server on a free port; what it refuses to do."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest

from gatecast.cli.app import execute

TOKEN = "a-token-of-32-characters-exactly"


def read(address: str, token: str = "", lines: int | None = None) -> str:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return "".join(answer.readline().decode() for _ in range(lines)) if lines else answer.read().decode()


def test_the_command_serves_and_ends(made: Path, now: datetime, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    words = ["serve", str(made), "--port", "0", "--token-file", str(tmp_path / "token"), "--now", now.isoformat()]
    command = [sys.executable, "-m", "gatecast", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = json.loads(process.stdout.readline())["address"]
            assert json.loads(read(f"{address}health/live")) == {"status": "alive"}
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                read(f"{address}api/today")
            refused.value.close()
            assert len(json.loads(read(f"{address}api/today", TOKEN))["decisions"]) == 2
            assert read(f"{address}events", TOKEN, lines=1) == "event: record\n"
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert TOKEN not in out + err
    assert "Traceback" not in err
    assert process.returncode in (0, 128 + signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "a token is needed there"),
        (["--token-file", "none"], "cannot be read"),
        (["--allow-origin", "*"], "expected a site"),
        (["--now", "9999-12-31T23:59-14:00"], "--now must be a date"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_the_command_refuses(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["serve", str(made), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_no_store_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is no gatecast store" in " ".join(capsys.readouterr().err.split())


def test_a_port_that_is_taken_ends_the_command(made: Path, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert execute(["serve", str(made), "--port", port, "--now", now.isoformat()]) == 2
    assert "cannot be had" in " ".join(capsys.readouterr().err.split())


def test_without_the_extra_the_command_says_which(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert execute(["serve", str(made)]) == 2
    assert "pip install 'gatecast[serve]'" in " ".join(capsys.readouterr().err.split())
