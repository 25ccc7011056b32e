"""Two runs side by side through the command: itself, a worse one, other settings, data and horizons."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from gatecast.chain import make_chain
from gatecast.cli.app import execute
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.runs import Run, finish, run
from gatecast.store import save_run
from gatecast.studies.comparing import BETTER, NO_DIFFERENCE, THE_SAME, WORSE, Difference, compare
from tests.made_up import FEW

BARS = synthetic.b1(1100, seed=5, r2=0.1)
BOOKLESS: dict[str, Any] = {**FEW, "too_good": ("planted",), "book": {"core": {"kind": "none"}}}


def made(name: str) -> Run:
    """A run of cheap models."""
    with unrecorded():
        return run(Experiment(name=name, bars=BARS, features=("ret_log_1", "x"), **BOOKLESS))


@pytest.fixture(scope="module")
def knowing() -> Run:
    """A run that reads the column which knows."""
    return made("knowing")


def spoiled(run: Run) -> Run:
    """The same run with noise of a bar's deviation in its forecasts of returns."""
    noise = pl.Series(np.random.default_rng(0).standard_normal(len(run.forecasts)) * 0.01)
    of_returns = pl.col("head") == "return"
    worse = run.forecasts.with_columns(value=pl.when(of_returns).then(pl.col("value") + noise).otherwise("value"))
    kept = io.BytesIO()
    worse.write_parquet(kept)
    return replace(run, forecasts_parquet=kept.getvalue())


