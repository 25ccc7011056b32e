"""Files of an account: what is a number in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatecast.errors import BarsFileError
from gatecast.live.positions import read_fills, read_open_orders, read_positions

ABOVE = "# as_of: 2024-06-28\n"
TIME = "2024-07-01T13:30"


def held(folder: Path, lines: list[str], separator: str = ";", head: str = "symbol,units") -> dict[str, float]:
    file = folder / "held.csv"
    text = "\n".join([head, *lines, ""]).replace(",", separator)
    file.write_text(ABOVE + text)
    return dict(read_positions(file).units)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("cell", ["1.000", "-12.345", "+999.999"])
def test_a_point_that_may_be_of_thousands_is_refused(tmp_path: Path, cell: str, separator: str) -> None:
    plain = cell.replace(".", "")
    with pytest.raises(BarsFileError, match="of thousands or of decimals") as told:
        held(tmp_path, [f"SPY,{cell}"], separator)
    assert f"Write {plain}, or {cell}0." in str(told.value)
    assert held(tmp_path, [f"SPY,{plain}"], separator) == {"SPY": float(plain)}
    assert held(tmp_path, [f"SPY,{cell}0"], separator) == {"SPY": float(cell)}
    assert held(tmp_path, [f"SPY,{cell}"], ",") == {"SPY": float(cell)}


@pytest.mark.parametrize("shows", ["0.125", "1000.5", "2.50", "0.5"])
def test_a_number_that_shows_that_points_are_of_decimals_is_enough(tmp_path: Path, shows: str) -> None:
    assert held(tmp_path, [f"A,{shows}", "B,1.000"]) == {"A": float(shows), "B": 1.0}
    assert held(tmp_path, [f"B,1.000,{shows}"], head="symbol,units,price") == {"B": 1.0}


def test_prices_and_rests_are_held_to_the_same_rule(tmp_path: Path) -> None:
    with pytest.raises(BarsFileError, match="column 'price'"):
        held(tmp_path, ["A,5,1.000"], head="symbol,units,price")
    file = tmp_path / "other.csv"
    file.write_text(f"fill_id;order_id;symbol;side;units;price;time\n1;a;A;buy;1.000;9;{TIME}\n")
    with pytest.raises(BarsFileError, match="column 'units'"):
        read_fills(file)
    file.write_text("order_id;symbol;side;remaining\na;A;buy;1.000\n")
    with pytest.raises(BarsFileError, match="column 'remaining'"):
        read_open_orders(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=st.lists(st.integers(-999_999, 999_999), min_size=1, max_size=4))
def test_whatever_is_read_with_points_of_thousands_is_no_other_number(tmp_path: Path, units: list[int]) -> None:
    """Whole units, written as in Europe, are refused or read as they are; never as a thousandth."""
    lines = [f"S{number},{one:,}" for number, one in enumerate(units)]
    lines = [line.split(",", 1)[0] + "," + line.split(",", 1)[1].replace(",", ".") for line in lines]
    try:
        found = held(tmp_path, lines)
    except BarsFileError:
        return
    assert list(found.values()) == units
