"""Errors that nobody foresaw, and output that cannot be written: one line and an exit status of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from gatecast.cli.app import execute


class PanicError(BaseException):
    """As a compiled package raises it: no `Exception`."""


@pytest.mark.parametrize("error", [ZeroDivisionError("1 / 0\nand more"), PanicError("overflow"), RecursionError()])
def test_an_unforeseen_error_is_one_line_with_its_traceback_in_a_file(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explodes(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("gatecast.runs.run", explodes)
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for times in range(1, 25):
        assert execute(["run"]) == 70
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        kept = sorted((tmp_path / "errors").glob("*.txt"))
        assert len(kept) == min(times, 20)
        assert str(kept[-1]) in said.err
        assert "report" in said.err
    text = kept[-1].read_text()
    assert "Traceback" in text
    assert type(error).__name__ in text


def test_a_traceback_that_cannot_be_kept_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("gatecast.runs.run", lambda *_, **__: 1 / 0)
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path / "file"))
    monkeypatch.chdir(tmp_path)
    assert execute(["run"]) == 70
    assert "set GATECAST_DATA to a folder" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("words", "out", "err", "status"),
    [
        (["--help"], "/dev/full", None, 74),
        (["check", "embedded", "--json"], "/dev/full", None, 74),
        (["check", "nothing-here"], None, "/dev/full", 2),
        (["check", "embedded", "--json"], None, "/dev/full", 0),
    ],
)
def test_a_full_disk_behind_the_output(words: list[str], out: str | None, err: str | None, status: int) -> None:
    with ExitStack() as files:
        out_file, err_file = (files.enter_context(Path(one).open("wb")) if one else None for one in (out, err))
        done = subprocess.run(
            [sys.executable, "-m", "gatecast", *words],
            stdout=out_file or subprocess.PIPE, stderr=err_file or subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == status
    if out:
        assert done.stderr == b"error: the output cannot be written: No space left on device.\n"


def test_a_reader_that_goes_away_ends_the_command_in_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "gatecast", "check", "embedded", "--json"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
