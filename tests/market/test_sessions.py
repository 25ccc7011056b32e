"""Sessions against what exchanges have published; how old a feed is; tables that are kept."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.live.newest import stale
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.sessions import Calendar, calendar_of, feed_age, sessions_missed, versions

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PUBLISHED = {
    ("XNYS", 2015): "01-01 01-19 02-16 04-03 05-25 07-03 09-07 11-26 12-25",
    ("XNYS", 2018): "01-01 01-15 02-19 03-30 05-28 07-04 09-03 11-22 12-05 12-25",  # a day of mourning
    ("XNYS", 2021): "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24",
    ("XNYS", 2022): "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26",
    ("XNYS", 2024): "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    ("XNYS", 2025): "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",  # a day of mourning
    ("XNYS", 2026): "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
    ("XLON", 2020): "01-01 04-10 04-13 05-08 05-25 08-31 12-25 12-28",
    ("XLON", 2022): "01-03 04-15 04-18 05-02 06-02 06-03 08-29 09-19 12-26 12-27",  # jubilee, funeral
    ("XLON", 2023): "01-02 04-07 04-10 05-01 05-08 05-29 08-28 12-25 12-26",  # coronation
    ("XASX", 2022): "01-03 01-26 04-15 04-18 04-25 06-13 09-22 12-26 12-27",  # a day of mourning
    ("XASX", 2024): "01-01 01-26 03-29 04-01 04-25 06-10 12-25 12-26",
}
"""Exchange and year -> the weekdays on which it was closed, as it announced them."""
EARLY = {
    2015: "11-27 12-24", 2016: "11-25", 2017: "07-03 11-24", 2018: "07-03 11-23 12-24", 2019: "07-03 11-29 12-24",
    2020: "11-27 12-24", 2021: "11-26", 2022: "11-25", 2023: "07-03 11-24", 2024: "07-03 11-29 12-24",
    2025: "07-03 11-28 12-24", 2026: "11-27 12-24",
}  # fmt: skip
"""Year -> days on which the New York Stock Exchange closed at 13:00, as it announced them."""


def calendar(name: str) -> Calendar:
    return calendar_of(name, NOW)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def closes(name: str, begin: str, end: str) -> list[str]:
    return [f"{close:%m-%d %H:%M}" for close in calendar(name).between(at(begin), at(end))["close"]]


def bars_on(days: np.ndarray, name: str = "equity", symbol: str = "A") -> pl.DataFrame:
    """Bars of these session dates, which close with their class."""
    frame = pl.DataFrame({"symbol": symbol, "asset_class": name, "day": pl.Series(days), "close": 1.0})
    return frame.select("symbol", "asset_class", "close", time=ASSET_CLASSES[name].close_of(pl.col("day")))


def sessions_to(name: str, day: str, count: int = 300) -> np.ndarray:
    days = calendar(name).session
    return days[days <= np.datetime64(day)][-count:]


# ── what exchanges have published ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "year"), PUBLISHED)
def test_weekdays_without_a_session_are_those_that_the_exchange_announced(name: str, year: int) -> None:
    weekdays = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    weekdays = weekdays[np.is_busday(weekdays)]
    closed = weekdays[~np.isin(weekdays, calendar(name).session)]
    assert closed.astype(str).tolist() == [f"{year}-{day}" for day in PUBLISHED[name, year].split()]


def test_early_closes_of_new_york_are_those_that_it_announced() -> None:
    for year, days in EARLY.items():
        table = calendar("XNYS").between(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
        hour = pl.col("close").dt.convert_time_zone("America/New_York").dt.time()
        early = table.select("session", hour=hour).filter(pl.col("hour") != pl.lit("16:00").str.to_time("%H:%M"))
        assert [f"{day:%m-%d} {hour:%H:%M}" for day, hour in early.iter_rows()] == [
            f"{day} 13:00" for day in days.split()
        ]


def test_summer_time_changes_on_each_exchanges_own_date() -> None:
    assert closes("XNYS", "2024-03-08", "2024-03-12") == ["03-08 21:00", "03-11 20:00"]
    assert closes("XLON", "2024-03-28", "2024-04-03") == ["03-28 16:30", "04-02 15:30"]  # over Easter
    assert closes("XASX", "2024-04-05", "2024-04-09") == ["04-05 05:00", "04-08 06:00"]
    assert closes("XLON", "2024-12-24", "2025-01-01") == ["12-24 12:30", "12-27 16:30", "12-30 16:30", "12-31 12:30"]
    assert closes("XASX", "2024-12-24", "2024-12-25") == ["12-24 03:10"]  # at 14:10


def test_leap_day_and_the_turn_of_the_year() -> None:
    assert closes("XNYS", "2024-02-29", "2024-03-01") == ["02-29 21:00"]
    assert closes("24/7", "2024-02-28T12:00", "2024-03-01") == ["02-29 00:00", "03-01 00:00"]
    assert closes("XNYS", "2020-12-31", "2021-01-05") == ["12-31 21:00", "01-04 21:00"]  # week 53


def test_currencies_and_futures_end_their_day_at_five_in_new_york_as_their_bars_do() -> None:
    assert closes("24/5", "2024-03-07", "2024-03-12") == ["03-07 22:00", "03-08 22:00", "03-11 21:00"]
    assert calendar("24/5").next_open(np.array(["2024-03-09T12:00"], "datetime64[us]"))[0] == np.datetime64(
        "2024-03-10T21:00"
    )
    assert closes("CMES", "2024-07-03", "2024-07-06") == ["07-03 21:00", "07-04 17:00", "07-05 21:00"]
    for name, known in ASSET_CLASSES.items():
        table = calendar(known.calendar).between(at("2024-01-01"), at("2025-01-01"))
        usual = table.select((pl.col("close") == known.close_of(pl.col("session"))).mean()).item()
        assert usual > 0.95, name


def test_next_open_is_after_a_moment_and_unknown_beyond_the_table() -> None:
    moments = np.array(
        ["2024-07-03T12:00", "2024-07-03T13:30", "2024-07-03T18:00", "2200-01-01T00:00"], "datetime64[us]"
    )
    assert calendar("XNYS").next_open(moments).astype(str).tolist() == [
        "2024-07-03T13:30:00.000000", "2024-07-05T13:30:00.000000", "2024-07-05T13:30:00.000000", "NaT",
    ]  # fmt: skip


def test_weekdays_follow_where_the_library_knows_no_holidays() -> None:
    shanghai = calendar("XSHG")
    known = shanghai.session[shanghai.published][-1]
    assert known < np.datetime64("2027-01-01")
    later = shanghai.between(at("2027-01-01"), at("2027-01-06"))
    assert later["published"].to_list() == [False] * 3
    assert [f"{close:%m-%d %H:%M}" for close in later["close"]] == ["01-01 07:00", "01-04 07:00", "01-05 07:00"]
    assert calendar("XNYS").published.all()


def test_sessions_since_a_bar_are_counted_after_the_close_and_the_grace() -> None:
    days = np.array(["2024-07-02", "2024-07-03", "2024-07-05"], "datetime64[D]")
    for now, expected in (
        ("2024-07-03T17:59", [0, 0, 0]), ("2024-07-03T18:00", [1, 0, 0]), ("2024-07-04T23:00", [1, 0, 0]),
        ("2024-07-05T21:00", [2, 1, 0]), ("2024-07-08T21:00", [3, 2, 1]),
    ):  # fmt: skip
        assert calendar("XNYS").missed(days, at(now)).tolist() == expected, now
    last = calendar("XNYS").last_closed(at("2024-07-04T12:00"))
    assert calendar("XNYS").session[last] == np.datetime64("2024-07-03")


def test_names_and_years_that_no_table_has_are_refused() -> None:
    with pytest.raises(BarsError, match=r"'XNSY' is unknown\. Did you mean 'XNYS'"):
        calendar_of("XNSY", NOW)
    with pytest.raises(BarsError, match="from 1990 to 3000: expected years from 1700 to 2200"):
        calendar_of("XNYS", datetime(3000, 1, 1, tzinfo=UTC))
    with pytest.raises(BarsError, match="has no zone"):
        calendar("XNYS").between(datetime(2024, 1, 1), NOW)
    assert calendar_of("NYSE", NOW).name == "XNYS"


# ── how old a feed is ─────────────────────────────────────────────────────────────────────────────


def test_a_feed_is_behind_by_the_sessions_of_its_own_calendar() -> None:
    spring = "2024-02-08"  # the last session in Shanghai before ten days without one
    bars = pl.concat(
        [
            bars_on(sessions_to("XSHG", spring), symbol="S"),
            bars_on(sessions_to("XNYS", "2024-02-15"), symbol="K"),
            bars_on(np.arange("2023-06-01", "2024-02-14", dtype="datetime64[D]"), "crypto", "B"),
        ]
    )
    age = feed_age(bars, at("2024-02-16T23:00"), {"S": "XSHG"})
    assert age.select("symbol", "calendar", "sessions_behind", "class_behind").rows() == [
        ("B", "24/7", 2, 2), ("K", "XNYS", 1, 0), ("S", "XSHG", 0, 0),
    ]  # fmt: skip
    assert feed_age(bars, at("2024-02-19T12:00"), {"S": "XSHG"})["sessions_behind"].to_list()[2] == 1
    assert feed_age(bars, at("2024-02-16T23:00"))["sessions_behind"].to_list()[2] == 6  # by New York's


def test_bars_of_weeks_and_hours() -> None:
    friday = at("2024-03-01T21:00")
    equity = ASSET_CLASSES["equity"]
    week = timedelta(days=7)
    ages = [sessions_missed(friday, friday + timedelta(days=days), equity, week) for days in (1, 6, 7, 15)]
    assert ages == [0, 0, 1, 2]
    hour = timedelta(hours=1)
    morning = at("2024-03-01T15:30")
    assert sessions_missed(morning, at("2024-03-01T22:00"), equity, hour) == 0
    assert sessions_missed(morning, at("2024-03-04T22:00"), equity, hour) == 1


def test_a_class_is_stale_by_its_calendar_and_not_over_holidays() -> None:
    bars = bars_on(sessions_to("XNYS", "2024-03-28"))  # before Good Friday
    for now, kinds in (
        ("2024-04-01T12:00", []), ("2024-04-01T23:00", []), ("2024-04-02T20:30", []), ("2024-04-02T21:00", ["stale"]),
        ("2024-04-12T21:00", ["stale"]),
    ):  # fmt: skip
        found = stale(bars, at(now))
        assert [one.kind for one in found] == kinds, now
    assert found[0].sentence.endswith("more than 10 days old.")
    (one,) = stale(bars, at("2024-04-02T21:00"))
    assert one.sentence.endswith("2 sessions behind its calendar.")


def test_bars_of_another_exchange_are_not_held_to_new_yorks_holidays() -> None:
    """A week of holidays in Tokyo, with and without its name; then a feed that has really stopped."""
    bars = bars_on(sessions_to("XTKS", "2024-05-02"))
    assert stale(bars, at("2024-05-06T21:00")) == ()  # one session behind New York's
    assert stale(bars, at("2024-05-08T21:00")) == ()  # no bars of New York's, and ten days are not over
    (one,) = stale(bars, at("2024-05-08T21:00"), calendars={"A": "XTKS"})
    assert "2 sessions behind its calendar" in one.sentence
    assert calendar("XTKS").fits(sessions_to("XTKS", "2024-05-02"))
    assert not calendar("XNYS").fits(sessions_to("XTKS", "2024-05-02"))
    assert calendar("XNYS").fits(sessions_to("XLON", "2024-05-02")[-10:])  # too few to tell


def test_a_symbol_whose_own_exchange_was_closed_is_not_behind_its_class() -> None:
    bars = pl.concat(
        [bars_on(sessions_to("XSHG", "2024-02-08"), symbol="S"), bars_on(sessions_to("XNYS", "2024-02-16"), symbol="K")]
    )
    assert [one.symbols for one in stale(bars, at("2024-02-16T23:00"))] == [("S",)]
    assert stale(bars, at("2024-02-16T23:00"), calendars={"S": "XSHG"}) == ()


# ── tables that are kept ──────────────────────────────────────────────────────────────────────────


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_kept_table_is_read_and_one_that_is_damaged_or_too_short_is_made_again(tmp_path: Path) -> None:
    first = calendar_of("24/7", datetime(2025, 6, 1, tzinfo=UTC), folder=tmp_path)
    (name,) = kept(tmp_path)
    assert name.startswith(f"24_7-{versions()['exchange_calendars']}-{versions()['time_zones']}-1990-2027-")
    assert first.session[-1] == np.datetime64("2027-12-31")
    calendar_of("24/7", datetime(2024, 6, 1, tzinfo=UTC), folder=tmp_path)  # long enough
    assert kept(tmp_path) == [name]
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / name).write_bytes(content)
    again = calendar_of("24/7", datetime(2023, 6, 1, tzinfo=UTC), folder=tmp_path)
    assert again.session[-1] == np.datetime64("2025-12-31")
    assert [one != name and "-1990-2025-" in one for one in kept(tmp_path)] == [True]
    longer = calendar_of("24/7", datetime(2026, 6, 1, tzinfo=UTC), folder=tmp_path)
    earlier = calendar_of("24/7", datetime(2026, 6, 1, tzinfo=UTC), begin=date(1980, 5, 5), folder=tmp_path)
    assert longer.session[-1] == np.datetime64("2028-12-31")
    assert earlier.session[0] == np.datetime64("1980-01-01")
    assert len(kept(tmp_path)) == 1
    for one in (first, again, longer, earlier):
        assert one.note == ""
        assert (one.close[1:] == one.open[1:] + np.timedelta64(1, "D")).all()


def test_a_table_out_of_order_is_made_again_whatever_its_hash_says(tmp_path: Path) -> None:
    from gatecast.files import sha256_of

    calendar_of("24/5", datetime(2025, 6, 1, tzinfo=UTC), folder=tmp_path)
    (name,) = kept(tmp_path)
    table = pl.read_parquet(tmp_path / name)
    for number, wrong in enumerate(
        (table.reverse(), table.clear(), table.drop("open"), table.with_columns(close="open"))
    ):
        for path in tmp_path.iterdir():
            path.unlink()
        wrong.write_parquet(tmp_path / "wrong")
        false = f"{name.rpartition('-')[0]}-{sha256_of(tmp_path / 'wrong')[:32]}.parquet"
        (tmp_path / "wrong").rename(tmp_path / false)
        made = calendar_of("24/5", datetime(2024 - number, 6, 1, tzinfo=UTC), folder=tmp_path)
        assert (np.diff(made.close) > np.timedelta64(0)).all()
        assert len(made.session) > 8000
        assert false not in kept(tmp_path)


def test_a_folder_that_cannot_be_written_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = calendar_of("24/5", NOW, folder=tmp_path / "file")
    assert len(found.session) > 8000
    assert found.note.startswith("the sessions of 24/5 could not be kept in")


def test_a_kept_table_is_read_without_pandas(tmp_path: Path) -> None:
    calendar_of("XLON", NOW, folder=tmp_path)
    code = (
        "import sys, pathlib, datetime\nfrom gatecast.market.sessions import calendar_of\n"
        f"found = calendar_of('XLON', datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC), "
        f"folder=pathlib.Path({str(tmp_path)!r}))\n"
        "print(len(found.session) > 9000, [name for name in ('pandas', 'exchange_calendars') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"
