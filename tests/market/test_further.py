"""Further columns of any name, scale and content: read as they are, or told with the place and what to do."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import gatecast
from gatecast.audits.leaks import level_features
from gatecast.audits.tables import Garbage, up_to
from gatecast.errors import BarsError, BarsFileError, FeatureError
from gatecast.evaluation.knowing import knowing
from gatecast.forecasting.scaling import Scaler
from gatecast.market import findings, synthetic
from gatecast.market.bars import COLUMNS, make_bars, opens_are_real, resample
from gatecast.market.calendar import listings
from gatecast.market.merging import merge_bars
from gatecast.market.sources import Reading, read_bars, read_with_findings
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.samples.features import compute_features
from gatecast.samples.features.catalogue import FEATURES, register
from gatecast.samples.targets import make_targets
from gatecast.samples.windows import make_samples
from gatecast.trading.backtest import backtest

NOW = datetime(2035, 1, 1, tzinfo=UTC)
BARS = synthetic.a1(400, seed=3, symbols=2)
NOISE = np.random.default_rng(3).standard_normal(len(BARS))


def read(source: Any, **options: Any) -> Reading:
    return read_with_findings(source, now=NOW, **options)


def told(reading: Reading) -> dict[str, Any]:
    """rule -> value of the first finding by it."""
    return {one.rule: one.value for one in reversed(reading.findings)}


def csv_of(path: Path, columns: dict[str, list[str]], count: int = 60, separator: str = ",") -> Path:
    """A CSV of the first bars of one symbol with further columns of text."""
    own = BARS.filter(pl.col("symbol") == BARS["symbol"][0]).head(count)
    frame = own.select(
        pl.col("time").dt.strftime("%Y-%m-%d").alias("date"), "open", "high", "low", "close", "volume"
    ).with_columns(pl.Series(name, cells) for name, cells in columns.items())
    frame.write_csv(path, separator=separator)
    return path


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def helper_names() -> list[str]:
    """Every name that a helper column has in the package: what is given to Polars to call a column by."""
    names = set()
    calls = ("with_columns", "select", "agg", "alias", "with_row_index", "col", "over", "group_by", "drop")
    for path in Path(gatecast.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls:
                names |= {word.arg for word in node.keywords if word.arg}
                names |= {
                    one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    spelt = {spelling for group in SPELLINGS.values() for spelling in group} | set(SPELLINGS)
    kept = {snake(name) for name in names if re.fullmatch(r"_?[a-z][a-z0-9_]{0,30}", name)}
    return sorted(
        name for name in kept - spelt - set(FEATURES) - set(COLUMNS) - {"session_date"}
        if not re.search(r"_known_at$|^(bid|ask)_|^unnamed|^index$|^level_0$|^column$", name) and name
    )  # fmt: skip


@pytest.fixture(scope="module")
def named() -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """The bars with a column of every helper's name, and with as many columns of neutral names."""
    names = helper_names()
    assert {"at", "known", "weight", "listing", "r", "proxy", "step", "starts", "row", "usual"} <= set(names)
    values = [pl.Series(name, np.roll(NOISE, k)) for k, name in enumerate(names)]
    neutral = [one.alias(f"neutral{k}x") for k, one in enumerate(values)]
    return BARS.with_columns(values), BARS.with_columns(neutral), names


def test_columns_of_every_helpers_name_are_read_as_those_of_neutral_names(
    named: tuple[pl.DataFrame, pl.DataFrame, list[str]],
) -> None:
    odd, neutral, names = named
    assert len(names) > 150
    one, other = read(odd), read(neutral)
    assert one.bars.columns == [*COLUMNS, *names]
    assert_frame_equal(one.bars.rename(dict(zip(one.bars.columns, other.bars.columns, strict=True))), other.bars)
    assert [(f.rule, f.value) for f in one.findings] == [(f.rule, f.value) for f in other.findings]
    delayed = dict.fromkeys(("at", "known", "value", "row", "r"), "2d")
    late = read(odd.select(*COLUMNS, *delayed), known_at=delayed).bars
    expected = read(odd.select(*COLUMNS, x="row"), known_at={"x": "2d"}).bars
    assert late["row"].equals(expected["x"].alias("row"))


