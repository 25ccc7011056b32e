"""Files of forecasts, quantiles and daily profits from anywhere: what is read, and what is refused with its place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gatecast.errors import BarsFileError, SettingsError
from gatecast.evaluation.outside import read_outside
from gatecast.evaluation.quantiles import pinball
from gatecast.market import synthetic

BARS = synthetic.a1(300, seed=1)
SYMBOL = BARS["symbol"][0]
DAYS = [f"{day:%Y-%m-%d}" for day in BARS["time"].dt.date()]


def file_of(folder: Path, text: str) -> Path:
    """A CSV file."""
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_long_and_wide_files_are_the_same_table(tmp_path: Path) -> None:
    long = file_of(tmp_path, f"symbol,date,head,step,value\n{SYMBOL},{DAYS[50]},direction,5,0.6\n")
    read = read_outside(long, BARS)
    wide = read_outside(pl.DataFrame({"day": [DAYS[50]], "direction": [0.6], "return": [None]}), BARS, horizon=5)
    assert read.models == ("mine",)
    assert wide.models == ("theirs",)
    assert read.rows.drop("model").rows() == wide.rows.drop("model").rows()
    assert read.rows["time"][0] == BARS["time"][50]  # a date stands for its session's close


def test_pandas_zones_and_spellings() -> None:
    moment = pd.Timestamp(BARS["time"][60]).tz_convert("Europe/Berlin")
    table = pd.DataFrame({"ticker": [SYMBOL], "timestamp": [moment], "forecast": [0.01], "task": ["return"], "step": 1})
    row = read_outside(table, BARS, name="other").rows.row(0, named=True)
    assert (row["time"], row["model"], row["head"], row["value"]) == (BARS["time"][60], "other", "return", 0.01)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (f"date,direction\n{DAYS[50]},0.6\n{DAYS[51]},x\n", 3, "no number"),
        (f"date,direction\n{DAYS[50]},0.6\nlate,0.5\n", 3, "no date and no time"),
        ("date,direction\n2000-01-09,0.5\n", 2, "no bar on 2000-01-09"),
        (f"date,quantile,value\n{DAYS[50]},1.5,0\n", 2, "no quantile"),
        (f"date,quantile,value\n{DAYS[50]},0.1,0\n{DAYS[50]},0.9,-1\n", 3, "below that of a lower level"),
        (f"date,step,return\n{DAYS[50]},,0.1\n", 2, "no number of bars ahead"),
        (f"date,step,return\n{DAYS[50]},2.5,0.1\n", 2, "no number of bars ahead"),
        (f"date,return\n{DAYS[50]},1e200\n", 2, "no forecast"),
        (f"date,net\n{DAYS[50]},0.01\n{DAYS[51]},-2\n", 3, "no net return of a day"),
        (f"date,net\n{DAYS[50]},0.01\n{DAYS[50]},0.02\n", 2, "the day is there twice"),
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(BarsFileError, match=said) as caught:
        read_outside(file_of(tmp_path, text), BARS, horizon=5)
    assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["symbol", "value"], "no column of times"),
        (["date", "price"], "neither forecasts nor profits"),
        (["date", "value"], "does not say what `value` is"),
        (["date", "direction"], "how many bars ahead"),
    ],
)
def test_a_table_that_lacks_a_column_is_refused(columns: list[str], said: str) -> None:
    table = pl.DataFrame({name: [DAYS[50]] if name in ("date", "symbol") else [0.5] for name in columns})
    with pytest.raises(SettingsError, match=said):
        read_outside(table, BARS, horizon=None if "direction" in columns else 5)


def test_several_symbols_need_a_column_of_them() -> None:
    several = synthetic.b1(100, seed=1, symbols=2)
    with pytest.raises(SettingsError, match="has no column `symbol`, and the bars have 2"):
        read_outside(pl.DataFrame({"date": [DAYS[50]], "direction": [0.5]}), several, horizon=5)


def test_pinball_is_the_absolute_error_at_the_median() -> None:
    answer = np.random.default_rng(0).standard_normal(50)
    assert np.allclose(2 * pinball(0.5, np.zeros(50), answer), np.abs(answer))


@pytest.mark.parametrize("text", ["date,return\n", f"date,return\n{DAYS[50]},\n"])
def test_a_file_without_a_forecast_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="has no forecast"):
        read_outside(file_of(tmp_path, text), BARS, horizon=5)


def test_columns_of_a_type_that_says_nothing_are_refused() -> None:
    table = pl.DataFrame({"date": [DAYS[50]], "return": [timedelta(days=1)]})
    with pytest.raises(BarsFileError, match="the column holds Duration"):
        read_outside(table, BARS, horizon=5)


def test_a_profit_is_of_the_day_that_it_was_written_for() -> None:
    late = pl.DataFrame({"time": ["2001-03-05T23:30:00-05:00"], "net": [0.01]})
    assert str(read_outside(late, BARS).rows["day"][0]) == "2001-03-05"
