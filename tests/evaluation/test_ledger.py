"""Trials are counted by the program, whatever a user forgets."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.evaluation.counted import best_of_trials, independent_trials, profits
from gatecast.evaluation.ledger import ledger_path, read_trials, record_trial, record_trials, unrecorded
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.trial import Data, Trial, configurations, market_of
from gatecast.market import synthetic
from gatecast.market.bars import session_date
from gatecast.provenance import data_of
from gatecast.samples.windows import make_samples

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


def test_corrected_bars_are_no_other_trial_and_the_newest_result_counts(file: Path) -> None:
    record_trial(ONE, file)
    again = replace(ONE, sharpe=0.07)
    assert record_trial(again, file) == [again]
    assert record_trial(again, file) == [again]
    assert len(file.read_text().splitlines()) == 2


def test_a_shorter_look_at_what_is_known_changes_nothing(file: Path) -> None:
    record_trial(replace(ONE, profit=profit(1)), file)
    (kept,) = record_trial(replace(ONE, last="2010-12-31", sharpe=0.9, profit=profit(1, 100)), file)
    assert kept == ONE
    assert kept.profit is not None
    assert len(kept.profit) == 500


WRONG = [
    '{"symbols": ["SP5', "[]", "3", "null", "\xff\xfe", "[" * 100_000,
    {"symbols": 3}, {"symbols": "SP500"}, {"first": None}, {"first": "yesterday"},
    {"last": 20181231}, {"sharpe": "high"}, {"sharpe": float("inf")}, {"sharpe": [1]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: str(one)[:30])
def test_lines_that_cannot_be_read_are_passed_over(file: Path, wrong: str | dict[str, Any]) -> None:
    record_trial(ONE, file)
    right = json.loads(file.read_text())
    text = wrong if isinstance(wrong, str) else json.dumps(right | {"settings_hash": "w"} | wrong)
    with file.open("ab") as stream:
        stream.write(text.encode("latin-1") + b"\n")
    assert read_trials(file) == [ONE]
    assert len(record_trial(replace(ONE, settings_hash="b2"), file)) == 2


def test_a_file_that_is_a_folder_loses_no_run(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").mkdir()
    assert record_trial(replace(ONE, profit=profit(1)), tmp_path / "trials.jsonl") == [ONE]


def test_many_at_once_lose_nothing(file: Path) -> None:
    trials = [replace(ONE, settings_hash=str(number), profit=profit(number, 5)) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda trial: record_trial(trial, file), trials))
    assert sorted(trial.settings_hash for trial in read_trials(file)) == sorted(str(number) for number in range(60))
    assert all(trial.profit is not None for trial in record_trial(ONE, file) if trial != ONE)


def homeless(_: str) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("folder", [homeless, lambda name: Path("~/.local/share") / name])
def test_a_user_without_a_home_loses_no_run_and_finds_nothing_in_the_current_folder(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GATECAST_DATA")
    monkeypatch.setattr("platformdirs.user_data_path", folder)
    monkeypatch.chdir(tmp_path)
    assert record_trial(ONE) == [ONE]
    assert not list(tmp_path.iterdir())


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


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=12))
def test_however_a_history_goes_on_it_is_one_trial(steps: list[tuple[int, bool]]) -> None:
    """Days are added, and the first day moves on with them or stays."""
    trial, trials = ONE, [ONE]
    for days, slides in steps:
        move = timedelta(days=days)
        first = date.fromisoformat(trial.first) + (move if slides else timedelta(0))
        trial = replace(trial, first=str(first), last=str(date.fromisoformat(trial.last) + move))
        trials.append(trial)
    found = configurations(trials)
    assert found == [trial]
    assert len(configurations([*trials, replace(trial, settings_hash="b2")])) == 2


def as_older_version(file: Path) -> None:
    """Leaves the SHA-256 of profits and returns out of the lines."""
    file.write_text(re.sub(r', "\w+_sha256": "\w*"|"\w+_sha256": "\w*", ', "", file.read_text()))


def test_a_day_twice_or_without_a_number_does_no_harm(file: Path) -> None:
    record_trial(replace(ONE, profit=profit(1)), file)
    (kept,) = file.with_suffix("").glob("*.parquet")
    twice = pl.concat([profit(1), profit(1)[:3], profit(1, 1, "2010-01-04").with_columns(pl.col("net") * float("nan"))])
    twice.write_parquet(kept)
    as_older_version(file)
    (trial,) = record_trial(ONE, file)
    assert profits([trial], days_of(profit(1))).shape == (500, 1)
    assert independent_trials([trial], days_of(profit(1))) == 1


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
    held = replace(ONE, settings_hash="m", profit=profit(0).with_columns(net=pl.Series(0.5 * market)))
    assert best_of_trials([held], days, market).reason == "no trial had a profit or loss of its own"
    assert best_of_trials([replace(ONE, profit=profit(0, 5))], days[:0], market[:0]).reason
    alone = best_of_trials([replace(ONE, settings_hash="g", profit=good), held], days, market)
    assert alone.reason == "one trial had a profit or loss of its own"
    assert np.isnan(alone.pvalue)
    assert (
        best_of_trials([replace(ONE, profit=None)], days, market).reason == "no trial had a profit or loss of its own"
    )


def test_what_is_beyond_the_exposure_of_the_days_that_were_covered() -> None:
    days = days_of(profit(0))
    market = 0.01 * np.random.default_rng(99).standard_normal(len(days))
    early = profit(3, 300)
    net = early["net"].to_numpy() + 0.7 * market[:300]
    (found,) = profits([replace(ONE, profit=early.with_columns(net=pl.Series(net)))], days, market).T
    slope, intercept = np.polyfit(market[:300], net, 1)
    assert found[:300].mean() == pytest.approx(intercept, rel=1e-5)
    np.testing.assert_allclose(found[:300], net - slope * market[:300], atol=1e-9)
    assert not found[300:].any()


def test_books_that_are_alike_only_in_being_long_are_not_alike() -> None:
    days = days_of(profit(0))
    market = 0.01 * np.random.default_rng(99).standard_normal(len(days))
    books = [
        replace(ONE, settings_hash=str(k), profit=profit(k).with_columns(net=0.2 * pl.col("net") + pl.Series(market)))
        for k in range(6)
    ]
    assert independent_trials(books, days) < 3
    assert independent_trials(books, days, market) > 5


def test_many_trials_are_tested_on_sums_of_days_to_the_same_end() -> None:
    days = days_of(profit(0, 3000))
    market = 0.01 * np.random.default_rng(99).standard_normal(len(days))
    luck = [replace(ONE, settings_hash=str(k), profit=profit(k, 3000)) for k in range(1, 60)]
    good = replace(ONE, profit=profit(0, 3000).with_columns(net=pl.col("net") + 0.0015))
    assert best_of_trials(luck, days, market).pvalue > 0.05
    found = best_of_trials([*luck, good], days, market)
    assert found.pvalue < 0.01
    together = int(np.ceil(60 * 3000 * 500 / 2e7))
    assert found.n == 3000 // together
    assert found.effect == pytest.approx(together * profits([good], days, market).mean(), rel=0.01)


def test_trials_without_a_common_day_are_apart() -> None:
    whole = profit(1)
    odd, even = whole.gather_every(2), whole.gather_every(2, offset=1)
    trials = [replace(ONE, settings_hash=str(k), profit=part) for k, part in enumerate((odd, even))]
    market = 0.01 * np.random.default_rng(99).standard_normal(500)
    assert independent_trials(trials, days_of(whole)) == pytest.approx(2, abs=0.1)
    assert independent_trials(trials, days_of(profit(1, 500, "2015-01-05"))) == 2  # on none of these days: unknown
    assert 0.01 < best_of_trials(trials, days_of(whole), market).pvalue <= 1


# ── data, and markets by their returns ────────────────────────────────────────────────────────────


def bars_of(seed: int, bars: int = 600, symbols: int = 1, rename: str = "", **columns: Any) -> pl.DataFrame:
    made = synthetic.a1(bars, seed, symbols=symbols)
    if rename:
        made = made.with_columns(symbol=rename + pl.col("symbol"))
    return made.with_columns(**columns)


def tried(bars: pl.DataFrame, own: tuple[str, ...] = (), settings: str = "a1") -> Trial:
    samples = make_samples(bars, ("ret_log_1", *own))
    days = session_date(bars["time"].dt.replace_time_zone(None).to_numpy())
    symbols = tuple(bars["symbol"].unique().sort().to_list())
    return Trial(symbols, str(days.min()), str(days.max()), settings, 0.0, data=data_of(bars, samples.values(), own))


def column(seed: int, bars: int = 600) -> pl.Series:
    return pl.Series(np.random.default_rng(seed).standard_normal(bars))


def test_other_values_under_one_name_are_other_trials_and_the_same_ones_are_not(file: Path) -> None:
    for seeds in (range(3), range(3, 207)):
        found = record_trials([tried(bars_of(1, x=column(seed)), ("x",)) for seed in seeds], file)
        assert len(found) == seeds[-1] + 1
    assert len(record_trial(tried(bars_of(1, x=column(5)), ("x",)), file)) == 207
    assert len(file.read_text().splitlines()) == 207
    unused = bars_of(1, x=column(5), y=column(9))  # a column that nothing reads is no other data
    assert len(record_trial(tried(unused, ("x",)), file)) == 207


def test_newer_bars_and_corrected_ones_are_the_same_data(file: Path) -> None:
    x = column(3, 700)
    record_trial(tried(bars_of(1, x=x[:600]), ("x",)), file)
    assert len(record_trial(tried(bars_of(1, 700, x=x), ("x",)), file)) == 1
    corrected = x.clone()
    corrected[[250, 400]] = 7.0
    assert len(record_trial(tried(bars_of(1, 700, x=corrected), ("x",)), file)) == 1
    late = pl.when(pl.int_range(pl.len()) < 400).then(x).otherwise(column(4, 700))
    assert len(record_trial(tried(bars_of(1, 700, x=late), ("x",)), file)) == 1  # most of it is what it was
    assert len(record_trial(tried(bars_of(1, 700, x=column(4, 700)), ("x",)), file)) == 2
    assert len(list((file.parent / "markets").glob("*.parquet"))) == 1


def test_a_window_that_slides_on_the_same_column_is_the_same_trial(file: Path) -> None:
    bars = bars_of(1, 700, x=column(3, 700))
    record_trial(tried(bars[:600], ("x",)), file)
    assert len(record_trial(tried(bars[60:], ("x",)), file)) == 1
    assert len(record_trial(tried(bars.with_columns(x=column(4, 700))[60:], ("x",)), file)) == 2


def test_a_name_hides_no_market(file: Path) -> None:
    record_trial(tried(bars_of(1)), file)
    assert len(record_trial(tried(bars_of(1, rename="Z"), settings="b2"), file)) == 2
    assert len(record_trial(tried(bars_of(1, rename="Y")), file)) == 2  # the same data and settings under a third name
    inverse = bars_of(1, rename="I").with_columns(pl.lit(1).alias(name) / pl.col(name) for name in ("open", "close"))
    inverse = inverse.with_columns(high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close"))
    assert len(record_trial(tried(inverse, settings="c3"), file)) == 3
    noise = 1 + 0.0005 * pl.Series(np.random.default_rng(0).standard_normal(600))
    assert len(record_trial(tried(bars_of(1, rename="N", close=pl.col("close") * noise), settings="d4"), file)) == 4
    assert len(record_trial(tried(bars_of(2, rename="O"), settings="e5"), file)) == 1  # another market


def test_one_name_of_two_markets_is_two(file: Path) -> None:
    for seed in range(5):
        found = record_trial(tried(bars_of(seed)), file)
    assert len(found) == 1
    short = [record_trial(tried(bars_of(seed, 200)), file) for seed in (11, 12)]  # too short to tell: by name
    assert len(short[1]) > 1


def test_one_symbol_of_many_is_enough_to_share(file: Path) -> None:
    many = bars_of(4, symbols=3)
    record_trial(tried(many), file)
    one = many.filter(pl.col("symbol") == "A1_1").with_columns(symbol=pl.lit("other"))
    assert len(record_trial(tried(one), file)) == 2
    shuffled = many.with_columns(pl.col("symbol").replace({"A1_0": "c", "A1_1": "b", "A1_2": "a"})).sort(
        "symbol", "time"
    )
    assert len(record_trial(tried(shuffled), file)) == 2


def test_correlations_are_those_of_numpy() -> None:
    first, second = market_of(bars_of(1, symbols=2)), market_of(bars_of(1, 500, symbols=3, rename="R")[100:])
    linked = first.links(second)
    for i, name in enumerate(first.names):
        for j, other in enumerate(second.names):
            parts = [
                one.returns.filter(pl.col("symbol") == symbol).select("session", pl.col("log_return").cast(pl.Float64))
                for one, symbol in ((first, name), (second, other))
            ]
            both = parts[0].join(parts[1], on="session")
            expected = abs(np.corrcoef(both["log_return"], both["log_return_right"])[0, 1])
            assert linked[i, j] == pytest.approx(expected, abs=1e-9)


def test_lines_of_older_versions_count_by_name_and_settings(file: Path) -> None:
    new = tried(bars_of(1, x=column(1)), ("x",))
    record_trial(replace(new, data=None), file)
    assert "data" not in json.loads(file.read_text())
    assert len(record_trial(new, file)) == 1
    assert len(record_trial(tried(bars_of(1, x=column(2)), ("x",)), file)) == 2


def test_returns_that_cannot_be_read_leave_the_names(file: Path) -> None:
    record_trial(tried(bars_of(1)), file)
    (kept,) = (file.parent / "markets").glob("*.parquet")
    kept.write_bytes(b"no parquet")
    assert len(record_trial(tried(bars_of(2), settings="b2"), file)) == 2
    assert len(record_trial(tried(bars_of(1, rename="Z"), settings="c3"), file)) == 1


def test_what_is_unrecorded_leaves_no_line_and_sees_none(file: Path) -> None:
    record_trial(ONE, file)
    other = replace(ONE, settings_hash="b2")
    with unrecorded():
        assert record_trial(other, file) == [other]
    assert len(file.read_text().splitlines()) == 1
    assert len(record_trial(other, file)) == 2


# ── what cannot be read or written is said ────────────────────────────────────────────────────────


def said(trial: Trial, file: Path) -> tuple[int, str]:
    """The number of trials found, and all sentences."""
    with problems() as found:
        count = len(record_trial(trial, file))
    return count, "\n".join(found)


def pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def test_a_whole_ledger_leaves_nothing_to_say(file: Path) -> None:
    one = replace(tried(bars_of(1)), profit=profit(1))
    assert said(one, file) == (1, "")
    assert said(replace(one, settings_hash="b2"), file) == (2, "")
    with file.open("a") as stream:
        stream.write("\n\n")  # an empty line is no trial
    assert said(one, file) == (2, "")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: str(one)[:30])
def test_lines_that_cannot_be_read_are_said(file: Path, wrong: str | dict[str, Any]) -> None:
    record_trial(ONE, file)
    right = json.loads(file.read_text())
    text = wrong if isinstance(wrong, str) else json.dumps(right | {"settings_hash": "w"} | wrong)
    with file.open("ab") as stream:
        stream.write((text.encode("latin-1") + b"\n") * 2)
    count, text = said(replace(ONE, settings_hash="b2"), file)
    assert count == 2
    assert text.startswith(f"2 lines of {file} cannot be read")
    assert "earlier trials may be missing, so that the correction for trials may be too small" in text


@pytest.mark.parametrize("make", [Path.mkdir, pipe])
def test_a_ledger_that_is_no_regular_file_is_said_and_never_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "trials.jsonl")
    count, text = said(tried(bars_of(1)), tmp_path / "trials.jsonl")
    assert count == 1
    assert "trials.jsonl cannot be read (it is a folder, pipe or device" in text
    assert "trials.jsonl cannot be written" in text
    assert "this trial is not on file" in text


def test_a_ledger_that_is_missing_beside_its_companions_is_said(file: Path) -> None:
    record_trial(replace(tried(bars_of(1)), profit=profit(1)), file)
    file.unlink()
    count, text = said(tried(bars_of(1), settings="b2"), file)
    assert count == 1
    assert f"{file} is missing, while markets/ and trials/ beside it hold earlier trials" in text


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def without_the_first_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])


def cut_in_two(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize(
    ("harm", "left"), [(emptied, 0), (without_the_first_line, 1), (cut_in_two, 1), (Path.unlink, 0)]
)
def test_a_ledger_that_lost_lines_does_not_look_fresh(file: Path, harm: Callable[[Path], None], left: int) -> None:
    record_trial(ONE, file)
    record_trial(replace(ONE, settings_hash="b2"), file)
    assert said(ONE, file) == (2, "")
    kept = file.read_bytes()
    harm(file)
    _, text = said(replace(ONE, settings_hash="c3"), file)
    assert f"{file} has {left} of the 2 lines that were written to it" in text
    assert "earlier trials may be missing, so that the correction for trials may be too small" in text
    assert "Restore it from a copy" in text
    assert "of the 3 lines that were written to it" in said(ONE, file)[1]  # the next run does not hide it
    file.with_suffix(".count").unlink()  # taken out on purpose
    assert "lines that were written" not in said(ONE, file)[1]
    file.write_bytes(kept)
    record_trial(ONE, file)
    assert said(ONE, file) == (2, "")


def test_an_emptied_ledger_of_an_older_version_is_told_by_its_companions(file: Path) -> None:
    record_trial(replace(tried(bars_of(1)), profit=profit(1)), file)
    emptied(file)
    file.with_suffix(".count").unlink()
    assert f"{file} is empty, while markets/ and trials/ beside it hold earlier trials" in said(ONE, file)[1]


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("harm", [damaged, pipe, Path.unlink])
@pytest.mark.parametrize("folder", ["markets", "trials"])
def test_a_companion_that_is_damaged_or_gone_is_said(file: Path, folder: str, harm: Callable[[Path], None]) -> None:
    record_trial(replace(tried(bars_of(1)), profit=profit(1)), file)
    (kept,) = (file.parent / folder).glob("*.parquet")
    harm(kept)
    other = tried(bars_of(2 if folder == "markets" else 1), settings="b2")
    _, text = said(replace(other, profit=profit(2)), file)
    assert f"{kept} cannot be read" in text
    assert len(text.splitlines()) == 1
    assert "may be missing" in text or "counts in full" in text
    record_trial(replace(tried(bars_of(1)), profit=profit(1)), file)  # the same run again writes it anew
    assert said(replace(other, profit=profit(2)), file)[1] == ""


def test_the_line_is_written_though_its_companions_cannot_be(file: Path) -> None:
    file.parent.mkdir(parents=True)
    for name in ("markets", "trials"):
        (file.parent / name).touch()
    count, text = said(replace(tried(bars_of(1)), profit=profit(1)), file)
    assert count == 1
    assert f"2 files in {file.parent} (the first is " in text
    assert "cannot be written" in text
    assert len(read_trials(file)) == 1
    count, text = said(tried(bars_of(1), settings="b2"), file)
    assert count == 2
    assert "cannot be read" in text


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    count, text = said(ONE, blocked / "trials.jsonl")
    assert count == 1
    assert "cannot be written" in text
    assert "set GATECAST_DATA to a folder that can be written" in text


def test_a_name_that_the_system_refuses_is_said(tmp_path: Path) -> None:
    count, text = said(replace(tried(bars_of(1)), profit=profit(1)), tmp_path / ("n" * 300) / "trials.jsonl")
    assert count == 1
    assert "cannot be read" in text
    assert "cannot be written" in text


def test_a_full_disk_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    count, text = said(replace(tried(bars_of(1)), profit=profit(1)), file)
    assert count == 1
    assert f"{file} cannot be written (No space left on device)" in text
    assert not list(file.parent.rglob("*.part"))


def test_what_an_inner_call_found_the_outer_one_has_too(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("{")
    with problems() as outer:
        for _ in range(2):
            with problems() as inner:
                read_trials(tmp_path / "trials.jsonl")
            assert inner == outer
    assert len(outer) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sharpe", "1" + "0" * 400), ("sharpe", "true"), ("sharpe", '"high"'), ("sharpe", "1e999"),
        ("symbols", r'["\ud800"]'), ("symbols", "[1]"), ("settings_hash", r'"\udfff"'), ("settings_hash", "null"),
        ("market", r'"a\u0000b"'), ("market", '"../../../../etc/passwd"'), ("market", '"' + "A" * 32 + '"'),
        ("market", '"ab"'), ("market", "7"), ("weeks", '"zzzz"'), ("exact", r'"\ud800"'), ("monday", '"2010-13-01"'),
        ("market_sha256", '"' + "0" * 63 + '"'), ("profit_sha256", "1"), ("first", '"0000-00-00"'),
    ],
)  # fmt: skip
def test_a_line_that_the_program_did_not_write_is_passed_over_and_said(file: Path, name: str, value: str) -> None:
    market = market_of(synthetic.a1(300, seed=1))
    one = replace(ONE, data=Data("e" * 64, market_key=market.key, market=market), profit=profit(1))
    record_trial(one, file)
    right = file.read_text()
    wrong = re.sub(rf'("{name}": )(\[[^]]*\]|[^,}}]+)', lambda found: found[1] + value, right, count=1)
    assert wrong != right
    file.write_text(wrong + right)
    with problems() as found:
        company = record_trial(replace(ONE, settings_hash="other"), file)
    assert [trial.settings_hash for trial in company] == [ONE.settings_hash, "other"]
    assert found[0].startswith(f"1 line of {file} cannot be read")


@pytest.mark.parametrize("folder", ["trials", "markets"])
def test_a_flipped_bit_in_a_companion_is_unread_and_said_until_the_run_is_made_again(file: Path, folder: str) -> None:
    market = market_of(synthetic.a1(900, seed=1))
    one = replace(ONE, data=Data("e" * 64, market_key=market.key, market=market), profit=profit(1))
    other = replace(one, settings_hash="other", profit=profit(2))
    record_trial(one, file)
    (kept,) = file.with_name(folder).glob("*.parquet")
    whole = kept.read_bytes()
    for place in range(0, len(whole), len(whole) // 40):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with problems() as found:
            company = record_trial(replace(ONE, settings_hash="look"), file)
        assert len([said for said in found if str(kept) in said]) == 1
        (known,) = [trial for trial in company if trial.settings_hash == ONE.settings_hash]
        assert known.data is not None
        assert (known.profit if folder == "trials" else known.data.market) is None
    record_trial(one, file)  # the same run writes it anew
    with problems() as found:
        company = record_trial(other, file)
    assert found == []
    (known,) = [trial for trial in company if trial.settings_hash == ONE.settings_hash]
    assert known.profit is not None
    assert known.profit["net"].to_list() == profit(1)["net"].cast(pl.Float32).to_list()
    assert kept.read_bytes() == whole


def test_companions_of_lines_without_their_sha256_are_read_as_before(file: Path) -> None:
    record_trial(replace(ONE, profit=profit(1)), file)
    as_older_version(file)
    with problems() as found:
        (known,) = record_trial(ONE, file)
    assert found == []
    assert known.profit is not None