def test_columns_of_every_helpers_name_change_nothing_downstream(
    named: tuple[pl.DataFrame, pl.DataFrame, list[str]],
) -> None:
    odd, neutral, names = named
    odd, neutral = read(odd).bars, read(neutral).bars
    plain = odd.select(COLUMNS)
    assert findings(odd) == findings(plain)
    assert listings(odd).equals(listings(plain))
    assert opens_are_real(odd) == opens_are_real(plain)
    assert_frame_equal(resample(odd, "1w").select(COLUMNS), resample(plain, "1w"))
    merged = merge_bars(odd.filter(pl.col("time") < odd["time"].max()), odd)
    assert_frame_equal(merged.bars, odd)
    assert_frame_equal(compute_features(odd, names)[:, 2:], odd.select(names))
    weights = plain.select("symbol", "time", weight=pl.lit(0.5))
    assert_frame_equal(backtest(weights, odd).equity, backtest(weights, plain).equity)
    last = odd["time"].max().replace(tzinfo=None)  # type: ignore[union-attr]
    cut = np.datetime64(last, "us") - np.timedelta64(9, "D")
    assert Garbage(odd).after(cut).columns == odd.columns
    assert up_to(odd, cut).columns == odd.columns
    some = ["at", "known", "row", "weight", "usual", "r", "proxy", "step", "log_close"]
    for name, twin in zip(some, (f"neutral{names.index(name)}x" for name in some), strict=True):
        one, other = make_samples(odd, ("ret_log_1", name)), make_samples(neutral, ("ret_log_1", twin))
        assert np.array_equal(one["index"].features, other["index"].features, equal_nan=True)
        assert [leak.value for leak in level_features(odd, [name])] == [
            leak.value for leak in level_features(neutral, [twin])
        ]


@pytest.mark.parametrize("name", ["r", "proxy", "unit", "latest", "floor", "count", "total", "closes"])
def test_a_proxy_of_variance_may_have_any_name(name: str) -> None:
    variance = (NOISE**2 * 1e-4).clip(1e-9)
    odd, neutral = (BARS.with_columns(pl.Series(one, variance)) for one in (name, "neutral"))
    one, other = (make_targets(bars, 5, called)[1] for bars, called in ((odd, name), (neutral, "neutral")))
    assert np.array_equal(one.har, other.har, equal_nan=True)


def test_the_name_of_what_features_read_the_session_from_is_refused() -> None:
    with pytest.raises(FeatureError, match="rename the column"):
        compute_features(BARS.with_columns(session_date=pl.lit(1.0)), ["session_date"])
    bars = BARS.with_columns(session_date=pl.lit(1.0))
    assert_frame_equal(compute_features(bars, ["day_of_week"]), compute_features(BARS, ["day_of_week"]))


def test_names_of_helper_columns_are_refused_in_bars_made_by_hand() -> None:
    with pytest.raises(BarsError, match="kept for helper columns: rename _mine"):
        make_bars(BARS.with_columns(_mine=pl.lit(1.0)))
    assert "mine" in read(BARS.with_columns(_mine=pl.lit(1.0))).bars.columns


# ── scale ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e-20, 1e40, 1e200, 1e307])
def test_a_column_of_odd_scale_is_refused_with_what_to_do(factor: float) -> None:
    bars = BARS.with_columns(x=pl.Series(NOISE * factor))
    advice = "multiply it by" if factor < 1 else "divide it by"
    with pytest.raises(BarsFileError, match=advice) as caught:
        read(bars)
    assert (caught.value.column, caught.value.line is not None) == ("x", True)
    with pytest.raises(BarsError, match=f"'x' reaches .*{advice}"):
        make_bars(bars)


def test_few_cells_beyond_the_bounds_are_emptied_and_told() -> None:
    bars = BARS.with_columns(x=pl.Series(np.where(np.arange(len(BARS)) % 100 == 7, 1e200, NOISE)))
    reading = read(bars)
    assert told(reading)["out_of_bounds"] == 4  # of each symbol
    assert reading.bars["x"].null_count() == 8
    assert reading.bars["x"].abs().max() == np.abs(NOISE[np.arange(len(BARS)) % 100 != 7]).max()


