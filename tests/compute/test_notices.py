"""What a machine could not do for a run is in the run's scores and on its page, once, and ends nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from gatecast.compute.notices import notice, notices
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.machine import Machine
from gatecast.report import render
from gatecast.runs import run


def test_threads_are_heard_and_each_sentence_once() -> None:
    with notices() as outer, notices() as inner:
        threads = [threading.Thread(target=notice, args=(f"sentence {i % 2}.",)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outer) == sorted(inner) == ["sentence 0.", "sentence 1."]


def test_outside_of_a_run_it_is_a_warning_once(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(UserWarning, match="said outside of a run"):
        notice("said outside of a run.")
    notice("said outside of a run.")  # a second warning would be an error
    assert len(recwarn) == 0


def test_networks_that_cannot_be_kept_are_in_the_scores_and_on_the_page(market: pl.DataFrame) -> None:
    experiment = Experiment(
        bars=market, features=("ret_log_1", "x"), schedule=Schedule(refit="1Y"),
        model={"lstm": LSTM(units=16, layers=1, seeds=2, epochs=2)},
    )  # fmt: skip
    plain = run(experiment)
    found = run(experiment, machine=Machine(unfinished=Path("/proc/no")))
    more = [one for one in found.scores["warnings"] if one not in plain.scores["warnings"]]
    assert len(more) == 1
    assert more[0].startswith("trained networks cannot be kept in /proc/no (")
    assert "trained networks cannot be kept in /proc/no" in render(found)
    assert found.forecasts.equals(plain.forecasts)
