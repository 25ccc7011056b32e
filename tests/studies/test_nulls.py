"""The bench of nulls: what its markets are, what is counted, its limits, and a sample of its runs."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from gatecast.cli.app import app
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path
from gatecast.market import nulls as markets
from gatecast.studies.nulls import ALL_HEADS, NULLS, Nulls, line_of, nulls


def moves(bars: pl.DataFrame, symbol: str | None = None) -> np.ndarray:
    own = bars if symbol is None else bars.filter(pl.col("symbol") == symbol)
    return np.diff(np.log(own["close"].to_numpy()))


def lagged(series: np.ndarray, lag: int = 1) -> float:
    return float(np.corrcoef(series[lag:], series[:-lag])[0, 1])


# ── the markets ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NULLS)
def test_a_seed_decides_a_market(name: str) -> None:
    make = NULLS[name].make
    assert_frame_equal(make(4), make(4))
    assert not make(4).equals(make(5))


def test_the_dead_stand_still() -> None:
    for seed, volume in ((0, False), (1, True)):
        own = markets.dead(seed).filter(pl.col("symbol") == "DEAD")
        assert own["close"].n_unique() == own["high"].n_unique() == 1
        assert (own["volume"] > 0).all() == volume
    late = markets.dead(2)
    own = late.filter(pl.col("symbol") == "DEAD")
    assert late["symbol"].n_unique() == 5
    assert own["close"][499:].n_unique() == 1 < own["close"][:500].n_unique()


def test_twenty_halts_reopen_lower_or_where_the_walk_has_come_to() -> None:
    for seed, jump in ((1, np.log(0.85)), (2, 0.0)):
        bars = markets.halts(seed)
        gaps = np.flatnonzero(np.diff(bars["segment"].to_numpy()) > 0)
        assert len(gaps) == 20
        assert moves(bars)[gaps].mean() == pytest.approx(jump, abs=0.035)


def test_lagging_prices_have_the_autocorrelation_of_their_recipe() -> None:
    mean = lambda make, seeds, lag=1: np.mean([lagged(moves(make(seed)), lag) for seed in seeds])  # noqa: E731
    even, odd = range(0, 20, 2), range(1, 20, 2)
    assert mean(markets.smoothed, even) == pytest.approx(0.21 / 0.58, abs=0.03)
    assert mean(markets.smoothed, odd) == pytest.approx(0.21 / 0.38, abs=0.03)
    assert mean(markets.smoothed, odd, 2) == pytest.approx(0.10 / 0.38, abs=0.03)
    assert mean(markets.bounced, even) == pytest.approx(-0.25 / 1.5, abs=0.03)
    assert mean(markets.walk, even) == pytest.approx(0, abs=0.03)
    assert np.mean(moves(markets.stale(1)) == 0) == pytest.approx(0.3, abs=0.04)


def test_the_early_symbol_follows_the_late_one() -> None:
    bars = markets.asynchronous(3)
    early, late = moves(bars, "A1_0"), moves(bars, "A1_1")
    assert np.corrcoef(early[1:], late[:-1])[0, 1] > 0.15
    assert abs(np.corrcoef(late[1:], early[:-1])[0, 1]) < 0.08
    hours = bars.group_by("symbol").agg(pl.col("time").dt.hour().min()).sort("symbol")["time"].to_list()
    assert hours[0] + 7 == hours[1]


def test_the_others_are_what_they_are_called() -> None:
    assert np.mean(moves(markets.pegged(1)) == 0) == pytest.approx(0.7, abs=0.04)
    assert markets.cash(1)["close"].diff().drop_nulls().min() > 0
    ticks = markets.coarse(2)["close"].to_numpy() / 0.1
    np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-6)
    rolled = moves(markets.rolls(1))
    assert rolled[61::63].mean() == pytest.approx(0.01, abs=0.008)
    hourly = markets.hourly(1).with_columns(move=pl.col("close").log().diff().over("symbol"))
    variance = hourly.group_by("hour").agg(pl.col("move").pow(2).mean()).sort("hour")["move"].to_numpy()
    np.testing.assert_allclose(variance / markets.HOURLY_SCALE**2, markets.U_SHAPE, rtol=0.2)
    days = markets.missing_days(1)["time"].dt.convert_time_zone("America/New_York").dt.weekday()
    assert set(days.unique().to_list()) == {1, 2, 3, 4, 5, 7}


# ── what is counted ───────────────────────────────────────────────────────────────────────────────

QUIET = dict.fromkeys((*ALL_HEADS, "held"), False)


def test_a_run_counts_once_and_verdicts_that_are_no_null_do_not_count() -> None:
    both, known = QUIET | {"return": True, "strategy": True, "held": True}, QUIET | {"volatility": True}
    line = line_of("GARCH-t", [both, both, known, QUIET])
    assert (line.claiming, line.holding) == (2, 2)
    assert line.claims == {"return": 2, "direction": 0, "strategy": 2}
    assert line_of("dead symbol", [known]).claiming == 1


@pytest.mark.parametrize(("claims", "held", "passed"), [(2, 2, True), (6, 0, False), (0, 6, False), (0, 0, True)])
def test_all_nulls_together_have_a_limit(claims: int, held: int, passed: bool) -> None:
    runs = [QUIET | {"return": k < claims, "held": k < held} for k in range(30)]
    found = Nulls(tuple(line_of(name, runs) for name in NULLS))
    assert (found.claiming, found.holding) == (len(NULLS) * claims, len(NULLS) * held)
    assert f"of {30 * len(NULLS)} runs of {len(NULLS)} nulls" in found.sentence
    assert found.passed == passed


def test_one_null_has_a_limit_of_its_own() -> None:
    for count, passed in ((6, True), (7, False)):
        runs = [QUIET | {"held": k < count} for k in range(30)]
        found = Nulls((line_of("cash fund", runs),))
        assert found.passed == passed
        assert ("cash fund" in found.sentence) != passed
    every = Nulls(tuple(line_of(name, [QUIET]) for name in NULLS))
    assert all(len(line) <= 100 for line in every.summary().splitlines())


def test_what_is_no_null_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"there is no null 'stael'. Did you mean 'stale'"):
        nulls(only=("stael",))
    with pytest.raises(SettingsError, match="at least one run"):
        nulls(runs=0)


# ── a sample ──────────────────────────────────────────────────────────────────────────────────────


def test_three_nulls_of_five_runs_neither_claim_nor_hold_and_leave_no_trial() -> None:
    told: list[tuple[str, int, int]] = []
    found = nulls(runs=5, only=("halts", "strong trend", "GARCH-t"), progress=lambda *said: told.append(said), jobs=2)
    assert [line.runs for line in found.lines] == [5, 5, 5]
    assert max(found.claiming, found.holding) <= 2  # of 15; 5 % of them are .75
    assert told[-1] == ("nulls: GARCH-t", 5, 5)
    assert not ledger_path().exists()


def test_what_the_hour_alone_says_is_no_skill() -> None:
    (line,) = nulls(runs=2, only=("hourly U-shape",)).lines  # 20 of 20 claimed volatility and regime before rivals knew
    assert line.claims == dict.fromkeys(ALL_HEADS, 0)


def test_the_command_prints_them(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Nulls((line_of("cash fund", [QUIET]),))
    monkeypatch.setattr("gatecast.studies.nulls.nulls", lambda **_: few)
    printed = CliRunner().invoke(app, ["truth", "--nulls", "--runs", "1", "--json"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout)["limits"] == {"all": 30, "one": 6}
    assert CliRunner().invoke(app, ["truth", "--runs", "1"]).exit_code != 0
