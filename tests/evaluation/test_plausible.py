"""Outcomes that no honest market gives: each limit from both sides, causally, and allowed by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gatecast
from gatecast.errors import SettingsError
from gatecast.evaluation.plausible import TOO_GOOD, VOID, TooGood, too_good, void, without_what_is_too_good
from gatecast.evaluation.record import Record
from gatecast.evaluation.verdict import CANNOT_TELL, SKILL, Verdict
from gatecast.experiment import Experiment
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.samples.windows import make_samples
from gatecast.trading.plausible import hits_so_far, too_good_so_far, too_much_money_so_far
from tests.made_up import made_up, with_values

FAST = {
    "models": ("ridge", "logistic", "ridge_long", "logistic_long"),
    "schedule": {"refit": "6M"},
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
    "ensemble": {
        "members": ("ridge", "logistic", "ridge_long", "logistic_long"),
        "volatility_members": ("har_symbol", "constant"),
    },
}


def forecasts_with(share: float, horizon: int = 5, bars: int = 1400, seed: int = 0) -> Forecasts:
    """Made-up forecasts of a walk; the ensemble's R² of returns is `share`, to the noise."""
    samples = make_samples(synthetic.a1(bars, seed), ("ret_log_1",), horizon=horizon)["index"]
    one = made_up(samples, seed)
    answer = samples.targets["return"].value[samples.decided]
    rng = np.random.default_rng(seed)
    noise = np.nanstd(answer[:, -1]) * rng.standard_normal(len(samples))
    made = share * answer + np.sqrt(share * (1 - share)) * noise[:, None]
    made = np.where(np.isfinite(one.values["zero"]["return"]), made, np.nan)
    return with_values(one, "ensemble", **{"return": made, "direction": np.full(len(samples), 0.55)})


def found_in(forecasts: Forecasts, allowed: tuple[str, ...] = ()) -> list[TooGood]:
    nothing = np.zeros(10)
    days = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]")
    return too_good(
        {head: Record.of({"index": forecasts}, head) for head in ("return", "direction")},
        nothing,
        nothing,
        days,
        252.0,
        None,
        allowed,
    )


@pytest.mark.parametrize(("share", "named"), [(0.05, False), (0.20, True), (0.93, True)])
def test_an_r2_above_a_tenth_over_five_days_is_too_good(share: float, named: bool) -> None:
    found = [one for one in found_in(forecasts_with(share)) if one.measure.startswith("R²")]
    assert bool(found) == named
    assert all(one.limit == pytest.approx(0.10) and one.value > 0.10 for one in found)
    assert found_in(forecasts_with(share), ("planted",)) == []
    assert not [one for one in found_in(forecasts_with(share), ("return",)) if one.head == "return"]


def test_the_r2_is_that_of_units_of_volatility() -> None:
    forecasts = forecasts_with(0.3)
    (one, *_) = [one for one in found_in(forecasts) if one.measure.startswith("R²")]
    samples = forecasts.samples
    answer = samples.targets["return"].value[samples.decided, -1]
    unit = samples.facts.sigma[samples.ends] ** 2
    shares = []
    for rival in ("zero", "mean"):
        model, base = forecasts.values["ensemble"]["return"][:, -1], forecasts.values[rival]["return"][:, -1]
        rows = np.isfinite(answer) & np.isfinite(model)
        error = ((answer - model) ** 2 / unit)[rows].sum() / ((answer - base) ** 2 / unit)[rows].sum()
        shares.append(1 - error)
    assert one.value == pytest.approx(min(shares))


def test_always_up_in_a_market_that_only_rises_is_not_too_good() -> None:
    samples = make_samples(synthetic.a3(1700, 2, drift=0.8), ("ret_log_1",), horizon=1)["index"]
    one = made_up(samples)
    mean = one.values["mean"]["return"]
    rising = with_values(one, "ensemble", **{"return": mean, "direction": np.full(len(samples), 0.9)})
    days, hits, rises = hits_so_far(rising, "return")
    assert len(days) > 1000
    assert hits.mean() > 0.75  # of a drift of .8 standard deviations: Φ(.8) = .788
    assert np.array_equal(hits, rises)
    assert found_in(rising) == []
    assert not too_good_so_far(rising).any()


def test_hits_are_counted_on_answers_that_share_no_bar() -> None:
    forecasts = forecasts_with(0.5)
    days, hits, _ = hits_so_far(forecasts, "return")
    samples, rows = forecasts.samples, forecasts.rows
    answer = samples.targets["return"].value[samples.decided[rows], -1]
    made = forecasts.values["ensemble"]["return"][rows, -1]
    known = np.isfinite(answer) & np.isfinite(made)
    expected = (np.sign(answer) == np.sign(made))[known][::5]
    assert np.array_equal(hits, expected.astype(float))
    assert (np.diff(days) > np.timedelta64(0, "D")).all()


def test_the_record_so_far_never_looks_ahead() -> None:
    whole = forecasts_with(0.6)
    samples = whole.samples
    found = too_good_so_far(whole)
    first = int(np.argmax(found))
    assert found[first:].all()
    assert not found[:first].any()
    cut = samples.time[first]  # what is known before the session of that row decides
    late = samples.known_at >= cut.astype("datetime64[D]")

    def spoilt(values: np.ndarray) -> np.ndarray:
        return np.where(late if values.ndim == 1 else late[:, None], -9.0 * np.nan_to_num(values), values)

    values = {name: {head: spoilt(made) for head, made in heads.items()} for name, heads in whole.values.items()}
    again = too_good_so_far(replace(whole, values=values))
    assert np.array_equal(again[: first + 1], found[: first + 1])


