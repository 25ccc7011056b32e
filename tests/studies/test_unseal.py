"""Opening a hold-out, from the settings to the folder of the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.evaluation.holdout import SHOWN, Opening, openings_path, read_openings, record_opening
from gatecast.evaluation.ledger import ledger_path
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.live import forecast_newest
from gatecast.market.bars import make_bars
from gatecast.runs import Run, run
from gatecast.store import load_run, save_run
from gatecast.studies.unseal import unseal

DAY = "2004-01-01"
QUICK = {
    "book": {"core": {"kind": "none"}},
    "features": ("ret_log_1", "x"),
    "model": {
        "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
        "forest": Forest(trees=5),
    },
    "schedule": Schedule(refit="1Y"),
}


LATE = pl.col("time") >= pl.lit(DAY).str.to_datetime(time_zone="UTC")


@pytest.fixture(scope="module")
def sealed(market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        return run(Experiment(bars=market, holdout=DAY, **QUICK))


def test_nothing_reads_the_sessions_that_are_sealed(market: pl.DataFrame, sealed: Run, tmp_path: Path) -> None:
    """The same file with another market in the sealed part: a hundred times as dear, split, halted, with wrong bars."""
    early, late = market.filter(~LATE), market.filter(LATE).sort("symbol", "time")
    other = late.with_columns(pl.col("open", "high", "low", "close") * 100, volume=pl.lit(0.0), x=pl.lit(7.0))
    halved = pl.when(pl.int_range(pl.len()) % 50 > 25).then(0.5).otherwise(1.0)
    other = other.with_columns(pl.col("open", "high", "low", "close") * halved).with_columns(low=pl.col("low") * 3)
    file = tmp_path / "market.csv"
    pl.concat([early, other[:-200]]).drop("known_at", "segment").write_csv(file)
    again = run(Experiment(bars={"source": str(file), "stamp": "close"}, holdout=DAY, **QUICK))
    short = run(Experiment(bars=early, **QUICK))
    for one in (again, short):
        assert one.forecasts.equals(sealed.forecasts)
        assert one.weights.equals(sealed.weights)
        assert one.equity.equals(sealed.equity)
        for name in ("verdicts", "models", "backtest", "illusions", "strategies", "warnings"):
            assert one.scores[name] == sealed.scores[name], name
    assert sealed.bars["time"].max() < market["time"].max()
    assert short.scores["trials"]["count"] == 1  # sealed or not, it is the same configuration
    assert short.scores["holdout"] is None
    assert "can be opened once" in again.scores["holdout"]["sentence"]


def test_it_is_opened_once_and_the_run_remembers(market: pl.DataFrame, sealed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_run(sealed, folder)
    with pytest.raises(SettingsError, match="were a frame"):
        unseal(load_run(folder))
    opened = save_run(unseal(load_run(folder), bars=market), folder)
    found = load_run(folder).scores["holdout"]
    assert found == opened.scores["holdout"]
    assert found["same_past"] == 1.0
    assert found["first"] == DAY
    assert found["last"] == str(market["time"].max().date())
    assert [one["head"] for one in found["heads"]] == ["return", "direction", "volatility", "regime", "strategy"]
    assert found["heads"][0]["after"] is not None
    (line,) = openings_path().read_text().splitlines()
    assert json.loads(line)["first"] == DAY
    assert load_run(folder).forecasts.equals(sealed.forecasts)  # all else stays as it was
    rerun = run(load_run(folder).experiment.replace(bars=market))  # the same settings again lose nothing of it
    state = rerun.scores["holdout"]
    assert {name: state[name] for name in SHOWN} == {name: found[name] for name in SHOWN}
    assert "They are no longer unseen" in state["sentence"]
    other = run(load_run(folder).experiment.replace(bars=market, seed=9)).scores["holdout"]
    assert other["heads"] == []  # other settings did not make these forecasts
    assert "They are no longer unseen" in other["sentence"]
    with pytest.raises(SettingsError, match="only the first opening is a test on unseen data"):
        unseal(load_run(folder), bars=market)
    again = unseal(load_run(folder), bars=market, again=True)
    assert "This is not the first opening" in again.scores["holdout"]["sentence"]
    assert len(again.scores["holdout"]["opened"]) == 2


def test_a_rerun_that_fails_opens_nothing(market: pl.DataFrame, sealed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BarsError, match=r"nowhere\.csv"):
        unseal(sealed, bars="nowhere.csv")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unseal(sealed, bars=market, progress=interrupted)
    assert not openings_path().exists()
    monkeypatch.setenv("GATECAST_DATA", __file__)
    with pytest.raises(StoreError, match="only where that can be recorded"):
        unseal(sealed, bars=market)


def test_an_opening_in_the_meantime_is_a_second_look(market: pl.DataFrame, sealed: Run) -> None:
    """Somebody else opens it while the chain runs."""
    theirs = Opening(("B1_1",), DAY, "2004-12-31", "2026-01-02T03:04:05+00:00", "b")

    def in_the_meantime(*_: object) -> None:
        if not openings_path().exists():
            record_opening(theirs)

    with pytest.raises(SettingsError, match="only the first opening is a test on unseen data"):
        unseal(sealed, bars=market, progress=in_the_meantime)
    assert read_openings() == [theirs]


def test_a_damaged_record_is_said_by_the_run_and_at_the_opening(market: pl.DataFrame, sealed: Run) -> None:
    for path in (ledger_path(), openings_path()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{garbage\n")
    found = run(Experiment(bars=market, holdout=DAY, **QUICK)).scores
    for scores in (found, unseal(sealed, bars=market).scores):
        assert "It cannot be known whether th" in scores["holdout"]["sentence"]
        for path in (ledger_path(), openings_path()):
            start = f"1 line of {path} cannot be read"
            assert start in scores["holdout"]["sentence"]
            assert len([text for text in scores["warnings"] if text.startswith(start)]) == 1


def test_too_few_sessions_to_show_anything_stay_sealed(market: pl.DataFrame, sealed: Run) -> None:
    few = pl.concat([market.filter(~LATE), market.filter(LATE).group_by("symbol", maintain_order=True).head(20)])
    for bars, have in ((market.filter(~LATE), 0), (few, 20)):
        with pytest.raises(SettingsError, match=f"there are {have} sessions from {DAY} on .* nothing was opened"):
            unseal(sealed, bars=bars)
    with pytest.raises(SettingsError, match="the bars have nothing of B1_1"):
        unseal(sealed, bars=market.filter(pl.col("symbol") == "B1_0"))
    assert not openings_path().exists()


def test_no_symbol_is_shown_that_the_run_does_not_have(market: pl.DataFrame, sealed: Run) -> None:
    more = market.filter(pl.col("symbol") == "B1_0").with_columns(symbol=pl.lit("OTHER"))
    found = unseal(sealed, bars=pl.concat([market, more])).scores["holdout"]
    assert found["same_past"] == 1.0
    assert read_openings()[0].symbols == ("B1_0", "B1_1")


def test_a_run_without_a_seal_has_nothing_to_open(sealed: Run) -> None:
    with pytest.raises(SettingsError, match="has no hold-out"):
        unseal(replace(sealed, experiment=sealed.experiment.replace(holdout=None)))


def test_forecasting_from_sealed_bars_is_refused(market: pl.DataFrame, sealed: Run, tmp_path: Path) -> None:
    save_run(sealed, tmp_path / "run")
    with pytest.raises(SettingsError, match="are sealed"):
        forecast_newest(tmp_path / "run", market)
    assert forecast_newest(tmp_path / "run", market.filter(pl.col("time") <= sealed.bars["time"].max()))


def test_another_market_under_the_runs_names_opens_nothing(market: pl.DataFrame, sealed: Run) -> None:
    swapped = make_bars(market.with_columns(pl.col("symbol").replace({"B1_0": "B1_1", "B1_1": "B1_0"})))
    with pytest.raises(BarsError, match="are another market's than the run's"):
        unseal(sealed, bars=swapped)
    assert not openings_path().exists()


def test_a_run_of_the_market_under_another_name_has_seen_it(market: pl.DataFrame, sealed: Run) -> None:
    renamed = market.with_columns(symbol=pl.lit("NEW_") + pl.col("symbol"))
    run(Experiment(bars=renamed, **QUICK))
    found = unseal(sealed, bars=market).scores["holdout"]
    assert found["seen"] == 1
    with pytest.raises(SettingsError, match="only the first opening is a test on unseen data"):
        unseal(run(Experiment(bars=renamed, holdout=DAY, **QUICK)), bars=renamed)
