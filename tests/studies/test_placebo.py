"""The placebo rank: what a flip keeps and what it destroys, ranks, and a study that was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gatecast.errors import SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.schedule import Schedule
from gatecast.machine import Machine
from gatecast.market import read_bars, synthetic
from gatecast.market.bars import make_bars, opens_are_real
from gatecast.runs import run
from gatecast.samples.features import FEATURES, register
from gatecast.studies.placebo import ABOUT_SIGNS, FILE, Placebo, flipped, key_of, placebo, ranked, verdicts_of

QUICK: dict[str, Any] = {
    "model": {
        "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
        "forest": Forest(trees=5),
        "logistic": Logistic(strengths=(1e-2,)),
    },
    "schedule": Schedule(refit="1Y"),
}
MARKET = synthetic.b1(400, seed=3, r2=0.1, symbols=3)
BARS = 1200
PLANTED = Experiment(
    bars=synthetic.b1(BARS, seed=2, r2=0.1), features=("ret_log_1", "x"), book={"core": {"kind": "none"}}, **QUICK
)  # fmt: skip
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def planted() -> Placebo:
    """A market with something to find and nine copies, over two cores."""
    return placebo(PLANTED, copies=9, machine=Machine(jobs=2))


def steps(bars: pl.DataFrame) -> FloatArray:
    """(symbols, bars - 1) log returns."""
    return np.diff(np.log(np.stack([one["close"].to_numpy() for one in bars.partition_by("symbol")])))


def shapes(bars: pl.DataFrame, symbol: str) -> FloatArray:
    """(bars - 1, 4) logs of open, high, low and close over the previous close."""
    log = np.log(bars.filter(symbol=symbol).select("open", "high", "low", "close").to_numpy())
    return log[1:] - log[:-1, 3:]


# ── the copy ──────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(copy=st.integers(1, 10_000), seed=st.integers(0, 1000))
def test_a_flip_keeps_sizes_and_all_symbols_share_its_signs(copy: int, seed: int) -> None:
    other = flipped(MARKET, copy, seed)
    drift = steps(MARKET).mean(axis=1, keepdims=True)
    before, after = steps(MARKET) - drift, steps(other) - drift
    np.testing.assert_allclose(abs(after), abs(before), atol=1e-12)
    sign = np.sign(after / before)
    assert (sign == sign[0]).all()
    assert 0.3 < (sign[0] > 0).mean() < 0.7
    make_bars(other.drop("segment"))  # refuses bars whose high is below their close
    rest = pl.exclude("open", "high", "low", "close")
    assert_frame_equal(other.select(rest), MARKET.select(rest), check_exact=True)
    assert other.columns == MARKET.columns


def test_a_flipped_bar_is_the_bar_in_a_mirror() -> None:
    other = flipped(MARKET, 1)
    for symbol in ("B1_0", "B1_2"):
        before, after = shapes(MARKET, symbol), shapes(other, symbol)
        drift = before[:, 3].mean()
        flips = ~np.isclose(after[:, 3], before[:, 3], atol=1e-12)
        np.testing.assert_allclose(after[~flips], before[~flips], atol=1e-12)
        np.testing.assert_allclose(after[flips], 2 * drift - before[flips][:, [0, 2, 1, 3]], atol=1e-12)


def test_nothing_about_the_next_sign_is_left() -> None:
    bars = synthetic.b1(3000, seed=5, r2=0.2)
    x = bars["x"].to_numpy()[:-1]
    assert np.corrcoef(x, steps(bars)[0])[0, 1] > 0.4
    left = [np.corrcoef(x, steps(flipped(bars, copy))[0])[0, 1] for copy in range(1, 41)]
    assert abs(np.mean(left)) < 4 / np.sqrt(40 * 3000)
    assert np.std(left) < 1.4 / np.sqrt(3000)


def test_copies_differ_and_each_is_the_same_every_time() -> None:
    assert flipped(MARKET, 0).equals(MARKET)
    assert flipped(MARKET, 4, seed=1).equals(flipped(MARKET, 4, seed=1))
    seen = [steps(flipped(MARKET, copy, seed))[0] for copy, seed in ((1, 0), (2, 0), (1, 1))]
    assert all(np.corrcoef(a, b)[0, 1] < 0.5 for a, b in ((seen[0], seen[1]), (seen[0], seen[2])))
    fewer = flipped(MARKET.filter(pl.col("symbol") != "B1_1"), 4)
    assert_frame_equal(fewer, flipped(MARKET, 4).filter(pl.col("symbol") != "B1_1"), check_exact=True)


def test_opens_that_repeat_the_previous_close_go_on_doing_so() -> None:
    last = pl.col("close").shift().fill_null(pl.col("open"))
    bars = MARKET.with_columns(open=last.over("symbol"))
    bars = bars.with_columns(high=pl.max_horizontal("high", "open"), low=pl.min_horizontal("low", "open"))
    other = flipped(bars, 2)
    assert opens_are_real(bars) == opens_are_real(other) == dict.fromkeys(("B1_0", "B1_1", "B1_2"), False)
    assert (other["open"] == other["close"].shift())[1:400].all()
    make_bars(other.drop("segment"))


def test_the_bars_of_a_session_share_its_sign() -> None:
    daily = synthetic.a1(700, seed=2)
    hour = pl.int_range(pl.len())
    close = pl.lit(daily["time"][0]) + pl.duration(days=hour // 7, hours=hour % 7 - 6)
    bars = daily.with_columns(time=close.cast(pl.Datetime("us", "UTC")), known_at=close.cast(pl.Datetime("us", "UTC")))
    drift = steps(bars)[0].mean()
    sign = np.sign((steps(flipped(bars, 1))[0] - drift) / (steps(bars)[0] - drift))
    per_session = np.r_[sign[0], sign].reshape(100, 7)
    assert (per_session[1:] == per_session[1:, :1]).all()
    assert len(np.unique(per_session)) == 2


# ── the rank ──────────────────────────────────────────────────────────────────────────────────────


def test_ranks_count_the_run_itself_and_ties_against_it() -> None:
    blank = dict.fromkeys((*ABOUT_SIGNS, "volatility"), 0.0)
    copies = [blank | {"return": value} for value in (-1.0, 0.5, 2.0, 3.0)] + [blank | {"direction": 9.0}]
    study = ranked([blank | {"return": 2.0}, *copies])
    assert (study.ranks["return"].beaten, study.ranks["return"].pvalue) == (3, 3 / 6)
    assert (study.ranks["strategy"].beaten, study.ranks["strategy"].pvalue) == (0, 1.0)
    assert study.ranks["run"].copies == (0.0, 0.5, 2.0, 3.0, 9.0)  # the best of three, on copies too
    assert (study.ranks["run"].beaten, study.ranks["run"].pvalue) == (2, 4 / 6)
    assert study.sentence.startswith("Your run beats 2 of 5 copies (1 tie) of its own market")
    assert study.ranks["strategy"].tied == 5
    assert "only what the signs" in study.ranks["volatility"].sentence
    assert json.loads(json.dumps(study.to_dict(), allow_nan=False))["ranks"]["run"]["pvalue"] == 4 / 6


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-1.5, 0.0, 0.0, 0.3, 2.0]), min_size=2, max_size=30),
    st.lists(st.floats(-3, 3), min_size=30, max_size=30),
)
def test_among_runs_of_one_kind_small_p_values_are_as_rare_as_they_say(flat: list[float], free: list[float]) -> None:
    """Whichever of them is called the run: at most a share p has a p-value of p or less, ties or not."""
    runs = [{"return": b, "direction": b / 2, "strategy": a} for a, b in zip(flat, free, strict=False)]
    turns = [ranked([runs[k], *runs[:k], *runs[k + 1 :]]) for k in range(len(runs))]
    for name in (*ABOUT_SIGNS, "run"):
        pvalues = np.array([turn.ranks[name].pvalue for turn in turns])
        assert all((pvalues <= p).mean() <= p + 1e-12 for p in pvalues)
        for turn in turns:
            rank = turn.ranks[name]
            assert rank.beaten + rank.tied + sum(c > rank.statistic for c in rank.copies) == len(runs) - 1


def test_the_summary_is_a_table_that_says_what_a_copy_is() -> None:
    blank = dict.fromkeys((*ABOUT_SIGNS, "volatility", "regime"), 0.0)
    text = ranked([blank | {"return": 2.5}, *[blank | {"return": k / 10} for k in range(-10, 20)]]).summary()
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("Your run beats 30 of 30 copies of its own market without predictability, p 0.0323.")
    (row,) = (line.split() for line in text.splitlines() if line.startswith("  return"))
    assert row[:5] == ["return", "2.50", "30", "0", "0.0323"]
    assert row[5:] == [f"{np.quantile(np.arange(-10, 20) / 10, share):.2f}" for share in (0.05, 0.5, 0.95)]
    assert "leverage" in text
    assert "19 are the least" in ranked([blank, blank, blank]).sentence


def test_a_planted_signal_beats_all_copies(planted: Placebo) -> None:
    for name in ("run", "return", "direction", "strategy"):
        assert planted.ranks[name].pvalue == 0.1, name


def test_a_walk_beats_some_of_its_copies() -> None:
    walks = [
        placebo(Experiment(bars=synthetic.a1(900, seed=seed), features=("ret_log_1",), **QUICK), copies=4)
        for seed in (1, 2)
    ]
    assert max(walk.ranks["run"].pvalue for walk in walks) > 0.2
    assert all(walk.ranks["strategy"].pvalue == 1 for walk in walks)  # it never held anything


def test_the_market_itself_is_judged_as_run_judges_it_but_for_the_ledger() -> None:
    planted = {"features": ("ret_log_1", "x"), "too_good": ("planted",), "book": {"core": {"kind": "none"}}}
    experiment = Experiment(bars=synthetic.b1(700, seed=4, r2=0.1), **planted, **QUICK)
    verdicts = verdicts_of(experiment, read_bars(experiment.bars))
    assert list(Path(os.environ["GATECAST_DATA"]).iterdir()) == []
    expected = run(experiment).verdicts
    assert set(verdicts) == set(expected)
    for head, verdict in verdicts.items():
        own = verdict.to_dict()
        for name in ("verdict", "rival", "n"):
            assert own[name] == expected[head][name]
        for name in ("effect", "statistic", "pvalue_holm"):
            assert own[name] == (expected[head][name] and pytest.approx(expected[head][name], rel=1e-6))


# ── killed and resumed ────────────────────────────────────────────────────────────────────────────


def test_a_killed_study_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path, planted: Placebo) -> None:
    def kill(stage: str, done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        placebo(PLANTED, copies=3, folder=tmp_path, progress=kill)
    file = tmp_path / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    stranger = json.loads(lines[0]) | {"key": "another", "statistics": dict.fromkeys(ABOUT_SIGNS, 99.0)}
    file.write_bytes(json.dumps(stranger).encode() + b"\n[]\n" + lines[0] + lines[1][:-20])  # it died in a write
    seen: list[tuple[str, int, int]] = []
    resumed = placebo(PLANTED, copies=3, folder=tmp_path, progress=lambda *now: seen.append(now))
    for name, rank in planted.ranks.items():
        assert (resumed.ranks[name].statistic, resumed.ranks[name].copies) == (rank.statistic, rank.copies[:3])
    assert seen == [("placebo", done, 4) for done in (1, 2, 3, 4)]
    seen.clear()
    fewer = placebo(PLANTED, copies=2, folder=tmp_path, progress=lambda *now: seen.append(now))
    assert fewer.ranks["run"].copies == planted.ranks["run"].copies[:2]
    assert seen == [("placebo", 3, 3)]  # nothing was left to do
    assert len(file.read_text(encoding="utf-8").splitlines()) == 7  # a stranger's, "[]", one, a torn one, three

    other = PLANTED.replace(seed=1)  # other signs: what is there is of no use
    assert placebo(other, copies=1, folder=tmp_path).ranks["run"].copies != planted.ranks["run"].copies[:1]


SCRIPT = """
import sys
from gatecast.experiment import Experiment
from gatecast.studies.placebo import placebo
from gatecast.market import read_bars, synthetic
placebo(Experiment(bars=synthetic.b1({bars}, seed=2, r2=.1), **{settings}), copies=3, folder=sys.argv[1])
"""


def test_a_study_that_is_killed_outright_goes_on(tmp_path: Path, planted: Placebo) -> None:
    """SIGKILL in the middle, in another process; then the same again, and the answer of an undisturbed study."""
    said = {key: value for key, value in PLANTED.to_dict().items() if key != "bars"}
    file = tmp_path / FILE
    code = SCRIPT.replace("{bars}", str(BARS)).replace("{settings}", repr(said))
    script = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(script) as study:
        while not (file.exists() and file.stat().st_size):
            assert study.poll() is None
            time.sleep(0.01)
        study.kill()
    kept = len(file.read_bytes().splitlines())
    assert 1 <= kept < 4
    seen: list[int] = []
    resumed = placebo(PLANTED, copies=3, folder=tmp_path, progress=lambda _, done, of: seen.append(done))
    assert {name: rank.copies for name, rank in resumed.ranks.items()} == {
        name: rank.copies[:3] for name, rank in planted.ranks.items()
    }
    assert seen[0] in (kept - 1, kept)  # the last line may have been torn


def test_an_own_feature_that_was_changed_begins_anew(tmp_path: Path) -> None:
    own = PLANTED.replace(features=("mine", "x"))
    bars = own.read().bars
    keys = []
    for bars_back in (1, 2, 1):
        register("mine", warmup=2)(lambda close, back=bars_back: np.log(close / np.roll(close, back)))
        keys.append(key_of(own, bars))
    FEATURES.remove("mine")
    assert keys[0] == keys[2] != keys[1]
    assert key_of(PLANTED, bars) == key_of(PLANTED.replace(name="another"), bars)


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="copies = 0: expected 1 to 100,000"):
        placebo(PLANTED, copies=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="copies cannot be kept there"):
        placebo(PLANTED, copies=1, folder=tmp_path / "file")