@pytest.mark.parametrize("factor", [1e-11, 1e-6, 1e6, 1e27])
def test_what_is_said_of_a_column_does_not_hang_on_its_scale(factor: float) -> None:
    close = BARS["close"].log()
    ahead = close.shift(-1).fill_null(strategy="forward") - close
    leaky = BARS.with_columns(x=ahead + pl.Series(NOISE) * 0.005, z=pl.Series(NOISE))
    scaled = leaky.with_columns(pl.col("x", "z") * factor)
    one, other = (knowing(bars.filter(pl.col("symbol") == BARS["symbol"][0]), ["x", "z"]) for bars in (leaky, scaled))
    assert [found.columns for found in one] == [found.columns for found in other] == [("x",)]
    assert one[0].r2 == pytest.approx(other[0].r2, rel=1e-6)
    assert [leak.column for leak in level_features(leaky, ["x", "z"])] == ["x"]
    assert [leak.column for leak in level_features(scaled, ["x", "z"])] == ["x"]
    values = NOISE[:, None]
    assert np.allclose(Scaler.fit(values * factor).transform(values * factor), Scaler.fit(values).transform(values))


def test_a_registered_function_beyond_the_bounds_is_refused() -> None:
    @register("huge", warmup=0)
    def huge(close: Any) -> Any:
        return close * 1e200

    try:
        with pytest.raises(FeatureError, match=r"'huge' reaches .* beyond 1e\+30"):
            compute_features(BARS, ["huge"])
    finally:
        FEATURES.remove("huge")


# ── known times ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("column", ["time", "date", "open_time", "Date", "known_at", "timestamp"])
def test_the_rows_own_time_is_no_known_time_of_a_column(tmp_path: Path, column: str) -> None:
    path = csv_of(tmp_path / "A.csv", {"x": ["1"] * 60, "published": ["2000-01-01"] * 60})
    with pytest.raises(BarsError, match=r"the row's own time.*delay .*'16d'"):
        read(path, known_at={"x": column})


def test_columns_that_can_be_known_times_are_named(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "A.csv", {"x": ["1"] * 60, "published": ["2000-01-01"] * 60})
    with pytest.raises(BarsError, match="Known: published"):
        read(path, known_at={"x": "zzz"})
    with pytest.raises(BarsError, match="no column of times beside"):
        read(BARS.with_columns(x=pl.lit(1.0)), known_at={"x": "zzz"})
    for name in ("traded", "segment", "is_trading", "volume"):
        with pytest.raises(BarsError, match="are known with their row"):
            read(path, known_at={name: "2d"})
    with pytest.raises(BarsError, match="There is no further column of numbers"):
        read(BARS, known_at={"x": "2d"})
    with pytest.raises(BarsError, match="names the column itself"):
        read(path, known_at={"x": "x"})


# ── columns that stop, and columns of text ────────────────────────────────────────────────────────


def test_a_column_that_stops_is_told_with_its_last_bar() -> None:
    number = pl.int_range(pl.len()).over("symbol")
    first = pl.col("symbol") == BARS["symbol"][0]
    bars = BARS.with_columns(x=pl.when(~first | (number <= 250)).then(pl.lit(1.5)))
    (found,) = [one for one in read(bars).findings if one.rule == "column_ends"]
    own = bars.filter(first)
    assert (found.symbol, found.value, found.time) == (BARS["symbol"][0], 149, own["time"][250])
    assert "149 bar(s) after it have none" in found.advice
    quarterly = BARS.with_columns(x=pl.when(number % 60 == 5).then(pl.lit(1.5)))  # 34 bars after the last: no pause
    assert "column_ends" not in told(read(quarterly))


def test_a_column_without_any_value_is_told(tmp_path: Path) -> None:
    empty = read(csv_of(tmp_path / "A.csv", {"x": [""] * 60}))
    assert told(empty)["column_empty"] == 60
    bars = BARS.with_columns(x=pl.lit(1.5))
    assert told(read(bars, known_at={"x": "99999w"}))["column_empty"] == 400
    assert not {"column_empty", "column_ends"} & set(told(read(bars, known_at={"x": "2d"})))


@pytest.mark.parametrize("cell", ["oops", "15%", "1,5"])
def test_one_cell_of_text_is_told_with_its_place(tmp_path: Path, cell: str) -> None:
    cells = [f"{n}.5" for n in range(60)]
    cells[20] = cell
    path = csv_of(tmp_path / "A.csv", {"x": cells})
    reading = read(path)
    (found,) = [one for one in reading.findings if one.rule == "column_dropped"]
    assert (found.severity, found.line, found.value, found.file) == ("warning", 22, cell, str(path))
    assert "x" not in reading.bars.columns
    for wish in ({"known_at": {"x": "2d"}}, {"columns": ["x"]}):
        with pytest.raises(BarsFileError, match="asked for, but 1 cell") as caught:
            read(path, **wish)
        assert (caught.value.line, caught.value.column, caught.value.value) == (22, "x", cell)


