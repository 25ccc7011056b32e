"""Wrong types given to the public functions are refused by name: what was expected, what came, what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import gatecast
from gatecast.arguments import checked, fits
from gatecast.errors import BarsError, GatecastError, SettingsError
from gatecast.live import forecast
from gatecast.market import synthetic


class Strange:
    """A thing that no argument takes."""

    def __repr__(self) -> str:
        return "Strange()"


STRANGE: tuple[Any, ...] = (
    5, 2.5, float("nan"), True, "text", b"bytes", None, [], [5], {}, {"a": 5}, (1, "a"), {3}, Strange(), np.arange(3),
    pl.DataFrame({"a": [1]}), print, 1j,
)  # fmt: skip
FUNCTIONS = sorted(name for name in gatecast.__all__ if inspect.isfunction(getattr(gatecast, name)))


UNTYPED = (
    ("read_bars", "source"),
    ("compute_features", "bars"),
    ("backtest", "weights"),
    ("read_bars", "splits"),
    ("read_bars", "actions"),
    ("read_bars", "delisting"),
    ("forecast_newest", "bars"),
    ("judge_forecasts", "source"),
)
"""Arguments that take frames of several libraries: the functions that read them refuse all else."""


def good(folder: Path) -> dict[str, dict[str, Any]]:
    """Arguments that each function takes; what follows the checks of types fails soon, by an error of ours."""
    bars = synthetic.a1(60, seed=1)
    experiment = gatecast.Experiment(bars=bars)
    return {
        "audit": {"experiment": experiment},
        "backtest": {"weights": bars.select("symbol", "time", weight=pl.lit(0.0)), "bars": bars},
        "cadence": {"experiment": experiment},
        "chain_of": {"run": None},
        "compare": {"first": None, "second": None},
        "compute_features": {"bars": bars},
        "explain": {"of": folder / "none"},
        "forecast_newest": {"run": folder / "none", "bars": bars},
        "judge": {
            "records": {}, "strategy": np.zeros(9), "benchmark": np.zeros(9), "round_trip": 0.0,
            "periods_per_year": 252.0,
        },
        "judge_forecasts": {
            "source": bars.select("symbol", "time", direction=0.5), "bars": bars, "horizon": 1, "copies": 0,
        },
        "load_models": {"folder": folder / "none"},
        "load_run": {"folder": folder / "none"},
        "make_samples": {"bars": bars},
        "placebo": {"experiment": experiment, "copies": 1},
        "read_bars": {"source": bars},
        "run": {"experiment": experiment},
        "save_run": {"run": None, "folder": folder},
        "sensitivity": {"run": None, "over": {}},
        "truth": {"only": ["none"]},
        "tune": {"experiment": experiment},
        "unseal": {"run": None},
        "walk_forward": {"forecasters": [], "samples": None, "schedule": gatecast.Schedule()},
    }  # fmt: skip


def arguments() -> Iterator[tuple[str, str]]:
    for name in FUNCTIONS:
        for argument in inspect.signature(getattr(gatecast, name)).parameters:
            yield name, argument


@pytest.mark.parametrize(("name", "argument"), list(arguments()))
def test_every_argument_takes_its_type_or_an_error_of_ours(
    name: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes, nothing but an error of gatecast's leaves a public function."""
    monkeypatch.chdir(tmp_path)  # "text" is a folder, too
    function = getattr(gatecast, name)
    given = good(tmp_path)[name]
    said = []
    strange = STRANGE if name != "truth" else (*STRANGE[:6], [5], Strange())  # of nothing it would run all there is
    for value in strange:
        try:
            function(**given | {argument: value})
        except GatecastError as error:
            said.append(str(error))
    assert all(len(text) > 20 for text in said)
    refused = [text for text in said if f"{argument} must be" in text]
    assert len(refused) >= 5 or (name, argument) in UNTYPED


def test_the_error_says_what_was_expected_what_came_and_what_to_do() -> None:
    bars = synthetic.a1(60, seed=1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"timezone": 5}, "read_bars: timezone must be text or None; got 5 (int). Correct this argument."),
        ({"known_at": "16d"}, "known_at must be a dictionary (keys: text, values: text) or None; got '16d' (str)"),
        ({"symbols": 5}, "symbols must be text, a list (each: text) or None; got 5 (int)"),
        ({"symbols": ["A1", 5]}, "got ['A1', 5] (list)"),
        ({"scale": "2"}, "scale must be a number or None; got '2' (str)"),
        ({"start": 2018}, "start must be text, a date or None; got 2018 (int)"),
    ]  # fmt: skip
    for wrong, said in cases:
        with pytest.raises(BarsError) as refused:
            gatecast.read_bars(bars, **wrong)
        assert said in str(refused.value)
    with pytest.raises(SettingsError, match=r"experiment must be an Experiment; got 'a.toml' .*from_toml"):
        gatecast.run("a.toml")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="path must be text or a path; got 5"):
        gatecast.Experiment.from_toml(5)  # type: ignore[arg-type]


SETTINGS = ("LSTM", "Control", "Costs", "Experiment", "Forest", "Logistic", "Ridge", "Schedule")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_takes_its_type_or_an_error_of_ours(name: str) -> None:
    owner = getattr(gatecast, name)
    for field in owner.model_fields:
        said = []
        for value in (*STRANGE, [[]], {"source": 5}, {"a": {}}):
            try:
                owner(**{field: value})
            except SettingsError as error:
                said.append(str(error))
        assert all(field in text for text in said)
        assert said or field == "bars"
    for value in (5, Strange(), [], {3}):
        with pytest.raises(GatecastError):
            gatecast.run(gatecast.Experiment(bars=value))


def test_numbers_of_numpy_and_texts_in_any_list_are_taken() -> None:
    assert fits(np.int64(3), int)
    assert fits(np.float32(3), float)
    assert not fits(np.bool_(True), int)
    bars = synthetic.a1(60, seed=1)
    assert len(gatecast.read_bars(bars, symbols=("A1",), scale=np.float64(1))) == 60


def test_a_number_of_thousands_of_digits_is_refused_in_a_sentence() -> None:
    @checked
    def named(name: str) -> str:
        return name

    with pytest.raises(SettingsError, match="about 5,000 digits"):
        named(10**5000)  # type: ignore[arg-type]


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no time zone"):
        forecast("absent", pl.DataFrame(), now=datetime(2024, 1, 31))


class Mute:
    """A thing that fails to describe itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


@pytest.mark.parametrize(
    "setting", [{name: Mute()} for name in gatecast.Experiment.model_fields if name != "bars"]
    + [{"model": {"ridge": Mute()}}, {"strategy": {"drift": Mute()}}, {"model": {Mute(): {}}}],
)  # fmt: skip
def test_a_setting_that_fails_to_describe_itself_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(GatecastError) as refused:
        gatecast.Experiment(**setting)
    assert str(refused.value)


@pytest.mark.parametrize("folder", ["\0", "\ud800", "a\0b"])
def test_a_path_that_no_file_can_have_is_refused_in_words_that_can_be_written(folder: str) -> None:
    for asked in (gatecast.load_run, gatecast.read_bars, gatecast.Experiment.from_toml):
        with pytest.raises(GatecastError) as refused:
            asked(folder)
        assert str(refused.value).encode()
