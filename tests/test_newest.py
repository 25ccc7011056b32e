"""The newest row of each symbol: one unit of deviation, what is beyond the base rate, whose number each is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.live import without_broken
from gatecast.market.ends import Ended
from gatecast.newest import newest_rows, variance_ratios

HORIZON, RATIO = 5, 1.69
VARIANCE = 4e-4  # of the range proxy over the horizon
DEVIATION = np.sqrt(RATIO * VARIANCE)
DAYS = [datetime(2024, 1, day, 21, tzinfo=UTC) for day in (2, 3, 4, 5, 8, 9, 10)]


def bars(symbol: str = "A", days: int = 7, volume: float = 1e5, still: bool = False) -> pl.DataFrame:
    close = np.linspace(100, 103, days)
    frame = pl.DataFrame(
        {"symbol": symbol, "asset_class": "equity", "time": DAYS[:days], "close": close, "volume": 1e5}
    ).with_columns(high=pl.col("close") * 1.01, low=pl.col("close") / 1.01)
    last = pl.int_range(pl.len()) == days - 1
    return frame.with_columns(
        volume=pl.when(last).then(volume).otherwise("volume"),
        high=pl.when(last & pl.lit(still)).then("low").otherwise("high"),
    )


def forecasts(
    time: datetime = DAYS[-1], symbol: str = "A", log_return: float = 0.0, up: float = 0.55, base: float = 0.55,
    mean: float = 0.002, width: float = 1.2816, lstm: float = -0.01,
) -> pl.DataFrame:  # fmt: skip
    """What the ensemble and its rivals say of one bar."""
    steps = np.arange(1, HORIZON + 1) / HORIZON
    half = RATIO * VARIANCE / 2
    rows: list[tuple[str, str, int, float]] = [
        ("ensemble", "return_simple", HORIZON, float(np.expm1(log_return + half))),
        ("ensemble", "volatility", HORIZON, VARIANCE), ("ensemble", "direction", HORIZON, up),
        ("ensemble", "regime", HORIZON, 0.3), ("base_rate", "direction", HORIZON, base),
    ]  # fmt: skip
    for step, share in enumerate(steps, start=1):
        rows += [
            ("ensemble", "return", step, log_return * share), ("mean", "return", step, mean * share),
            ("zero", "return", step, 0.0), ("lstm", "return", step, lstm * share),
            ("ensemble", "return_low_80", step, log_return * share - width * DEVIATION * np.sqrt(share)),
            ("ensemble", "return_high_80", step, log_return * share + width * DEVIATION * np.sqrt(share)),
        ]  # fmt: skip
    table = pl.DataFrame(rows, schema=["model", "head", "step", "value"], orient="row")
    return table.with_columns(symbol=pl.lit(symbol), time=pl.lit(time), step=pl.col("step").cast(pl.Int32))


def row(signal: int = 0, verdicts: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    signals = pl.DataFrame({"symbol": "A", "time": [DAYS[-1]], "signal": [signal], "z": [1.6 * signal]})
    (found,) = newest_rows(bars(), forecasts(**said).lazy(), signals, None, verdicts or {})
    return found


def test_the_deviation_is_close_to_close_and_grows_with_the_root_of_time() -> None:
    found = row(log_return=0.004)
    assert found["standard_deviation"] == pytest.approx(DEVIATION, rel=1e-9)
    assert found["volatility"] == pytest.approx(RATIO * VARIANCE, rel=1e-9)
    np.testing.assert_allclose(found["sigma_path"], DEVIATION * np.sqrt(np.arange(1, 6) / 5), rtol=1e-9)
    (ratio,) = variance_ratios(forecasts(log_return=0.004).lazy()).collect()["ratio"]
    assert ratio == pytest.approx(RATIO, rel=1e-9)


def test_the_parts_of_an_expected_return_stand_apart() -> None:
    found = row(log_return=0.004)
    assert found["expected_return_log"] == 0.004
    assert found["half_variance"] == pytest.approx(RATIO * VARIANCE / 2, rel=1e-9)
    assert found["expected_return_simple"] == np.expm1(0.004 + RATIO * VARIANCE / 2)


@pytest.mark.parametrize(
    ("log_return", "verdict", "beyond"),
    [
        (0.0, "evidence of skill", False),  # no change, whatever half the variance adds
        (0.002, "evidence of skill", False),  # the mean's own
        (0.00201, "evidence of skill", False),  # the mean's but for rounding
        (0.0006, "evidence of skill", True),
        (0.0006, "cannot tell", False),  # below .05 of the half width, 1.2816 s.d.
        (0.05 * 1.2816 * DEVIATION * 0.99, "too good: look for a leak", False),
        (0.05 * 1.2816 * DEVIATION * 1.01, "cannot tell", True),
        (-0.004, "cannot tell", True),
    ],
)
def test_half_the_variance_and_the_rivals_own_are_no_forecast(log_return: float, verdict: str, beyond: bool) -> None:
    found = row(log_return=log_return, verdicts={"return": {"verdict": verdict, "rival": "mean"}})
    assert found["beyond_base_rate"] is beyond


@pytest.mark.parametrize(
    ("up", "verdict", "beyond"),
    [
        (0.55, "evidence of skill", False),
        (0.5504, "evidence of skill", False),
        (0.552, "evidence of skill", True),
        (0.56, "cannot tell", False),  # 1 point; .05 * 1.2816 s.d. shift a normal probability by 2.56
        (0.5755, "cannot tell", False),
        (0.5757, "cannot tell", True),
        (0.50, "cannot tell", True),
    ],
)
def test_the_base_rate_is_no_forecast_of_direction(up: float, verdict: str, beyond: bool) -> None:
    found = row(up=up, verdicts={"direction": {"verdict": verdict, "rival": "base_rate"}})
    assert found["probability_beyond_base_rate"] is beyond
    assert found["base_rate_up"] == 0.55


def test_the_base_rate_is_the_past_share_and_not_the_rival_in_force() -> None:
    said = forecasts(up=0.5504)
    rival = said.filter(pl.col("model") == "base_rate").with_columns(value=pl.lit(0.62))
    for name in ("logistic_lag", "rival"):
        both = pl.concat([said, rival.with_columns(model=pl.lit(name))]).lazy()
        verdicts = {"direction": {"verdict": "evidence of skill", "rival": "logistic_lag"}}
        (found,) = newest_rows(bars(), both, None, None, verdicts)
        assert (found["base_rate_up"], found["probability_beyond_base_rate"]) == (0.55, False)


def test_lstm_and_ensemble_that_disagree_say_so() -> None:
    found = row(signal=-1, log_return=0.01, up=0.6)
    assert found["disagree"]
    assert found["notes"] == [
        "LSTM and ensemble disagree: the LSTM is bearish, "
        "the ensemble has an expected return of +1.00% and P(rise) 60.0%."
    ]
    agreed = row(signal=-1, log_return=-0.01, up=0.45)
    assert (agreed["disagree"], agreed["notes"]) == (False, [])
    assert row(signal=0, log_return=0.01, up=0.6)["notes"] == []
    alone = row(signal=1)
    assert not alone["disagree"]
    assert alone["notes"] == ["The LSTM alone is bullish: the ensemble has no forecast beyond the base rate."]
    assert (alone["signal_model"], alone["signal_return_log"], alone["forecast_model"]) == ("lstm", -0.01, "ensemble")


def test_a_symbol_without_a_bar_or_without_a_trade_today_is_shown_as_such() -> None:
    frame = pl.concat([bars("A"), bars("B", days=5), bars("C", volume=0.0, still=True), bars("D", volume=0.0)])
    said = pl.concat(forecasts(DAYS[-1 if symbol != "B" else 4], symbol) for symbol in "ABCD")
    rows = {one["symbol"]: one for one in newest_rows(frame, said.lazy(), None, None, {})}
    assert [(one["today"], one["current"], one["sessions_behind"]) for one in rows.values()] == [
        ("bar", True, 0), ("no bar", False, 2), ("no trade", False, 0), ("bar", True, 0),
    ]  # fmt: skip
    assert rows["B"]["notes"] == [
        "No bar since 2024-01-08 21:00, 2 sessions behind its class: nothing is forecast from today."
    ]
    assert rows["C"]["notes"] == ["No trade today: the newest bar has no volume and no range."]


def test_a_symbol_that_never_has_volume_is_not_suspended() -> None:
    frame = bars(still=True).with_columns(volume=pl.lit(0.0))
    assert newest_rows(frame, forecasts().lazy(), None, None, {})[0]["today"] == "bar"


def test_a_forecast_that_is_older_than_the_newest_bar_is_not_current() -> None:
    (found,) = newest_rows(bars(), forecasts(DAYS[3]).lazy(), None, None, {})
    assert (found["time"], found["current"]) == (DAYS[3], False)
    assert found["notes"] == ["No forecast at the newest bar, 2024-01-10 21:00: its window has gaps."]
    (nothing,) = newest_rows(bars(), None, None, None, {})
    assert nothing["notes"] == ["Nothing was forecast for this symbol."]
    assert nothing["probability_up"] is None


def test_closes_at_other_hours_of_one_session_are_not_behind() -> None:
    early = bars("E").with_columns(pl.col("time") - timedelta(hours=4))
    rows = newest_rows(pl.concat([bars("A"), early]), None, None, None, {})
    assert {one["today"] for one in rows} == {"bar"}


def of_class(name: str, symbol: str, days: list[int], hour: int) -> pl.DataFrame:
    times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour) for day in days]
    return pl.DataFrame({"symbol": symbol, "asset_class": name, "time": times, "close": 1.0})


def test_today_is_the_newest_session_of_all_classes_by_each_classs_calendar() -> None:
    coins = of_class("crypto", "X", list(range(1, 8)), 24)  # to Sunday, 7 January 2024
    shares = of_class("equity", "K", [2, 3, 4, 5], 21)  # to Friday
    states = {one["symbol"]: one["today"] for one in newest_rows(pl.concat([coins, shares]), None, None, None, {})}
    assert states == {"X": "bar", "K": "bar"}
    monday = of_class("crypto", "X", list(range(1, 9)), 24)  # a holiday, or a late file
    rows = newest_rows(pl.concat([monday, shares]), None, None, None, {})
    assert [(one["today"], one["sessions_behind"]) for one in rows] == [("bar", 0), ("bar", 0)]
    tuesday = of_class("crypto", "X", list(range(1, 10)), 24)
    rows = newest_rows(pl.concat([tuesday, shares]), None, None, None, {})
    assert [(one["symbol"], one["today"], one["sessions_behind"]) for one in rows] == [
        ("K", "no bar", 2),
        ("X", "bar", 0),
    ]
    assert rows[0]["notes"][0].endswith("2 sessions behind the other classes: nothing is forecast from today.")
    late = newest_rows(pl.concat([shares, coins.head(2)]), None, None, None, {})  # coins have no weekend off
    assert [(one["today"], one["sessions_behind"]) for one in late] == [("bar", 0), ("no bar", 2)]


def test_sessions_that_an_exchange_was_closed_are_not_behind() -> None:
    def from_22(name: str, symbol: str, days: list[int], hour: int) -> pl.DataFrame:
        return of_class(name, symbol, days, hour).with_columns(pl.col("time") - timedelta(days=10))  # 1 is 22 December

    coins, shares = from_22("crypto", "X", list(range(1, 6)), 24), from_22("equity", "K", [1], 21)
    rows = newest_rows(pl.concat([coins, shares]), None, None, None, {})  # Christmas is on Monday, the 26th has closed
    assert [(one["today"], one["sessions_behind"]) for one in rows] == [("bar", 0), ("bar", 0)]
    both = pl.concat([from_22("equity", "K", [5, 6], 21), from_22("equity", "L", [1], 21)])
    for calendars, state in (({}, ("no bar", 2)), ({"L": "XLON"}, ("no bar", 1)), ({"L": "XTKS"}, ("no bar", 2))):
        rows = newest_rows(both, None, None, None, {}, calendars=calendars)
        assert (rows[1]["today"], rows[1]["sessions_behind"]) == state


def test_only_what_was_decided_at_todays_bar_has_a_weight() -> None:
    frame = pl.concat([bars("A"), bars("B", days=5), bars("C")])
    weights = pl.DataFrame(
        {"symbol": ["A", "B", "C"], "time": [DAYS[-1], DAYS[4], DAYS[3]], "weight": 0.8, "book": 0.25}
    )
    rows = newest_rows(frame, None, None, weights, {})
    assert [(one["symbol"], one["weight"], one["book"]) for one in rows] == [
        ("A", 0.8, 0.25), ("B", None, None), ("C", None, None),
    ]  # fmt: skip


def test_a_symbol_that_ended_says_how_and_has_no_weight() -> None:
    gone = Ended("A", "equity", DAYS[-1], DAYS[-1], "known", -0.3)
    weights = pl.DataFrame({"symbol": ["A"], "time": [DAYS[-1]], "weight": [1.0], "book": [0.5]})
    (found,) = newest_rows(bars(), forecasts().lazy(), None, weights, {}, ended={"A": gone})
    assert (found["today"], found["end"], found["current"]) == ("ended", "delisted", False)
    assert (found["weight"], found["book"]) == (None, None)
    assert found["notes"] == [
        "Delisted, its last bar is of 2024-01-10: a last return of -30.0%, by a table of actions. "
        "Nothing is forecast, and there is no position."
    ]


def test_an_hourly_symbol_that_fell_silent_within_the_session_is_shown() -> None:
    hours = [datetime(2024, 1, 2, hour, tzinfo=UTC) for hour in range(10, 20)]
    frame = pl.DataFrame({"time": hours, "asset_class": "fx", "close": 1.0})
    both = pl.concat([frame.with_columns(symbol=pl.lit("A")), frame[:5].with_columns(symbol=pl.lit("B"))])
    assert [one["today"] for one in newest_rows(both, None, None, None, {})] == ["bar", "no bar"]


def test_the_reason_names_strategy_and_model_the_ensembles_number_and_its_side() -> None:
    from gatecast.trading.decisions import reason
    from gatecast.trading.strategies import strategy_titles

    cases = pl.DataFrame(
        {
            "strategy": ["flat", "held_long", "model_signal", "trend", "trend"],
            "score_bps": [0.0, 1.25, 0.5, 0.5, 0.5], "evidence": [0.0, 0.0, 0.4, 1.0, 1.0],
            "signal": [0, -1, -1, 1, 1], "above_noise": [False, False, True, True, True],
            "worth_its_cost": [False, False, False, False, True], "too_good": [False] * 5,
            "expected": [0.0, 0.001, 0.002, 0.001, 0.01], "left": [1.0, 1.0, 1.0, 1.0, 0.5],
        }
    )  # fmt: skip
    assert cases.select(reason(strategy_titles("ridge", "forest"))).to_series().to_list() == [
        "in force: flat, because no other strategy's estimated return exceeds the cost of entering it",
        "in force: held long, sized by volatility, the highest score of the strategies (1.25 bps a bar from past "
        "record and forecast; it ranks them and is no expected profit); "
        "evidence factor 0: no position; the ensemble's expected return is small relative to its interval",
        "in force: ridge regression signal, the highest score of the strategies (0.5 bps a bar from past record and "
        "forecast; it ranks them and is no expected profit); "
        "evidence factor 0.4: the position is scaled by it; the ensemble's expected return has the opposite sign of "
        "the signal",
        "in force: trend, the highest score of the strategies (0.5 bps a bar from past record and "
        "forecast; it ranks them and is no expected profit); evidence factor 1: "
        "full position; the ensemble's expected return is below the cost of a round trip",
        "in force: trend, the highest score of the strategies (0.5 bps a bar from past record and "
        "forecast; it ranks them and is no expected profit); evidence factor 1: "
        "full position; an alarm of the losses leaves 0.5 of the position",
    ]


def test_a_run_without_an_lstm_names_the_model_that_signals() -> None:
    signals = pl.DataFrame(
        {"symbol": ["A"], "time": DAYS[-1:], "signal": [1], "z": [1.5], "consensus": [False],
         "strategy": ["model_signal"]}
    ).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    (found,) = newest_rows(
        bars(), forecasts().lazy(), signals, None, {}, signal_model="ridge", confirmed_by="logistic"
    )  # fmt: skip
    assert found["strategy_title"] == "ridge regression signal"
    assert found["notes"] == [
        "The ridge regression alone is bullish: the ensemble has no forecast beyond the base rate."
    ]


@pytest.mark.parametrize("step", range(1, HORIZON + 1))
def test_no_step_of_a_path_stands_for_a_missing_one(step: int) -> None:
    lost = (pl.col("model") == "ensemble") & (pl.col("head") == "return") & (pl.col("step") == step)
    (found,) = newest_rows(bars(), forecasts(log_return=0.004).filter(~lost).lazy(), None, None, {})
    assert found["path"] == []
    assert found["expected_return_log"] == (None if step == HORIZON else 0.004)
    (found,), (problem,) = without_broken([{**found, "current": True, "weight": 0.3}], {"equity": ("return",)})
    assert found["weight"] == 0
    assert "volatility" not in problem.sentence
    assert "path" in problem.sentence


@pytest.mark.parametrize("value", [None, 1e300, -1e300])
def test_a_signalling_model_without_a_possible_forecast_holds_nothing(value: float | None) -> None:
    sound = {**row(log_return=0.004), "current": True, "weight": 0.3}
    heads = {"equity": ("return", "direction", "volatility")}
    assert without_broken([sound], heads, ["equity"]) == ([sound], [])
    (found,), (problem,) = without_broken([{**sound, "signal_return_log": value}], heads, ["equity"])
    assert found["weight"] == 0
    assert "signal_return_log of lstm" in problem.sentence
    (found,), (problem,) = without_broken([{**sound, "path": [0.0, value, 0.0, 0.0, 0.0]}], heads)
    assert found["weight"] == 0
    assert "path" in problem.sentence