def test_columns_of_words_are_left_out_without_a_word(tmp_path: Path) -> None:
    reading = read(csv_of(tmp_path / "A.csv", {"sector": ["energy"] * 60, "side": ["1"] * 10 + ["buy"] * 50}))
    assert "column_dropped" not in told(reading)
    assert reading.bars.columns == list(COLUMNS)


def test_per_cent_and_decimal_commas_are_read_where_all_cells_have_them(tmp_path: Path) -> None:
    reading = read(csv_of(tmp_path / "A.csv", {"x": [f"{n}.5%" for n in range(59)] + ["n/a"]}))
    assert told(reading)["per_cent"] == 59
    assert reading.bars["x"].to_list() == pytest.approx([(n + 0.5) / 100 for n in range(59)] + [None])
    own = BARS.filter(pl.col("symbol") == BARS["symbol"][0]).head(60)
    table = own.select(pl.col("time").dt.strftime("%Y-%m-%d").alias("date"), "open", "high", "low", "close")
    table = table.with_columns(x=pl.Series([f"{n}.25" for n in range(60)]))
    german = table.with_columns(pl.all().cast(pl.String).str.replace(".", ",", literal=True))
    german.write_csv(tmp_path / "G.csv", separator=";")
    assert read(tmp_path / "G.csv").bars["x"].to_list() == [n + 0.25 for n in range(60)]


# ── versions, closes alone, words ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("versions", ["first", "newest"])
@pytest.mark.parametrize("broken", [{"low": float("nan")}, {"close": 0.0}, {"high": 1e-3}, {"volume": -1.0}])
def test_the_first_version_that_is_a_sound_bar_counts(broken: dict[str, float], versions: Any) -> None:
    own = BARS.filter(pl.col("symbol") == BARS["symbol"][0])
    hour = timedelta(hours=1)
    row = own[30].with_columns(**{name: pl.lit(value) for name, value in broken.items()})
    later = own[30].with_columns(pl.col("known_at") + hour)
    parts = [own[:30], row, later, own[31:]]
    if versions == "newest":
        parts = [own[:30], own[30], row.with_columns(pl.col("known_at") + hour), own[31:]]
    reading = read(pl.concat(parts), versions=versions)
    assert reading.bars.height == 400
    assert reading.bars.select(COLUMNS[3:8]).row(30) == own.select(COLUMNS[3:8]).row(30)
    wait = timedelta() if versions == "newest" else hour
    assert reading.bars["known_at"][30] == own["time"][30] + wait
    assert told(reading)["bad_version"] == 1
    assert not any(one.severity == "error" for one in reading.findings)
    assert reading.bars["segment"].max() == 0


def test_where_no_version_is_sound_the_bar_is_left_out() -> None:
    own = BARS.filter(pl.col("symbol") == BARS["symbol"][0])
    row = own[30].with_columns(low=pl.lit(float("nan")))
    worse = row.with_columns(pl.col("known_at") + timedelta(hours=1), high=pl.lit(float("inf")))
    reading = read(pl.concat([own[:30], row, worse, own[31:]]))
    assert reading.bars.height == 399
    assert "missing_price" in told(reading)


def test_closes_alone_are_bars_without_ranges_and_opens(tmp_path: Path) -> None:
    own = BARS.filter(pl.col("symbol") == BARS["symbol"][0])
    table = own.select(pl.col("time").dt.strftime("%Y-%m-%d").alias("date"), "close")
    table.write_csv(tmp_path / "A.csv")
    reading = read(tmp_path / "A.csv")
    assert told(reading)["closes_only"] == 400
    bars = reading.bars
    assert bars["close"].to_list() == pytest.approx(own["close"].to_list(), rel=1e-12)
    assert all(bars[name].equals(bars["close"].alias(name)) for name in ("open", "high", "low"))
    assert_frame_equal(read(table).bars.drop("symbol"), bars.drop("symbol"))
    assert opens_are_real(bars) == {"A": False}
    weights = bars.select("symbol", "time", weight=(pl.int_range(pl.len()) % 3 - 1).cast(pl.Float64))[5:]
    chosen = backtest(weights, bars)
    assert_frame_equal(chosen.equity, backtest(weights, bars, fills={"A": "close"}).equity)
    assert chosen.fills == {"A": 0.0}
    _, facts = make_targets(bars, 1)
    squared = np.diff(np.log(own["close"].to_numpy())) ** 2
    assert np.exp(facts.har[30, 0]) == pytest.approx(squared[29], rel=1e-9)
    with pytest.raises(BarsFileError, match="no column for high, low"):
        read(table.with_columns(open=pl.col("close")))