def test_a_run_is_the_same_as_itself(knowing: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(knowing, tmp_path / "a")
    save_run(knowing, tmp_path / "b")
    assert execute(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not said["differs"]
    assert {one["outcome"] for one in said["differences"] if not one["reason"]} == {THE_SAME}
    assert said["settings"] == {}


def test_a_run_whose_forecasts_are_spoiled_is_worse(knowing: Run) -> None:
    found = compare(knowing, spoiled(knowing))
    by_head = {one.of: one for one in found.differences}
    assert found.differs
    assert by_head["return"].outcome == WORSE
    assert by_head["return"].high < 0
    assert by_head["volatility"].outcome == THE_SAME
    back = {one.of: one for one in compare(spoiled(knowing), knowing).differences}["return"]
    assert back.outcome == BETTER
    assert back.pvalue == pytest.approx(by_head["return"].pvalue)


def test_the_interval_of_money_is_that_of_a_mean(knowing: Run) -> None:
    noise = np.random.default_rng(0).standard_normal(len(knowing.equity)) * 1e-3
    other = knowing.equity.with_columns(net=pl.col("net") + pl.Series(noise))
    found = {one.of: one for one in compare(knowing, replace(knowing, equity=other)).differences}["money"]
    net, more = knowing.equity["net"].to_numpy(), other["net"].to_numpy()
    steps = (more - more**2) - (net - net**2)
    days = knowing.equity["time"]
    per_year = len(days) / ((days[-1] - days[0]).days / 365.25)
    assert found.effect == pytest.approx(steps.mean() * per_year, rel=0.01)
    assert found.outcome == NO_DIFFERENCE
    plain = stats.ttest_1samp(steps, 0.0).pvalue
    assert found.pvalue == pytest.approx(plain, abs=0.25)  # fixed-b against the normal of independent days


@pytest.fixture(scope="module")
def held() -> Run:
    """A run with a book, not judged."""
    few = {name: value for name, value in BOOKLESS.items() if name != "book"}
    experiment = Experiment(name="held", bars=synthetic.g1(1330, seed=3), **few)
    return replace(finish(experiment, make_chain(experiment, experiment.read().bars)), scores={"verdicts": {}})


def test_books_are_compared_by_money_control_and_variance(held: Run) -> None:
    """Against formulas of numpy on what both lines earned."""
    size = {"target_volatility": 0.04, "book_band": 0.3}
    calm = replace(held, experiment=held.experiment.replace(book={"size": size}))
    found = {one.of: one for one in compare(held, calm).differences}
    first, second = (run.stored.itself.line.frame for run in (held, calm))  # type: ignore[union-attr]
    worth = [np.mean(one["excess"].to_numpy() - one["excess"].to_numpy() ** 2) for one in (first, second)]
    days = first["day"]
    per_year = len(days) / ((days[-1] - days[0]).days / 365.25)
    assert found["book"].effect == pytest.approx((worth[1] - worth[0]) * per_year)
    assert found["book"].n == len(first)
    losses, spreads = [], []
    for one in (first, second):
        square, forecast = one["earned"].to_numpy()[1:] ** 2, (one["expected"] * one["level"] ** 2).to_numpy()[1:]
        ratio = np.maximum(square, 1e-4 * square.mean()) / forecast
        losses.append(float(np.mean(ratio - np.log(ratio) - 1)))
        count = len(square) // 21
        windows = [part[-count * 21 :].reshape(count, 21).mean(axis=1) for part in (square, forecast)]
        logs = np.log(windows[0] / windows[1]) / 2
        without = np.mean([np.log(np.delete(logs, place).std()) for place in range(count)])
        spreads.append(count * np.log(logs.std()) - (count - 1) * without)  # Quenouille's jackknife
    assert found["book_variance"].effect == pytest.approx(1 - losses[1] / losses[0], abs=1e-9)
    assert found["control"].effect == pytest.approx(spreads[0] - spreads[1], abs=1e-9)
    back = {one.of: one for one in compare(calm, held).differences}
    assert back["book"].effect == pytest.approx(-found["book"].effect)
    assert back["control"].pvalue == pytest.approx(found["control"].pvalue)


def test_a_book_is_the_same_as_itself(held: Run) -> None:
    found = {one.of: one for one in compare(held, replace(held)).differences}
    assert {name: found[name].outcome for name in ("book", "control", "book_variance")} == dict.fromkeys(
        ("book", "control", "book_variance"), THE_SAME
    )
    assert (found["book"].low, found["book"].effect, found["book"].high) == (0, 0, 0)
    assert "Money of the book: the same in both" in found["book"].sentence


def test_a_run_without_a_book_has_none_to_compare(knowing: Run, held: Run) -> None:
    reasons = {one.of: one.reason for one in compare(knowing, knowing).differences}
    assert reasons["book"] == "the first run's book has no core."
    damaged = replace(held, classes={})
    reasons = {one.of: one.reason for one in compare(held, damaged).differences}
    assert "the second run's book cannot be made again: this run has neither its classes nor" in reasons["control"]


def test_other_horizons_have_nothing_to_pair(knowing: Run) -> None:
    found = compare(knowing, replace(knowing, experiment=knowing.experiment.replace(horizon=5)))
    reasons = {one.of: one.reason for one in found.differences}
    assert "the horizons differ" in reasons["return"]
    assert found.settings == {"horizon": (1, 5)}


def test_runs_on_other_bars_are_compared_where_both_have_the_same(knowing: Run) -> None:
    found = compare(knowing, replace(knowing, bars=BARS[:1000], provenance={**knowing.provenance, "data_hash": ""}))
    assert found.data["common"] == 1000
    assert {one.outcome for one in found.differences if not one.reason} <= {THE_SAME, NO_DIFFERENCE}
    assert "compared on the 1,000 that both have" in found.summary()


def test_another_market_is_refused(knowing: Run) -> None:
    with pytest.raises(SettingsError, match="no bar in common"):
        compare(knowing, replace(knowing, bars=synthetic.b1(1100, seed=6, r2=0.1)))


def test_a_sentence_says_which_p_and_which_interval_are_corrected() -> None:
    found = Difference("volatility", 0.02, 0.001, 0.039, 0.04, 900, 0.03, pvalue_holm=0.24).sentence
    assert "; p 0.040 uncorrected, as the interval, and 0.240 after Holm's correction, which decides" in found
