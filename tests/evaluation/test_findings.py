"""Findings: each fires on its planted case, with the right numbers, and on none of 50 clean books."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.evaluation import cliffs, findings
from gatecast.evaluation.cliffs import cliff_among as cliff
from gatecast.evaluation.findings import (
    ADVICE,
    BAND_CLOSES,
    BOOK,
    Fills,
    Finding,
    concentrated,
    correlation_spike,
    counted,
    gone,
    heaviest_first,
    of_sizing,
    one_crisis,
    said_of,
    short_of_target,
    stale_fills,
    too_coarse,
    too_costly,
    too_thin,
    too_wide,
    unforecast,
)
from gatecast.evaluation.line_findings import fills_of, findings_of_line
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.runs import run
from gatecast.scores import caps_of
from gatecast.store import load_run, save_run
from gatecast.trading.book import Book, Line, Sessions, core_path, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.exposure import Today, risk_today
from gatecast.trading.sizing import BookSettings
from gatecast.trading.sizing import Finding as Sizing

NAMES = ("A", "B", "C")
DAYS = np.arange("2001-01-01", "2003-09-28", dtype="datetime64[D]")


def market(seed: int, sessions: int = 340, *, common: float = 0.75, drift: float = 0.0015, **more: Any) -> pl.DataFrame:
    """Three equities of 19 % a year that go together, and rise; `stale`: sessions at which A stands still."""
    random = np.random.default_rng(seed)
    days, together = synthetic.a1(sessions, seed=1), random.standard_normal(sessions)
    parts = []
    for name in NAMES:
        own = random.standard_normal(sessions)
        returns = drift + 0.012 * (common * together + np.sqrt(1 - common**2) * own) * more.get("times", 1.0)
        if name == "A":
            returns[more.get("stale", [])] = 0.0
        close = 100 * np.exp(np.cumsum(returns))
        before = np.concatenate([[100.0], close[:-1]])
        opens = before * np.exp(0.002 * random.standard_normal(sessions))
        if name == "A":
            opens[more.get("stale", [])] = before[more.get("stale", [])]
        parts.append(
            days.with_columns(
                symbol=pl.lit(name), asset_class=pl.lit("equity"), open=opens, close=close,
                high=np.maximum(opens, close) * 1.002, low=np.minimum(opens, close) * 0.998, volume=pl.lit(1e7),
            )
        )  # fmt: skip
    return pl.concat(parts).sort("symbol", "time")


def booked(
    bars: pl.DataFrame, settings: Book | None = None, *, without: Any = None
) -> tuple[Line, Sessions, np.ndarray, Book]:  # fmt: skip
    """A line sized by past volatility; `without`: (rows, column) of deviations that are not forecast."""
    settings = settings or Book()
    sessions = sessions_by(facts_of(bars), settings)
    core, deviations = core_path(sessions, settings.core), past_deviations(sessions.returns)
    if without is not None:
        deviations[without] = np.nan
    return run_line(sessions, core, deviations, settings, begin=61), sessions, deviations, settings


def found(bars: pl.DataFrame, settings: Book | None = None, *, without: Any = None) -> list[Finding]:
    line, sessions, deviations, settings = booked(bars, settings, without=without)
    today = risk_today(Today.of(sessions, line, deviations))
    return findings_of_line(line, sessions, deviations, settings, {}, today)


def kinds(findings: list[Finding]) -> set[str]:
    return {one.kind for one in findings}


def test_no_finding_in_50_clean_books() -> None:
    said = [(seed, one.sentence) for seed in range(50) for one in found(market(seed))]
    assert said == []


# ── planted in a book ─────────────────────────────────────────────────────────────────────────────


def test_a_lot_that_is_too_large_is_never_traded() -> None:
    findings = found(market(1), Book(size=BookSettings(lots={"A": 1e5})))
    (one,) = [each for each in findings if each.kind == "lot"]
    line = booked(market(1), Book(size=BookSettings(lots={"A": 1e5})))[0]
    targets = line.holdings.filter(pl.col("symbol") == "A")["target"].to_numpy()
    assert (one.subject, one.sample) == ("A", int((targets != 0).sum()))
    assert one.weight == pytest.approx(np.abs(targets[targets != 0]).mean())


@pytest.mark.parametrize(("volume", "said"), [(2.0, True), (80.0, True), (1e6, False), (1e7, False)])
def test_a_volume_in_millions_is_told_as_such_and_never_as_a_lot(volume: float, said: bool) -> None:
    findings = found(market(1).with_columns(volume=pl.lit(volume)))
    assert "lot" not in kinds(findings)
    assert {one.subject for one in findings if one.kind == "volume"} == (set(NAMES) if said else set())
    for one in findings if said else []:
        if one.kind == "volume":
            assert "in thousands or millions" in one.sentence
            assert f"The median of its volume is {volume:.1f} units a session." in one.sentence
            assert "times that" in one.advice


def test_dear_shares_of_which_few_are_traded_have_a_volume_in_units() -> None:
    rows = table(target=[0.1] * 30, held=[0.1] * 30, units=[1.0] * 30)
    assert too_thin(rows, {"A": (300.0, 1.5e8)}) == []
    (one,) = too_thin(rows, {"A": (300.0, 3e4)})
    assert "in thousands or millions" in one.sentence
    (cut,) = too_thin(table(target=[0.1] * 30, gate=["participation"] * 15 + [""] * 15))
    assert (cut.weight, cut.sample) == (pytest.approx(0.1), 30)
    assert "15 of 30 closes; it was never held" in cut.sentence
    assert "thousands" not in cut.sentence
    assert too_thin(table(target=[0.1] * 30, gate=["participation"] * 14 + [""] * 16)) == []


def test_a_band_wider_than_any_move() -> None:
    wide = Book(size=BookSettings(symbol_band=1.0, book_band=0.99))
    stormy = {"times": np.where(np.arange(340) % 120 < 60, 1.0, 1.25), "drift": 0.0}
    findings = found(market(1, **stormy), wide)
    assert {one.subject for one in findings if one.kind == "band"} == set(NAMES)
    assert "band" not in kinds(found(market(1, **stormy)))
    rows = booked(market(1, **stormy), wide)[0].holdings.filter((pl.col("symbol") == "B") & (pl.col("units") != 0))
    one = next(each for each in findings if each.kind == "band" and each.subject == "B")
    assert one.weight == pytest.approx(float((rows["held"] - rows["target"]).abs().mean()))
    assert one.sample >= BAND_CLOSES


def test_costs_above_a_third_of_the_gross_profit() -> None:
    costly = Book(money=MoneySettings(commission_bps=60, half_spread_bps=60), size=BookSettings(book_band=0.01))
    (one,) = [each for each in found(market(1), costly) if each.kind == "cost"]
    line = booked(market(1), costly)[0]
    paid = sum((line.frame[name] / line.frame["before"]).sum() for name in ("commission", "spread", "impact"))
    assert one.weight == pytest.approx(min(paid / (line.excess.sum() + paid), 1.0))
    assert one.subject == BOOK


def test_stale_fills() -> None:
    still = np.arange(70, 340, 2)
    findings = found(market(1, stale=still), Book(size=BookSettings(symbol_band=0.01)))
    assert [one.subject for one in findings if one.kind == "stale"] == ["A"]
    line, sessions, _, _ = booked(market(1, stale=still), Book(size=BookSettings(symbol_band=0.01)))
    fills = fills_of(line.holdings, sessions)
    assert not fills.stale[np.array(fills.symbols) != "A"].any()
    own = line.holdings.filter((pl.col("symbol") == "A") & (pl.col("trade") != 0))
    places = np.array([sessions.days.index(day) for day in own["session"]])
    expected = np.isin(places + 1, still)[places + 1 < len(sessions.days)]
    np.testing.assert_array_equal(fills.stale[np.array(fills.symbols) == "A"], expected)


def test_a_symbol_without_bars_that_is_held() -> None:
    bars = market(1)
    days = bars["time"].unique().sort()
    findings = found(bars.filter((pl.col("symbol") != "A") | (pl.col("time") < days[-8])))
    (one,) = [each for each in findings if each.kind == "silent"]
    assert (one.subject, str(days[-9])[:10] in one.sentence) == ("A", True)
    day = str(days[-9])[:10]
    assert f"--symbol A --date {day} --kind delisting --return -0.3`" in one.advice
    assert f"`A,delisting,{day},-0.3`" in one.advice


def test_concentration() -> None:
    core = Core(kind="weights", weights={"A": 0.9, "B": 0.05, "C": 0.05})
    (one,) = [each for each in found(market(1), Book(core=core)) if each.kind == "concentration"]
    assert one.subject == "A"


def test_a_target_that_the_caps_do_not_allow() -> None:
    settings = Book(size=BookSettings(target_volatility=0.5))
    (one,) = [each for each in found(market(1), settings) if each.kind == "target"]
    line = booked(market(1), settings)[0]
    assert one.weight == pytest.approx(1 - line.frame["volatility"].mean() / 0.5)


def test_a_correlation_spike() -> None:
    settings = Book(size=BookSettings(gross_cap=3, net_cap=3, target_volatility=0.1))
    findings = found(market(1, common=0.0), settings)
    (one,) = [each for each in findings if each.kind == "spike"]
    line = booked(market(1, common=0.0), settings)[0]
    assert line.frame["spiked"][-1] > 0.15
    assert one.weight == pytest.approx(line.frame["spiked"][-1] - 0.1)


def test_no_forecast_of_volatility() -> None:
    findings = found(market(1), without=(slice(250, 300), 0))
    (one,) = [each for each in findings if each.kind == "volatility"]
    assert (one.subject, one.sample, "50 of 279 closes" in one.sentence) == ("A", 279, True)
    newest = found(market(1), without=(slice(339, 340), 1))
    assert [each.subject for each in newest if each.kind == "volatility"] == ["B"]


def test_a_whole_run_says_what_is_planted_in_it_and_nothing_else(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "bars": market(1, 1000), "models": ("ridge", "logistic"), "features": ("ret_log_1",), "lookback": 10,
        "signals": {"model": "ridge", "confirmed_by": "ridge"}, "schedule": {"refit": "1Y", "train": "1Y"},
    }  # fmt: skip
    clean = run(Experiment(**quiet))
    assert clean.scores["findings"] == []
    assert "finding" not in clean.summary()
    planted = run(Experiment(**quiet, book={"size": {"lots": {"A": 1e5}, "target_volatility": 0.5}}))
    told = planted.scores["findings"]
    assert [(one["kind"], one["subject"]) for one in told] == [("target", BOOK), ("lot", "A")]
    assert [one["weight"] for one in told] == sorted((one["weight"] for one in told), reverse=True)
    words = " ".join(planted.summary().split())
    assert "2 findings:" in words
    assert all(one["sentence"] in words and one["advice"] in words for one in told)
    save_run(planted, tmp_path / "run")
    assert load_run(tmp_path / "run").scores["findings"] == told


# ── planted in the numbers that a function reads ──────────────────────────────────────────────────


def test_one_crisis_carries_the_profit() -> None:
    random = np.random.default_rng(3)
    moves = 0.01 * random.standard_normal(1000)
    moves[600:660] *= 4
    flat = 0.002 * random.standard_normal(1000)
    flat -= flat.mean()
    crisis = flat.copy()
    crisis[600:660] += 0.003
    (one,) = one_crisis(crisis, moves, DAYS)
    assert one.weight > 0.9
    assert "2002-0" in one.sentence
    steady = flat + 0.18 / 1000
    assert one_crisis(steady, moves, DAYS) == []
    assert one_crisis(crisis, 0.01 * random.standard_normal(1000), DAYS) == []
    assert one_crisis(-crisis, moves, DAYS) == []


def test_costs_beside_the_gross_profit() -> None:
    assert too_costly(0.30, 0.09, 10, 2500) == []
    assert too_costly(0.03, 0.02, 10, 2500) == []  # .2 % a year matters to nobody
    (third,) = too_costly(0.30, 0.12, 10, 2500)
    assert third.weight == pytest.approx(0.4)
    (whole,) = too_costly(0.05, 0.12, 10, 2500)
    (none,) = too_costly(-0.05, 0.12, 10, 2500)
    assert (whole.weight, whole.share_of) == (1, "gross profit")
    assert (none.weight, none.share_of) == (pytest.approx(0.012), "equity a year")  # there is no profit to be a part of
    assert "on top of a loss" in none.sentence


def test_what_is_delisted_and_held() -> None:
    findings = gone(
        {"A": 0.2, "B": 0.0, "C": -0.1}, {"A": "delisted", "B": "delisted"}, {"A": "2020-01-02", "C": "2020-01-03"}
    )
    assert [(one.kind, one.subject, one.weight) for one in findings] == [("delisted", "A", 0.2), ("silent", "C", 0.1)]


def test_what_sizing_found() -> None:
    counts = counted([(Sizing("stuck", "what cannot be traded is beyond the target"),), (), (Sizing("lot", "x"),)])
    (one,) = of_sizing(counts, 3)
    assert (one.kind, one.sample, one.weight) == ("volatility", 3, pytest.approx(1 / 3))
    assert {each.kind for each in of_sizing({"ruined": (1, "x"), "cap": (2, "y")}, 4)} == {"ruined", "cap"}


def test_all_that_was_booked_late_in_the_newest_such_session_is_said() -> None:
    paid = [Sizing("late", name) for name in ("of A", "of B", "of C")]
    counts = counted([paid[:1], (), (*paid[1:], Sizing("not_booked", "of D"))])
    late, lost = of_sizing(counts, 4)
    assert (late.kind, late.weight, lost.kind, lost.weight) == ("late", 0.5, "not_booked", 0.25)
    assert late.sentence.startswith("At 2 of 4 closes ")
    assert late.sentence.endswith("the newest: of B; of C.")
    assert lost.sentence.endswith("too late to be booked, the newest: of D.")


def test_a_weekend_is_no_halt() -> None:
    """Shares beside a coin that trades each day: where a target was missed on a weekend, nothing was halted."""
    shares = market(1)
    days = shares["time"].dt.date()
    nights = pl.datetime_range(days.min() + timedelta(days=1), days.max(), "1d", time_zone="UTC", eager=True)  # type: ignore[operator]
    random = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(0.03 * random.standard_normal(len(nights))))
    coin = pl.DataFrame({"time": nights, "close": close}).with_columns(
        symbol=pl.lit("COIN"), asset_class=pl.lit("crypto"), open=pl.col("close").shift(1, fill_value=100.0),
        high=pl.col("close") * 1.2, low=pl.col("close") * 0.8, volume=pl.lit(1e9), known_at="time",
        segment=pl.lit(0, pl.Int32),
    )  # fmt: skip
    both = pl.concat([shares, coin.select(shares.columns).cast(dict(shares.schema))]).sort("symbol", "time")
    line, sessions, deviations, settings = booked(both, Book(size=BookSettings(target_volatility=0.5)))
    today = risk_today(Today.of(sessions, line, deviations))
    told = findings_of_line(line, sessions, deviations, settings, {}, today, caps_of(line))
    (target,) = [one for one in told if one.kind == "target"]
    weekends = int(np.sum([not np.is_busday(np.datetime64(day)) for day in line.days]))
    (said,) = re.findall(r"closed market or no bar at (\d+)", target.sentence)
    assert 0 < int(said) <= weekends
    assert "halts" not in target.sentence


def smooth(count: int, seed: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    random = np.random.default_rng(seed)
    points = [{"x": float(x), "y": float(y)} for x, y in random.random((count, 2))]
    return points, np.array([(one["x"] - 0.5) ** 2 + (one["y"] - 0.5) ** 2 for one in points])


def test_a_cliff_at_the_chosen_settings() -> None:
    points, losses = smooth(40, 1)
    best = int(np.argmin(losses))
    assert cliff(points, losses, points[best], "equity") == []
    steep = losses.copy()
    steep[7] = -2.0
    (one,) = cliff(points, steep, points[7], "equity")
    assert (one.subject, one.sample, one.weight) == ("equity", 40, pytest.approx(1.0, abs=0.2))
    assert cliff(points[:5], steep[:5], points[2], "equity") == []
    assert cliff(points, steep, {"x": 3.0}, "equity") == []


def test_no_cliff_in_noise_and_none_on_smooth_hills() -> None:
    random = np.random.default_rng(0)
    said = 0
    for seed in range(50):
        points, losses = smooth(30, seed)
        noisy = random.standard_normal(30)
        said += len(cliff(points, losses, points[int(np.argmin(losses))], "a"))
        said += len(cliff(points, noisy, points[int(np.argmin(noisy))], "a"))
    assert said == 0


def test_a_grid_has_its_cliff_too() -> None:
    points = [{"band": band, "kind": kind} for band in np.linspace(0, 0.3, 8) for kind in ("a", "b")]
    losses = 1 + 0.01 * np.arange(16.0)
    assert cliff(points, losses, points[0], "book") == []
    losses[4] = 0.2
    assert [one.kind for one in cliff(points, losses, points[4], "book")] == ["cliff"]


# ── the list ──────────────────────────────────────────────────────────────────────────────────────


def finding(kind: str, weight: float) -> Finding:
    return Finding(kind, BOOK, weight, "equity", 10, "closes", f"{kind}.")


def test_the_heaviest_come_first_and_three_are_shown() -> None:
    findings = heaviest_first([finding("lot", 0.1), finding("cost", 0.5), finding("band", 0.2), finding("target", 0.2)])
    assert [one.kind for one in findings] == ["cost", "target", "band", "lot"]
    said = said_of([one.to_dict() for one in findings])
    assert said[0] == "4 findings, the 3 heaviest:"
    assert len(said) == 4
    assert said[1].startswith("cost. (50.0% of the equity, 10 closes)")
    assert said_of([]) == []


weights = st.dictionaries(st.sampled_from(["A", "B", "C", "D"]), st.floats(0.01, 1), min_size=3, max_size=4)


@given(weights)
def test_concentration_is_said_of_more_than_three_fifths_alone(sizes: dict[str, float]) -> None:
    shares = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    assert bool(concentrated(shares)) == (max(shares.values()) > 0.6)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_target_is_missed_below_half_of_the_closes(was: int, missed: int) -> None:
    reached = np.arange(was + missed) < was
    findings = short_of_target(reached, np.full(was + missed, 0.08), 0.1, {"gross_cap": missed})
    assert bool(findings) == (was + missed >= 21 and was < (was + missed) / 2)
    assert not findings or findings[0].weight == pytest.approx(0.2)


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_a_spike_is_above_one_and_a_half_times_the_target(spiked: float, target: float) -> None:
    assert bool(correlation_spike(spiked, target)) == (spiked > 1.5 * target * (1 + 1e-9))
    assert correlation_spike(float("nan"), target) == []


def test_few_and_cheap_fills_are_no_finding() -> None:
    fills = Fills(["A"] * 100, np.ones(100), np.arange(100) < 4)
    assert stale_fills(fills) == []
    (one,) = stale_fills(fills._replace(stale=np.arange(100) < 30))
    assert (one.weight, one.sample) == (pytest.approx(0.3), 100)
    assert stale_fills(fills._replace(stale=np.arange(100) < 9)) == []
    assert stale_fills(Fills([], np.zeros(0), np.zeros(0, np.bool_))) == []


def table(**columns: Any) -> pl.DataFrame:
    """Holdings of one symbol, a row a session."""
    count = len(next(iter(columns.values())))
    days = [date(2020, 1, 1) + timedelta(days=one) for one in range(count)]
    usual = {"units": 0.0, "trade": 0.0, "held": 0.0, "target": 0.0, "gate": ""}
    return pl.DataFrame(
        {"session": days, "symbol": ["A"] * count, **{k: columns.get(k, [v] * count) for k, v in usual.items()}}
    )


def test_a_lot_that_was_traded_once_and_a_band_within_a_year_are_no_findings() -> None:
    never = {"target": [0.1] * 30, "gate": ["lot"] * 30}
    assert len(too_coarse(table(**never))) == 1
    assert too_coarse(table(**never, trade=[0.0] * 29 + [1.0])) == []
    assert too_coarse(table(target=[0.1] * 20, gate=["lot"] * 20)) == []
    assert too_coarse(table(target=[0.1] * 30)) == []
    moving = np.linspace(0.1, 0.2, 300).tolist()
    held = {"target": moving, "held": [0.15] * 300, "units": [10.0] * 300}
    assert too_wide(table(**held))[0].weight == pytest.approx(np.abs(np.array(moving) - 0.15).mean())
    assert too_wide(table(**{name: values[:249] for name, values in held.items()})) == []
    assert too_wide(table(**held, trade=[0.0] * 100 + [1.0] + [0.0] * 199)) == []
    assert too_wide(table(**{**held, "target": [0.15] * 300})) == []
    assert too_wide(table(**held, gate=["halt"] * 300)) == []


def test_a_warm_up_without_a_forecast_is_none() -> None:
    deviations = np.full((100, 1), 0.01)
    deviations[:50] = np.nan
    wanted, core = np.ones((100, 1), np.bool_), np.full((100, 1), 0.5)
    assert unforecast(["A"], wanted, deviations, core) == []
    deviations[60:70] = 0.0
    (one,) = unforecast(["A"], wanted, deviations, core)
    assert (one.sample, one.weight) == (50, pytest.approx(0.5 * 10 / 50))


def test_the_page_of_findings_has_each_kind_threshold_and_advice() -> None:
    page = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
    for kind, advice in ADVICE.items():
        assert page.count(f"| `{kind}` |") == 2, kind
        assert f"| `{kind}` | {advice} |" in page
    for module in (findings, cliffs):
        for name in vars(module):
            if name.isupper() and isinstance(getattr(module, name), int | float) and name != "HEAVIEST":
                assert f"`{name}`" in page, name


def test_each_kind_says_what_to_do() -> None:
    for kind in ADVICE:
        one = replace(finding("lot", 0.1), kind=kind)
        assert one.advice.endswith(".")
        assert one.to_dict()["advice"] == one.advice
