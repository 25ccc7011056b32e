"""The table of actions: splits and last returns, when they are known, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError
from gatecast.experiment import Experiment
from gatecast.market import read_bars, read_with_findings, synthetic
from gatecast.market.actions import SCHEMA, TERMS, no_actions, read_actions
from gatecast.market.ends import find_ends
from gatecast.market.reading import BarsSettings

PRICES = ("open", "high", "low", "close")
WALK = synthetic.a1(80, seed=5).with_columns(symbol=pl.lit("A"), asset_class=pl.lit("equity"))
DAY = WALK["time"][40].date()
LAST = WALK["time"][-1].date()


def unadjusted(ratio: float = 7.0) -> pl.DataFrame:
    """A split on the 41st day that the prices do not contain."""
    before = pl.col("time") < WALK["time"][40]
    return WALK.with_columns(
        pl.when(before).then(pl.col(name) * ratio).otherwise(name) for name in ("open", "high", "low", "close")
    )


def table(**columns: Any) -> pl.DataFrame:
    row = {"symbol": "A", "kind": "split", "date": DAY, "value": 7.0} | columns
    return pl.DataFrame({name: value if isinstance(value, list) else [value] for name, value in row.items()})


def test_a_split_of_the_table_does_what_the_splits_do(tmp_path: Path) -> None:
    splits = pl.DataFrame({"symbol": ["A"], "date": [DAY], "ratio": [7.0]})
    table(source="exchange").write_csv(tmp_path / "actions.csv")
    table().rename({"date": "ex_date"}).write_parquet(tmp_path / "actions.parquet")
    expected = read_with_findings(unadjusted(), splits=splits)
    for actions in (table(), table().to_pandas(), tmp_path / "actions.csv", str(tmp_path / "actions.parquet")):
        found = read_with_findings(unadjusted(), actions=actions)
        assert_frame_equal(found.bars, expected.bars)
        assert_frame_equal(found.actions, expected.actions)
        assert found.findings == expected.findings
    assert expected.bars["close"].to_list() == pytest.approx(WALK["close"].to_list())
    assert expected.actions.select(list(SCHEMA)).rows() == [
        ("A", "split", DAY, 7.0, datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC))
    ]
    both = read_with_findings(unadjusted(), splits=splits, actions=table())
    assert_frame_equal(both.bars, expected.bars)
    with pytest.raises(BarsError, match="two tables differ in the split of 'A'"):
        read_bars(unadjusted(), splits=splits, actions=table(value=8.0))


def test_a_true_move_is_listed_with_ratio_1() -> None:
    assert_frame_equal(read_bars(unadjusted(), actions=table(value=1.0)), read_bars(unadjusted(), splits=False))


def test_a_refused_split_names_every_way_out(tmp_path: Path) -> None:
    with pytest.raises(BarsFileError) as caught:
        read_bars(unadjusted())
    for way in ("splits= in Python", 'splits = "FILE" under [bars]', "--splits FILE", "splits=False", "--splits false"):
        assert way in str(caught.value)
    (tmp_path / "splits.csv").write_text(f"symbol,date,ratio\nA,{DAY},7\n")
    settings = BarsSettings(source="frame", frame=unadjusted(), splits=str(tmp_path / "splits.csv"))
    assert Experiment(bars=settings).read().actions["value"].to_list() == [7.0]
    assert read_bars(BarsSettings(source="frame", frame=unadjusted(), splits=False)).height == 80


def test_a_last_return_in_a_column_and_in_a_table() -> None:
    last = pl.col("time") == WALK["time"][-1]
    column = WALK.with_columns(delisting=pl.when(last).then(-0.3))
    rows = [("A", "delisting", LAST, -0.3, WALK["time"][-1])]
    for options in (
        {"source": column},
        {"source": WALK, "delisting": table(value=-0.3).drop("kind")},
        {"source": WALK, "delisting": pl.DataFrame({"symbol": ["A"], "date": [str(LAST)], "return": [-0.3]})},
        {"source": WALK, "actions": table(kind="delisting", value=-0.3, date=LAST)},
    ):
        if "delisting" in options and "value" in options["delisting"].columns:
            options["delisting"] = options["delisting"].with_columns(date=pl.lit(LAST))
        reading = read_with_findings(**options)
        assert reading.actions.select(list(SCHEMA)).rows() == rows
        assert reading.bars.columns == WALK.columns
    assert read_with_findings(column, end=LAST - timedelta(days=1)).actions.height == 0


def test_a_last_return_elsewhere_is_refused() -> None:
    with pytest.raises(BarsFileError, match="last row alone") as caught:
        read_bars(WALK.with_columns(delisting=pl.lit(0.0)))
    assert (caught.value.line, caught.value.column) == (1, "delisting")
    last = pl.col("time") == WALK["time"][-1]
    with pytest.raises(BarsFileError, match="from -1 to 1; got -30"):
        read_bars(WALK.with_columns(delisting=pl.when(last).then(-30.0)))
    names = ("open", "high", "low", "close")
    without = WALK.with_columns(
        *(pl.when(~last).then(name).alias(name) for name in names), dlret=pl.when(last).then(-0.3)
    )
    with pytest.raises(BarsFileError, match="no price"):
        read_bars(without)


def test_a_delisting_after_the_last_bar_is_known_at_the_close_of_its_class() -> None:
    day = date(2030, 7, 1)
    told = pl.DataFrame({"symbol": ["A"], "date": [day], "value": [-0.5]})
    reading = read_with_findings(WALK, delisting=told, now=datetime(2031, 1, 1, tzinfo=UTC))
    assert reading.actions["known_at"].to_list() == [datetime(2030, 7, 1, 20, tzinfo=UTC)]


def test_what_is_known_later_is_left_out_and_of_versions_the_first_stays() -> None:
    two = table(
        value=[7.0, 8.0], symbol=["A"] * 2, kind=["split"] * 2, date=[DAY] * 2, known_at=["2000-01-05", "2000-01-03"]
    )
    assert read_actions(two).select("value", "known_at").rows() == [(8.0, datetime(2000, 1, 4, tzinfo=UTC))]
    later = table(value=1.0, known_at=str(LAST + timedelta(days=1)))
    assert read_with_findings(WALK, actions=later).actions.height == 1
    assert read_with_findings(WALK, actions=later, as_of=str(LAST)).actions.height == 0
    settings = BarsSettings(source="frame", frame=WALK)
    assert read_with_findings(settings, sealed=str(LAST)).actions.equals(no_actions())


@pytest.mark.parametrize("bound", ["end", "as_of", "sealed", "now"])
@pytest.mark.parametrize("beyond", ["dated", "known"])
def test_no_delisting_beyond_a_bound_is_booked(bound: str, beyond: str) -> None:
    """Dated a week after it though announced before, or dated before it and known a week later: neither is read."""
    day = WALK["time"][60].date()  # the last session within
    week = timedelta(days=7)
    other = WALK.with_columns(symbol=pl.lit("B"))
    stops = WALK.filter(pl.col("time") <= WALK["time"][60]) if beyond == "dated" else WALK[:58]
    dated, known = (day + week, day - week) if beyond == "dated" else (day - timedelta(days=1), day + week)
    last = stops["time"][-1].date()
    told = table(kind="delisting", date=dated, value=-0.3, known_at=known.isoformat())
    options: dict[str, Any] = {
        "end": {"end": str(day)},
        "as_of": {"as_of": str(day)},
        "sealed": {"sealed": str(day + timedelta(days=1)), "end": str(day)},
        "now": {"now": datetime(day.year, day.month, day.day, 23, tzinfo=UTC)},
    }[bound]
    bars = pl.concat([stops, other])
    if bound == "now":
        bars = bars.filter(pl.col("time") <= options["now"])
    reading = read_with_findings(bars, actions=told, **options)
    assert reading.bars["time"].max() == WALK["time"][60]
    assert reading.actions.height == 0
    assert find_ends(reading.bars, reading.actions).height == 0
    if bound == "now":
        assert ("action_to_come", "A") in {(one.rule, one.symbol) for one in reading.findings}
    inside = table(kind="delisting", date=last, value=-0.3, known_at=[None])
    reading = read_with_findings(bars, actions=inside, **options)
    assert find_ends(reading.bars, reading.actions).select("symbol", "kind", "value").rows() == [("A", "known", -0.3)]


def test_a_split_after_the_end_changes_no_price() -> None:
    splits = table(date=WALK["time"][70].date(), value=2.0)
    end = str(WALK["time"][60].date())
    assert_frame_equal(read_bars(WALK, end=end, actions=splits), read_bars(WALK, end=end))


def test_a_last_return_in_a_column_after_the_end_is_not_read() -> None:
    last = pl.int_range(pl.len()) == 70
    told = WALK[:71].with_columns(delisting=pl.when(last).then(-0.5))
    whole = read_with_findings(told)
    assert whole.actions["value"].to_list() == [-0.5]
    assert read_with_findings(told, end=str(WALK["time"][60].date())).actions.height == 0


def test_actions_of_symbols_without_bars_are_left_out() -> None:
    reading = read_with_findings(WALK, actions=table(symbol="ZZ"))
    assert reading.actions.height == 0
    (told,) = (one for one in reading.findings if one.rule == "action_unmatched")
    assert (told.severity, told.symbol) == ("warning", "ZZ")
    assert "Known: A." in told.advice
    spelt = read_with_findings(WALK, actions=table(symbol="a"), symbols="A").findings
    assert "Did you mean 'A'?" in next(one.advice for one in spelt if one.rule == "action_unmatched")
    assert not read_with_findings(WALK, actions=table(symbol="ZZ"), symbols="A").findings
    many = pl.concat([table(symbol=f"Z{n}") for n in range(30)])
    assert sum(one.rule == "action_unmatched" for one in read_with_findings(WALK, actions=many).findings) == 21
    assert read_with_findings(WALK).actions.schema == no_actions().schema


@pytest.mark.parametrize(
    ("columns", "place", "text"),
    [
        ({"kind": "bonus"}, "kind", "Known: delisting, dividend"),
        ({"kind": "splits"}, "kind", "Did you mean 'split'"),
        ({"value": 0.0}, "value", "positive ratio"),
        ({"value": None}, "value", "positive ratio"),
        ({"value": 1e7}, "value", "from 1e-6 to 1e6"),
        ({"kind": "delisting", "value": 30.0}, "value", "a fraction, such as -0.3, from -1 to 1; got 30"),
        ({"symbol": None}, "symbol", "missing"),
        ({"date": "soon"}, "date", "not a time"),
        ({"known_at": "2019-01-02 10:00"}, "known_at", "no zone"),
    ],
)
def test_rows_that_are_no_actions_are_refused_with_their_line(
    columns: dict[str, Any], place: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "actions.csv"
    pl.concat([table(date=str(DAY)), table(**{"date": str(DAY)} | columns)], how="diagonal_relaxed").write_csv(path)
    with pytest.raises(BarsFileError, match=text) as caught:
        read_actions(path)
    assert (caught.value.file, caught.value.line, caught.value.column) == (str(path), 3, place)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="missing: kind"):
        read_actions(table().drop("kind"))
    with pytest.raises(BarsError, match="needs the columns symbol, date and ratio"):
        read_actions(pd.DataFrame({"symbol": ["A"]}), kind="split")
    with pytest.raises(BarsFileError, match="no such table"):
        read_actions(tmp_path / "absent.csv")
    with pytest.raises(BarsFileError, match="two values"):
        read_actions(pl.concat([table(), table(value=8.0)]))
    assert read_actions(table().clear()).equals(no_actions())


@pytest.mark.parametrize(
    ("days", "text"),
    [
        ([40], "'A' has a delisting on .*, but trades on: its next bar is that of"),
        ([-200], "comes before the symbol's first bar"),
        ([78, 79], "and another on .*, but no bar between them"),
    ],
)
def test_a_delisting_that_its_own_bars_contradict_is_refused(days: list[int], text: str) -> None:
    dates = [WALK["time"][day].date() if day >= 0 else WALK["time"][0].date() + timedelta(days=day) for day in days]
    told = pl.DataFrame({"symbol": ["A"] * len(days), "date": dates, "value": [-0.5] * len(days)})
    with pytest.raises(BarsError, match=text):
        read_bars(WALK, delisting=told)
    if days == [-200]:  # the bars before it are cut off
        read_bars(WALK, delisting=told, start=WALK["time"][5].date())


def test_last_trades_are_cleared_after_a_delisting_and_a_symbol_may_come_back() -> None:
    told = pl.DataFrame({"symbol": ["A"], "date": [WALK["time"][76].date()], "value": [-0.5]})
    assert read_with_findings(WALK, delisting=told).actions.height == 1
    back = WALK.with_columns(
        pl.when(pl.col("time") > WALK["time"][60])
        .then(pl.col("time").dt.offset_by("120d"))
        .otherwise("time")
        .alias("time")
    )
    back = back.with_columns(known_at="time")
    early = told.with_columns(date=pl.lit(WALK["time"][60].date()))
    assert read_with_findings(back, delisting=early).actions.height == 1


@pytest.mark.parametrize("kind", ["split", "delisting"])
def test_an_action_that_has_not_come_yet_is_not_applied_and_told(kind: str) -> None:
    reading = read_with_findings(WALK, actions=table(kind=kind, date=date(2190, 6, 1), value=0.5))
    assert_frame_equal(reading.bars, read_bars(WALK))
    assert reading.actions.height == 0
    assert [(one.rule, one.symbol) for one in reading.findings] == [("action_to_come", "A")]


@pytest.mark.parametrize(("scale", "ratio"), [(1e7, 1e-6), (1e-7, 1e6)])
def test_prices_stay_within_their_bounds_after_splits(scale: float, ratio: float) -> None:
    with pytest.raises(BarsFileError, match=r"beyond 1e-10 to 1e10\. Correct the ratio") as caught:
        read_bars(WALK, scale=scale, actions=table(value=ratio))
    assert (caught.value.line, caught.value.column) == (1, "open")


def test_another_unit_of_prices_changes_no_volume() -> None:
    bars = synthetic.a1(40, seed=1).drop("segment", "known_at")
    day = bars["time"][20].date()
    pence = bars.with_columns(
        pl.when(pl.col("time").dt.date() >= day).then(pl.col(name) * 100).otherwise(name).alias(name) for name in PRICES
    )
    table = pl.DataFrame({"symbol": [bars["symbol"][0]], "kind": ["unit"], "date": [day], "value": [0.01]})
    read = read_bars(pence, actions=table, stamp="close")
    assert (read["close"] / bars["close"]).to_list() == pytest.approx([100.0] * 40)
    assert read["volume"].equals(bars["volume"])


# ── money ────────────────────────────────────────────────────────────────────────────────────────


def test_every_kind_is_read_with_its_terms(tmp_path: Path) -> None:
    (tmp_path / "actions.csv").write_text(
        "symbol,type,ex_date,value,pay_date,into,ratio\n"
        "A,Dividend,2024-01-02,0.5,2024-01-20,,\n"
        "A,special dividend,2024-01-03,2,,,\n"
        "A,return of capital,2024-01-04,1,,,\n"
        "A,rights,2024-01-05,0.2,,,\n"
        "A,spin-off,2024-01-08,0.25,,C,\n"
        "A,redenomination,2024-01-09,0.01,,,\n"
        "A,Merger,2024-01-10,5,2024-01-12,B,0.5\n"
        "C,ticker change,2024-01-11,1,,D,\n"
        "A,split,2024-01-12,2,2024-01-15,Z,9\n"
    )
    found = read_actions(tmp_path / "actions.csv").sort("date").select("kind", *TERMS)
    paid, none = date(2024, 1, 20), (None, None, None)
    assert found.rows() == [
        ("dividend", paid, None, None), ("special_dividend", *none), ("return_of_capital", *none), ("rights", *none),
        ("spin_off", None, "C", None), ("unit", *none), ("merger", date(2024, 1, 12), "B", 0.5),
        ("symbol_change", None, "D", None), ("split", *none),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"kind": "dividend", "value": 0.0}, "money a share"),
        ({"kind": "spin_off"}, "needs the symbol that is given in `into`"),
        ({"kind": "symbol_change", "into": "A"}, "another than its own"),
        ({"kind": "merger", "value": 0.0}, "needs money a share as its value, or `into` and `ratio`"),
        ({"kind": "merger", "into": "B"}, "`into` and its `ratio` from|and its `ratio` from 1e-6 to 1e6, or neither"),
        ({"kind": "merger", "into": "B", "ratio": -1.0}, "1e-6 to 1e6, or neither"),
        ({"kind": "dividend", "pay_date": "1999-01-01"}, "before its date of 2000-02-28"),
        ({"kind": "dividend", "pay_date": "soon"}, "not a time"),
    ],
)
def test_terms_that_do_not_fit_are_refused_with_their_line(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    table(**{"date": str(DAY)} | columns).write_csv(path)
    with pytest.raises(BarsFileError, match=words) as caught:
        read_actions(path)
    assert caught.value.line == 2


def test_money_changes_no_bar_and_a_merger_ends_a_symbol_at_its_last_bar() -> None:
    other = synthetic.a1(120, seed=6).with_columns(symbol=pl.lit("B"), asset_class=pl.lit("equity"))
    both = pl.concat([WALK, other])
    last = WALK["close"][-1]
    money = pl.concat(
        [
            table(kind="dividend", value=0.5, pay_date=DAY),
            table(kind="spin_off", value=0.5, into="C"),
            table(kind="merger", value=1.1 * last, date=other["time"][80].date()),
        ],
        how="diagonal",
    )
    found = read_with_findings(both, actions=money)
    assert_frame_equal(found.bars, read_bars(both))
    end = found.actions.filter(kind="delisting").row(0, named=True)
    assert (end["symbol"], end["date"], end["value"]) == ("A", LAST, pytest.approx(0.1))
    assert find_ends(found.bars, found.actions).select("symbol", "kind", pl.col("value").round(9)).rows() == [
        ("A", "known", 0.1)
    ]
    pence = money.with_columns(value=pl.when(kind="merger").then(110 * last).otherwise("value"))
    with pytest.raises(BarsError, match=r"gives .* for a last close of .*, such as pence for pounds"):
        read_with_findings(both, actions=pence)


def test_a_stock_merger_is_worth_what_is_given_and_a_new_name_what_the_old_one_was() -> None:
    other = synthetic.a1(120, seed=6).with_columns(symbol=pl.lit("B"), asset_class=pl.lit("equity"))
    both, day = pl.concat([WALK, other]), other["time"][80].date()
    ratio = WALK["close"][-1] / other["close"][79] * 0.9
    shares = table(kind="merger", value=0.0, into="B", ratio=ratio, date=day)
    assert read_with_findings(both, actions=shares).actions["value"][0] == pytest.approx(-0.1)
    renamed = table(kind="symbol_change", value=1.0, into="NEW", date=day)
    assert read_with_findings(both, actions=renamed).actions.filter(kind="delisting")["value"].to_list() == [0.0]


def test_a_merger_after_which_the_symbol_trades_on_is_refused() -> None:
    with pytest.raises(BarsError, match="but trades on"):
        read_with_findings(WALK, actions=table(kind="merger", value=WALK["close"][39]))


def test_a_dividend_above_the_price_is_refused_with_the_unit() -> None:
    close = WALK["close"][39]
    assert len(read_with_findings(WALK, actions=table(kind="dividend", value=0.9 * close)).actions) == 1
    with pytest.raises(BarsError, match=r"more than the close before, .*unit of the prices"):
        read_with_findings(WALK, actions=table(kind="dividend", value=1.1 * close))


@pytest.mark.parametrize("kind", ["spin_off", "symbol_change", "merger"])
@pytest.mark.parametrize("ratio", [1e9, 1e-9])
def test_a_ratio_that_nobody_gives_is_refused_without_a_price(kind: str, ratio: float) -> None:
    row = {"symbol": ["A"], "kind": [kind], "date": ["2024-01-05"], "into": ["NEW"], "value": [ratio]}
    given = {**row, "value": [0.0], "ratio": [ratio]} if kind == "merger" else row
    with pytest.raises(BarsError, match="from 1e-6 to 1e6"):
        read_actions(pl.DataFrame(given))


@pytest.mark.parametrize("kind", ["merger", "symbol_change"])
def test_units_that_are_worth_more_than_twice_the_price_at_the_first_bar_are_refused(kind: str) -> None:
    old, new = WALK[:40], WALK[40:].with_columns(symbol=pl.lit("NEW"))
    both = pl.concat([old, new])
    for ratio, sound in ((1.0, True), (50.0, False)):
        terms = {"value": 0.0, "ratio": ratio} if kind == "merger" else {"value": ratio}
        row = table(kind=kind, into="NEW", date=new["time"][0].date(), **terms)
        if sound:
            assert len(read_with_findings(both, actions=row).actions.filter(kind=kind)) == 1
        else:
            with pytest.raises(BarsError, match=r"gives 50 of 'NEW' at .*more than twice the close before"):
                read_with_findings(both, actions=row)


def test_a_spin_off_above_the_price_is_refused_with_its_units() -> None:
    """At the last close of what is given, else at its first after the date."""
    for other in (WALK, WALK[40:]):
        both = pl.concat([WALK, other.with_columns(symbol=pl.lit("NEW"))])
        row = table(kind="spin_off", into="NEW", value=0.5)
        assert len(read_with_findings(both, actions=row).actions) == 1
        with pytest.raises(BarsError, match=r"gives 50 of 'NEW' at .*more than the close before"):
            read_with_findings(both, actions=row.with_columns(value=50.0))