def test_the_value_of_short_history_is_the_number_of_bars() -> None:
    assert {one.rule: one.value for one in findings(BARS.group_by("symbol").head(89))}["short_history"] == 89


def test_the_warning_of_late_bars_says_the_rule() -> None:
    late = BARS.with_columns(pl.col("known_at") + timedelta(days=2))
    (found, *_) = [one for one in read(late).findings if one.rule == "late"]
    assert "made from the bars known by then, if the newest is at most 3 sessions old" in found.advice
    samples = make_samples(late)["index"]
    assert len(samples)
    assert (samples.decided > samples.ends).all()


def test_paths_and_lists_that_can_be_nothing_are_refused() -> None:
    for path in ("a" * 5000, "a\0b", "b" * 300 + "*.csv"):
        with pytest.raises(BarsFileError):
            read(path)
    with pytest.raises(BarsFileError, match=r"no such table of actions"):
        read(BARS, actions="a" * 4000)
    with pytest.raises(BarsFileError, match="no such symbols file"):
        read(BARS, symbols_file="a" * 4000)
    with pytest.raises(BarsError, match="symbols_file: a text of 5,000 characters"):
        read(BARS, symbols_file="a" * 5000)
    with pytest.raises(BarsError, match="symbols is an empty list"):
        read_bars(BARS, symbols=[])


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [("-30%", ",", -0.3), ("-0,3", ";", -0.3), ("-30 %", ";", -0.3), ("-12,5%", ";", -0.125), ("-0.3", ",", -0.3)],
)
def test_last_returns_in_per_cent_and_with_decimal_commas(
    tmp_path: Path, cell: str, separator: str, expected: float
) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(separator.join(("symbol", "kind", "date", "value")) + "\n" + separator.join(
        (str(BARS["symbol"][0]), "delisting", f"{BARS['time'].max():%Y-%m-%d}", cell)) + "\n")  # fmt: skip
    assert read(BARS, actions=path).actions["value"].to_list() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("kind", "cell", "shown"),
    [
        ("split", "2:1", "'2:1'"), ("split", "abc", "'abc'"), ("split", '"1,000"', "'1,000'"),
        ("delisting", '"-0,3"', "'-0,3'"), ("split", "200%", "'200%'"), ("delisting", "-130%", "-1.3"),
        ("split", "", "an empty cell"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_shown_with_its_line(tmp_path: Path, kind: str, cell: str, shown: str) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(f"symbol,kind,date,value\n{BARS['symbol'][0]},{kind},{BARS['time'].max():%Y-%m-%d},{cell}\n")
    with pytest.raises(BarsFileError, match=f"got {re.escape(shown)}") as caught:
        read(BARS, actions=path)
    assert (caught.value.line, caught.value.column) == (2, "value")


def test_what_is_no_table_of_actions_is_refused_as_such() -> None:
    for source in ({"symbol": ["A"]}, 5, [1]):
        with pytest.raises(BarsError, match="a table of actions is a CSV or Parquet file, or a frame"):
            read(BARS, actions=source)


def test_a_delisting_among_the_bars_may_be_per_cent(tmp_path: Path) -> None:
    reading = read(csv_of(tmp_path / "A.csv", {"delisting": [""] * 59 + ["-55%"]}))
    assert reading.actions["value"].to_list() == [-0.55]


def test_tables_of_actions_that_are_cut_off_empty_or_nested_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,kind,date,value\nA,delisting,2018-06-13")
    with pytest.raises(BarsFileError, match="got an empty cell") as caught:
        read(BARS, actions=path)
    assert caught.value.line == 2
    path.write_text("")
    with pytest.raises(BarsFileError, match="Give a file with actions"):
        read(BARS, actions=path)
    path.write_text("symbol,kind,date,value\n")
    assert read(BARS, actions=path).actions.is_empty()
    row = {"symbol": ["A"], "kind": ["split"], "date": ["2018-06-13"]}
    for value in ([[1.0]], [{"a": 1.0}]):
        with pytest.raises(BarsFileError, match="the column holds") as caught:
            read(BARS, actions=pl.DataFrame({**row, "value": value}))
        assert caught.value.column == "value"
