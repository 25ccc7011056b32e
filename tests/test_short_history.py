"""Too few bars of one symbol or class: the class's models serve it, or the run says what it has and what it needs."""

from __future__ import annotations

import re
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.errors import HistoryTooShortError
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule, known_by
from gatecast.history import enough_history
from gatecast.market import synthetic
from gatecast.runs import Run, run
from gatecast.samples.windows import Samples, make_samples
from gatecast.scores import short_histories

FEATURES = ("ret_log_1", "x")


def shortened(symbol: str, asset_class: str, first: int, last: int, seed: int) -> pl.DataFrame:
    """Some of the bars of a planted symbol."""
    bars = synthetic.b1(800, seed=seed, r2=0.05)[first:last]
    return bars.with_columns(symbol=pl.lit(symbol), asset_class=pl.lit(asset_class))


def walked(bars: pl.DataFrame) -> Run:
    return run(
        Experiment(
            bars=bars, features=FEATURES, models=("lstm", "forest", "logistic", "ridge"), 
            model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
            schedule=Schedule(refit="3M"),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two whole symbols and short ones in one class, and two classes that are too short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("ledger")))
        return walked(
            pl.concat(
                [
                    shortened("WHOLE", "index", 0, 800, 1),
                    shortened("OTHER", "index", 0, 800, 2),
                    shortened("YOUNG", "index", 580, 800, 3),
                    shortened("NEWEST", "index", 770, 800, 4),
                    shortened("GONE", "index", 0, 120, 5),
                    shortened("COIN", "crypto", 600, 800, 6),
                    shortened("ONE", "equity", 799, 800, 7),
                ]
            )
        )


def warning(finished: Run, start: str) -> str:
    (text,) = (text for text in finished.scores["warnings"] if text.startswith(start))
    return str(text)


def test_a_young_symbol_is_forecast_by_the_models_of_its_class(mixed: Run) -> None:
    one = mixed.classes["index"]
    samples, forecasts = one.samples, one.forecasts
    number = samples.symbols.index("YOUNG")
    har = forecasts.fitted["har"]
    known = np.flatnonzero(known_by(samples.known_at, forecasts.folds[-1].cutoff))
    ends = samples.ends[known]
    inputs = np.column_stack([np.ones(len(ends)), samples.facts.har[ends]])
    pooled, *_ = np.linalg.lstsq(inputs, samples.targets["volatility"].value[ends], rcond=None)
    assert har.table[number, :-1] == pytest.approx(pooled)
    assert har.table[samples.symbols.index("WHOLE"), :-1] != pytest.approx(pooled)
    for name in ("har_symbol", "har_class"):
        fitted = forecasts.fitted[name]
        np.testing.assert_array_equal(fitted.table[number], fitted.pooled)
    mine = forecasts.rows[samples.symbol[samples.ends[forecasts.rows]] == number]
    assert len(mine) > 100
    assert all(np.isfinite(values[mine]).all() for values in forecasts.values["ensemble"].values())


def test_the_run_says_which_symbol_and_how_many_bars_it_has_and_needs(mixed: Run) -> None:
    samples, folds = mixed.classes["index"].samples, mixed.classes["index"].forecasts.folds
    young = samples.symbol[samples.ends] == samples.symbols.index("YOUNG")
    count = int((samples.known_at[young] <= folds[-1].cutoff).sum())
    text = warning(mixed, "YOUNG: too few bars")
    assert f"outcomes of {count} forecasts were known, 250 are needed" in text
    assert "Models of index serve." in text
    assert not [text for text in mixed.scores["warnings"] if text.startswith(("WHOLE: too few", "OTHER: too few"))]


def test_a_symbol_without_a_window_says_how_many_bars_make_one(mixed: Run) -> None:
    text = warning(mixed, "NEWEST: too few bars, nothing was forecast.")
    have, need = (int(count) for count in re.findall(r"\d+", text.split("forecast.")[1]))
    assert have == 30
    bars = synthetic.b1(800, seed=4, r2=0.05)
    windows = [len(make_samples(bars[:count], FEATURES)["index"]) for count in (need - 1, need)]
    assert windows == [0, 1]


def test_a_symbol_that_ended_before_the_first_refit_says_so(mixed: Run) -> None:
    first = str(mixed.classes["index"].forecasts.folds[0].cutoff)[:10]
    assert warning(mixed, "GONE: too few").endswith(f"Its 120 end before the first refit of its class, {first}.")
    assert "GONE" not in mixed.forecasts["symbol"].to_list()