def test_a_sharpe_of_the_alpha_above_three_is_too_much_money() -> None:
    samples = make_samples(synthetic.a1(1200, 3), ("ret_log_1",))["index"]
    rng, at = np.random.default_rng(1), np.arange(200, 1200)
    market = 0.01 * rng.standard_normal(1200)
    noise = 0.005 * rng.standard_normal(1200)
    for sharpe, named in ((1.0, False), (6.0, True)):
        net = noise + 0.5 * market + sharpe / np.sqrt(252) * 0.005
        found = too_much_money_so_far(samples, net, market, at)
        assert found.any() == named
        assert not found[: 200 + 250].any()  # not before 250 sessions
        assert not too_much_money_so_far(samples, net, market, at, ("strategy",)).any()
        days = np.arange(1200).astype("datetime64[D]")
        book = too_good({}, net, market, days, 252.0)
        assert [one.head for one in book] == (["strategy"] if named else [])


BLANK = Verdict("", CANNOT_TELL, 0.1, 0.0, 0.2, "t", 1.0, 0.5, 0.5, 9, None, 0.0, 1, 5, "zero", "unit", "Said.")


def test_a_head_that_is_too_good_and_every_claim_beside_it() -> None:
    heads = {"return": SKILL, "direction": CANNOT_TELL, "volatility": SKILL}
    verdicts = {head: replace(BLANK, head=head, verdict=said) for head, said in heads.items()}
    found = [TooGood("return", "index", "R² of returns over 5 bars", 0.5, 0.1)]
    after = without_what_is_too_good(verdicts, found, [("x", 0.93)])
    assert [one.verdict for one in after.values()] == [TOO_GOOD, CANNOT_TELL, TOO_GOOD]
    assert "is 50.0%, above the 10.0%" in after["return"].sentence
    assert "'x' (R² 93%)" in after["return"].sentence
    assert without_what_is_too_good(verdicts, []) == verdicts
    assert [one.verdict for one in void(after, "x knows.").values()] == [TOO_GOOD, VOID, TOO_GOOD]


@pytest.fixture(scope="module")
def answer() -> pl.DataFrame:
    """A walk with a column that is the sum of the next five returns."""
    bars = synthetic.a1(1300, 21)
    ahead = pl.col("close").log().shift(-5) - pl.col("close").log()
    return bars.with_columns(x=ahead.fill_null(0.0))


def test_a_run_on_the_answer_says_so_everywhere_and_holds_nothing(answer: pl.DataFrame) -> None:
    run = gatecast.run(Experiment(bars=answer, features=("ret_log_1", "x"), **FAST))
    assert run.doubtful
    assert run.verdicts["return"]["verdict"] == TOO_GOOD
    assert {one["verdict"] for one in run.verdicts.values()} == {TOO_GOOD, VOID}
    assert (run.weights["weight"] == 0).all()
    assert [leak["column"] for leak in run.scores["audit"]["findings"]] == ["x"]
    assert run.scores["summary"]["headline"].startswith(
        "Too good to be true. This run used information from the future"
    )
    assert run.summary().splitlines()[0] == run.scores["summary"]["headline"]
    assert all(len(line) <= 100 for line in run.summary().splitlines()[1:])
    assert "Too good to be true" in run._repr_html_()


def test_what_is_allowed_by_name_is_said_first(answer: pl.DataFrame) -> None:
    settings = {"bars": answer, "features": ("ret_log_1", "x"), **FAST}
    run = gatecast.run(Experiment(too_good=("return", "direction", "strategy", "x"), **settings))
    assert not run.doubtful
    assert run.verdicts["return"]["verdict"] == SKILL
    assert (run.weights["weight"] != 0).any()
    first = run.summary().splitlines()[0]
    assert first.startswith("Allowed by the settings to be too good to be true: return, direction, strategy, x.")
    planted = gatecast.run(Experiment(too_good="planted", **settings))
    assert planted.summary().startswith('A planted market (too_good = "planted")')
    assert planted.verdicts["return"]["verdict"] == SKILL


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'planted'"):
        Experiment(too_good=("plantd",))


def test_the_command_ends_with_status_three(answer: pl.DataFrame, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from gatecast.cli.app import app

    answer.select("symbol", "asset_class", "time", "open", "high", "low", "close", "volume", "x").write_csv(
        tmp_path / "bars.csv"
    )
    toml = tmp_path / "s.toml"
    toml.write_text(
        f"""features = ["ret_log_1", "x"]
models = ["ridge", "logistic", "ridge_long", "logistic_long"]
[bars]
source = "{(tmp_path / "bars.csv").as_posix()}"
stamp = "close"
[schedule]
refit = "6M"
[signals]
model = "ridge"
confirmed_by = "ridge"
[ensemble]
members = ["ridge", "logistic", "ridge_long", "logistic_long"]
volatility_members = ["har_symbol", "constant"]
""",
        encoding="utf-8",
    )
    result = CliRunner().invoke(app, ["run", str(toml), "--out", str(tmp_path / "run"), "--json", "--jobs", "1"])
    assert result.exit_code == 3, result.output
    assert '"doubtful": true' in result.stdout
    assert (tmp_path / "run" / "scores.json").is_file()
