"""Trials are counted by the program, whatever a user forgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.evaluation.ledger import (
    Trial,
    best_of_trials,
    independent_trials,
    ledger_path,
    read_trials,
    record_trial,
)

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


# ── what a trial is ───────────────────────────────────────────────────────────────────────────────


def profit(seed: int, days: int = 500, first: str = "2001-01-02") -> pl.DataFrame:
    draws = 0.01 * np.random.default_rng(seed).standard_normal(days)
    day = np.busday_offset(first, np.arange(days), roll="forward")
    return pl.DataFrame({"session": pl.Series(day, dtype=pl.Date), "net": pl.Series(draws, dtype=pl.Float32)})


def days_of(frame: pl.DataFrame) -> np.ndarray:
    return frame["session"].to_numpy()


def test_a_window_that_slides_is_the_same_trial_and_another_first_day_is_not(file: Path) -> None:
    record_trial(ONE, file)
    slid = replace(ONE, first="2001-02-01", last="2019-01-31")
    assert len(record_trial(slid, file)) == 1
    assert len(record_trial(replace(ONE, first="2004-02-02", last="2019-02-28"), file)) == 2


def test_profits_come_back_and_newer_ones_replace_the_older(file: Path) -> None:
    record_trial(replace(ONE, profit=profit(1)), file)
    (kept,) = record_trial(replace(ONE, last="2019-01-31", profit=profit(1, 520)), file)
    assert kept.profit is not None
    assert len(kept.profit) == 520
    other = record_trial(replace(ONE, settings_hash="b2", profit=profit(2)), file)
    assert sorted(len(trial.profit) for trial in other if trial.profit is not None) == [500, 520]
    assert len(list(file.with_suffix("").glob("*.parquet"))) == 2


def test_a_profit_that_is_damaged_is_as_if_unknown(file: Path) -> None:
    record_trial(replace(ONE, profit=profit(1)), file)
    (kept,) = file.with_suffix("").glob("*.parquet")
    kept.write_bytes(b"no parquet")
    assert [trial.profit for trial in record_trial(replace(ONE, settings_hash="b2", profit=None), file)] == [None, None]


def test_a_line_that_a_crash_cut_short_swallows_nothing(file: Path) -> None:
    record_trial(ONE, file)
    with file.open("ab") as stream:
        stream.write(b'{"symbols": ["SP5')
    record_trial(replace(ONE, settings_hash="b2"), file)
    assert {trial.settings_hash for trial in read_trials(file)} == {"a1", "b2"}


def test_copies_are_one_trial_in_effect_and_unknown_ones_count(file: Path) -> None:
    days = days_of(profit(1))
    alike = [replace(ONE, settings_hash=str(k), profit=profit(1)) for k in range(5)]
    apart = [replace(ONE, settings_hash=str(k), profit=profit(k)) for k in range(5)]
    assert independent_trials(alike, days) == pytest.approx(1)
    assert 4.5 < independent_trials(apart, days) <= 5
    assert independent_trials([*alike, replace(ONE, settings_hash="x")], days) == pytest.approx(2)


def test_the_best_of_twenty_is_held_against_luck() -> None:
    days = days_of(profit(0))
    market = 0.01 * np.random.default_rng(99).standard_normal(len(days))
    luck = [replace(ONE, settings_hash=str(k), profit=profit(k)) for k in range(20)]
    good = profit(21).with_columns(net=pl.col("net") + 0.002)
    assert best_of_trials(luck, days, market).pvalue > 0.1
    assert best_of_trials([*luck, replace(ONE, settings_hash="g", profit=good)], days, market).pvalue < 0.01
    held = replace(ONE, settings_hash="m", profit=profit(0).with_columns(net=pl.Series(0.5 * market + 0.0)))
    assert best_of_trials([held], days, market).reason or best_of_trials([held], days, market).pvalue > 0.1
    assert best_of_trials([replace(ONE, profit=None)], days, market).reason == "no trial had a profit or loss"