def test_a_class_that_is_too_short_says_what_it_would_take(mixed: Run) -> None:
    assert set(mixed.classes) == {"index"}
    text = warning(mixed, "crypto: too short a history for a single refit; nothing was forecast.")
    assert "'COIN' has 200 bars;" in text
    need = int(re.findall(r"(\d+) are needed", text)[0])
    assert 250 < need < 450
    assert "'ONE' has 1 bars;" in warning(mixed, "equity: too short a history")


def test_a_symbol_alone_in_its_class_is_its_class() -> None:
    bars = synthetic.b1(800, seed=1, r2=0.05)
    gap = bars["time"][400] + timedelta(days=1)
    finished = walked(bars.filter((pl.col("time") <= bars["time"][200]) | (pl.col("time") >= gap)))
    assert short_histories(finished.classes["index"]) == []
    assert not [text for text in finished.scores["warnings"] if "too few bars" in text]


def test_bars_that_all_come_too_late_are_refused_with_how_late_they_are() -> None:
    bars = synthetic.b1(900, seed=1, r2=0.05).with_columns(known_at=pl.col("time") + timedelta(days=14))
    with pytest.raises(HistoryTooShortError, match="14 days or more after their close"):
        run(Experiment(bars=bars, features=("ret_log_1", "x")))


def test_a_symbol_without_a_column_that_a_feature_needs_is_named_with_the_feature() -> None:
    first = shortened("FIRST", "index", 0, 800, 1)
    later = shortened("LATER", "index", 100, 800, 2).with_columns(volume=pl.lit(None, pl.Float64))
    made = run(
        Experiment(
            bars=pl.concat([first, later]), features=("ret_log_1", "volume_ratio_20"), models=("ridge", "logistic"),
            signals={"model": "ridge", "confirmed_by": "ridge"}, schedule=Schedule(refit="1Y"),
        )
    )  # fmt: skip
    (said,) = [text for text in short_histories(made.classes["index"]) if text.startswith("LATER")]
    assert "volume_ratio_20 has no value on any of its 700 bars" in said


def refusal(samples: dict[str, Samples], bars: pl.DataFrame, experiment: Experiment) -> str | None:
    """What is said where no class can be fitted; None where one can."""
    try:
        enough_history(samples, bars, experiment.schedule, experiment.sampling)
    except HistoryTooShortError as error:
        return str(error)
    return None


UNITS = {"D": (1, 3, 16, 71), "W": (1, 2, 3, 11), "M": (1, 3), "bars": (20, 30, 49)}


@pytest.mark.parametrize("horizon", [1, 5, 22])
@pytest.mark.parametrize("length", [250, 400, 440])
@pytest.mark.parametrize("unit", UNITS)
def test_every_training_window_is_fitted_or_refused_with_the_shortest_that_would_do(
    horizon: int, length: int, unit: str
) -> None:
    bars = synthetic.a1(length, seed=1)
    for count in UNITS[unit]:
        given = count if unit == "bars" else f"{count}{unit}"
        for refit, validation in (("1W", 0.2), ("1M", 0.5), (3, 0.01)):
            schedule = Schedule(train=given, refit=refit, validation=validation)
            experiment = Experiment(bars=bars, features=("ret_log_1",), horizon=horizon, schedule=schedule)
            samples = experiment.make_samples(bars)
            said = refusal(samples, bars, experiment)
            if said is None:
                continue
            found = re.search(r"window of (\w+) is too short.*shortest that would do is (\d+)([DWM]?):", said)
            if found is None:  # the file is too short, whatever the window
                assert f"has {length} bars" in said
                continue
            assert found[1] == str(given)
            longer = int(found[2]) if unit == "bars" else found[2] + found[3]
            again = refusal(samples, bars, experiment.replace(schedule=schedule.replace(train=longer)))
            assert again is None or f"has {length} bars" in again  # the window is no longer in the way


def test_a_window_named_as_the_shortest_is_the_shortest() -> None:
    bars = synthetic.a1(440, seed=1)
    for train, shortest in ((20, 49), ("1W", "11W")):  # 28 rows are answered: 6 validate, 1 is known before them
        experiment = Experiment(
            bars=bars, features=("ret_log_1",), horizon=22, schedule=Schedule(train=train, refit="1M")
        )
        with pytest.raises(HistoryTooShortError, match=f"would do is {shortest}: --train {shortest}, "):
            enough_history(experiment.make_samples(bars), bars, experiment.schedule, experiment.sampling)
