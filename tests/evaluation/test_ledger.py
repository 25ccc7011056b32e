"""Trials are counted by the program, whatever a user forgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gatecast.evaluation.ledger import Trial, ledger_path, read_trials, record_trial

ONE = Trial(("NASDAQ", "SP500"), "2001-01-02", "2018-12-31", "a1", 0.02)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "trials.jsonl"


def test_an_identical_run_adds_nothing(file: Path) -> None:
    assert len(record_trial(ONE, file)) == 1
    assert record_trial(ONE, file) == [ONE]
    assert len(file.read_text().splitlines()) == 1


def test_other_settings_other_instruments_and_other_spans(file: Path) -> None:
    record_trial(ONE, file)
    assert len(record_trial(replace(ONE, settings_hash="b2"), file)) == 2  # another configuration
    assert len(record_trial(replace(ONE, symbols=("SP500",)), file)) == 3  # another choice of instruments
    assert len(record_trial(replace(ONE, first="2005-01-03"), file)) == 4  # another choice of the first day
    assert len(record_trial(replace(ONE, last="2019-01-31"), file)) == 4  # a month more of the same is no choice
    assert len(record_trial(replace(ONE, symbols=("GOLD",)), file)) == 1  # no instrument in common
    assert len(record_trial(replace(ONE, first="1980-01-02", last="1990-12-31"), file)) == 1  # no day in common
    assert len(record_trial(ONE, file)) == 4


def test_the_newest_sharpe_of_a_configuration_counts(file: Path) -> None:
    record_trial(ONE, file)
    later = replace(ONE, last="2019-12-31", sharpe=0.05)
    assert [trial.sharpe for trial in record_trial(later, file)] == [0.05]


def test_lines_that_cannot_be_read_are_passed_over(file: Path) -> None:
    record_trial(ONE, file)
    with file.open("ab") as stream:
        stream.write(b'{"symbols": ["SP5\n[]\n3\nnull\n\xff\xfe\n{"symbols": 3}\n{"symbols": ["A"], "more": 1}\n')
    assert read_trials(file) == [ONE]
    assert len(record_trial(replace(ONE, settings_hash="b2"), file)) == 2


def test_a_folder_that_cannot_be_written_loses_no_run(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert record_trial(ONE, blocked / "trials.jsonl") == [ONE]


def test_the_file_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path))
    record_trial(ONE)
    assert ledger_path() == tmp_path / "trials.jsonl"
    assert json.loads(ledger_path().read_text())["settings_hash"] == "a1"
    monkeypatch.delenv("GATECAST_DATA")
    assert ledger_path().name == "trials.jsonl"
    assert "gatecast" in str(ledger_path())
