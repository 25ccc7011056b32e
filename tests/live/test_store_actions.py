"""A bar that looks like the first after a split waits until somebody says what it is; the rest of the store goes on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import BarsError, StoreError
from gatecast.live import add_action, remove_action, retrain, update
from gatecast.market import synthetic
from gatecast.market.actions import SCHEMA, with_terms
from gatecast.market.bars import PRICES
from gatecast.market.steps import doubtful_steps
from gatecast.store import Store
from gatecast.store.export import export
from gatecast.store.history import parquet
from gatecast.store.state import refuse_misfit
from tests.live.conftest import HOUR, Answer, settings

A, B = "B1_0", "B1_1"


class Live:
    """A store's commands: bars of some closes as a vendor's file has them, and whatever else at a close."""

    def __init__(self, store: Path, bars: pl.DataFrame, closes: list[datetime], capsys: Any) -> None:
        self.store, self.bars, self.closes, self._capsys = store, bars, closes, capsys

    def command(self, close: int, *words: object) -> Answer:
        self._capsys.readouterr()
        now = (self.closes[close] + HOUR).isoformat()
        first, *rest = words
        two = [rest.pop(0)] if first in ("actions", "store") else []
        moment = [] if "--now" in rest else ["--now", now]
        status = execute([str(word) for word in (first, *two, self.store, *rest, *moment, "--json")])
        return Answer(status, *self._capsys.readouterr())

    def update(self, first: int, last: int | None = None, *words: object, bars: pl.DataFrame | None = None) -> Answer:
        last = first if last is None else last
        own = (self.bars if bars is None else bars).filter(
            pl.col("time").is_between(self.closes[first], self.closes[last])
        )
        file = self.store.with_name("next.csv")
        own.drop("segment", "known_at", "asset_class").write_csv(file)
        words = ("--bars", file, "--stamp", "close", "--asset-class", "index", *words)
        return self.command(last, "update", *words)

    def actions(self, close: int, verb: str, *words: object, symbol: str = A, of: int | None = None) -> Answer:
        day = self.closes[close if of is None else of].date()
        return self.command(close, "actions", verb, "--symbol", symbol, "--date", day, *words)

    def chain(self, close: int) -> pl.DataFrame:
        """The bars of A that the chain sees."""
        bars = Store.open(self.store).bars.for_chain(self.closes[close] + HOUR)
        return bars.filter(pl.col("symbol") == A)


@pytest.fixture
def live(store: Path, bars: pl.DataFrame, closes: list[datetime], capsys: pytest.CaptureFixture[str]) -> Live:
    return Live(store, bars, closes, capsys)


@pytest.fixture(scope="module")
def without_model(
    bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store before its first model: commands on it are fast."""
    folder = tmp_path_factory.mktemp("without_model") / "store"
    now = closes[month - 4] + HOUR
    update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=settings())
    return folder


@pytest.fixture
def plain(
    without_model: Path, bars: pl.DataFrame, closes: list[datetime], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Live:
    shutil.copytree(without_model, tmp_path / "plain")
    return Live(tmp_path / "plain", bars, closes, capsys)


@pytest.fixture
def day(month: int) -> int:
    """The close of the bar that looks like a split: three closes before a refit."""
    return month - 3


def divided(
    bars: pl.DataFrame, since: datetime, by: float, *, volume: bool = True, until: datetime | None = None
) -> Any:
    """Bars of A as they are after a split, up to a close."""
    then = (
        (pl.col("symbol") == A)
        & (pl.col("time") >= since)
        & (pl.col("time") <= (until or datetime.max.replace(tzinfo=UTC)))
    )
    ratio = pl.when(then).then(by).otherwise(1.0)
    more = {"volume": pl.col("volume") * ratio} if volume else {}
    return bars.with_columns(pl.col(PRICES) / ratio, **more)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ── it waits ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("by", "words", "first"), [(10.0, "10 for 1", 0), (0.01, "pence and pounds", 30), (1 / 3, "1 for 3", 0)]
)
def test_a_step_like_a_split_waits_and_the_other_symbol_goes_on(
    live: Live, day: int, by: float, words: str, first: int
) -> None:
    """17, 18, 19, 88: in the newest bar alone, and after bars that the store has."""
    close = live.closes[day]
    split = divided(live.bars, close, by)
    done = live.update(day - first, day, bars=split)
    assert done.status == 0
    assert done.gates == {A: "doubtful bar", B: "decided"}
    row = done.json["decisions"][0]
    assert row["weight"] in (0.0, None)
    assert {row[name] for name in ("expected_return_log", "signal", "z", "standard_deviation")} == {None}
    own = split.filter(pl.col("symbol") == A, pl.col("time") == close)["close"][0]
    assert (row["today"], row["close"]) == ("bar", pytest.approx(own))
    assert words in row["reason"]
    assert f"gatecast actions resolve {live.store} --symbol {A} --date {live.closes[day].date()}" in row["reason"]
    assert row["reason"] in done.json["warnings"]
    assert len(live.chain(day)) == len(live.chain(day - 1))
    assert Store.open(live.store).check() == []


def test_every_command_says_that_it_waits_and_that_is_what_a_chain_says(live: Live, day: int) -> None:
    split = divided(live.bars, live.closes[day], 2.0)
    said = live.update(day, bars=split).json["decisions"][0]["reason"]
    before = files(live.store)
    again = live.update(day, day, "--strict", bars=split)
    assert (again.status, again.gates) == (1, {A: "doubtful bar", B: "decided"})
    after = files(live.store)
    assert {name for name in after if after[name] != before.get(name)} <= {"heartbeat", "lock"}
    health = live.command(day, "health")
    assert health.status == 1
    assert said in [one["sentence"] for one in health.json["checks"] if one["level"] == "warning"]
    today = {row["symbol"]: row for row in live.command(day, "today").json["decisions"]}
    assert (today[A]["gate"], today[A]["weight"] or 0.0) == ("doubtful bar", 0.0)
    assert said in today[A]["reason"]
    assert len(today[A]["why"]) < 120
    waits = f"its bar of {live.closes[day].date()} waits to be resolved (gatecast actions)"
    assert today[A]["limited_by"].endswith(waits)
    assert today[A]["held_why"].startswith(f"stays held, {today[A]['held']:+.1%} now: {waits}.")
    assert said in [one["sentence"] for one in live.command(day, "actions", "list").json["waiting"]]
    for command in ("parity", "replay"):
        assert live.command(day, command, "--last", 1).json["equal"]


def test_it_waits_on_at_the_new_level_and_no_refit_learns_from_it(live: Live, day: int, month: int) -> None:
    split = divided(live.bars, live.closes[day], 2.0)
    for close in (day, month):
        done = live.update(day - 5, close, bars=split)
        assert done.gates == {A: "doubtful bar", B: "decided"}
        assert not {"stale", "awaited"} & {problem["kind"] for problem in done.json["data_problems"]}
    assert retrain(live.store, now=live.closes[month] + HOUR).model is not None
    assert live.chain(month)["time"].max() == live.closes[day - 1]
    assert live.command(month, "today").json["decisions"][0]["gate"] == "doubtful bar"
    stored = Store.open(live.store).bars.as_of(live.closes[month] + HOUR)
    assert stored.filter(pl.col("symbol") == A)["close"][-1] == pytest.approx(
        split.filter(pl.col("symbol") == A, pl.col("time") == live.closes[month])["close"][0]
    )


def test_a_wrong_bar_that_comes_corrected_waits_no_more(live: Live, day: int) -> None:
    live.update(day, bars=divided(live.bars, live.closes[day], 0.01))
    done = live.update(day)
    assert done.gates == {A: "decided", B: "decided"}
    assert not live.command(day, "actions", "list").json["waiting"]
    assert live.command(day, "health").status == 0


def test_a_step_that_the_user_calls_a_true_move_does_not_wait(live: Live, day: int) -> None:
    half = divided(live.bars, live.closes[day], 2.0)
    done = live.update(day - 5, day, "--splits", "false", bars=half)
    assert done.gates == {A: "decided", B: "decided"}
    assert not live.command(day, "actions", "list").json["waiting"]


# ── and is resolved ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rebased", [False, True])
def test_a_split_is_a_factor_beside_raw_bars_and_changes_no_issued_row(live: Live, day: int, rebased: bool) -> None:
    split = divided(live.bars, live.closes[day], 10.0)
    live.update(day, bars=split)
    live.update(day + 1, bars=split)
    issued = Store.open(live.store).decisions()
    done = live.actions(day + 1, "resolve", "--as", "split", "--ratio", 10, of=day)
    assert (done.status, done.json["changed"], done.json["waiting"]) == (0, True, [])
    assert Store.open(live.store).decisions().equals(issued)
    true = live.bars.filter(pl.col("symbol") == A, pl.col("time") <= live.closes[day + 1])
    chain = live.chain(day + 1)
    for name in (*PRICES, "volume"):
        assert np.allclose(chain[name], true[name], rtol=1e-12)
    assert chain["known_at"][-2:].to_list() == [live.closes[day + 1] + HOUR] * 2
    assert chain["known_at"][-3] == live.closes[day - 1]
    assert live.update(day + 1, bars=split).gates == {A: "decided", B: "decided"}
    given = divided(live.bars, live.closes[0], 10.0) if rebased else split
    done = live.update(day - 20, day + 2, bars=given)
    assert (done.gates, done.json["bars"]["corrected"]) == ({A: "decided", B: "decided"}, 0)
    assert live.command(day + 2, "replay" if rebased else "parity", "--last", 3).json["equal"]
    assert Store.open(live.store).check() == []


def test_what_was_said_can_be_said_again_otherwise_and_taken_back(plain: Live, day: int) -> None:
    plain.update(day, bars=divided(plain.bars, plain.closes[day], 0.01, volume=False))
    records = Store.open(plain.store).state.number
    for words, close in (
        (("--as", "unit", "--ratio", 0.01), 1.0), (("--as", "real-move"), 100.0), (("--as", "error"), None),
        (("--as", "unit", "--ratio", 0.01), 1.0),
    ):  # fmt: skip
        assert plain.actions(day, "resolve", *words).json["changed"]
        assert not plain.actions(day, "resolve", *words).json["changed"]
        own = plain.chain(day).filter(pl.col("time") == plain.closes[day])
        true = plain.bars.filter(pl.col("symbol") == A, pl.col("time") == plain.closes[day])
        assert (own["close"] / true["close"]).to_list() == ([] if close is None else pytest.approx([close]))
        assert own["volume"].to_list() == ([] if close is None else true["volume"].to_list())
    for symbol, count in ((A, 1), (B, 0)):
        assert len(plain.command(day, "actions", "list", "--symbol", symbol).json["actions"]) == count
    assert plain.actions(day, "remove").json["waiting"][0]["symbol"] == A
    assert not plain.actions(day, "remove", "--kind", "delisting").json["changed"]
    again = plain.update(day, bars=divided(plain.bars, plain.closes[day], 0.01, volume=False)).json
    assert "doubtful bar" in {problem["kind"] for problem in again["data_problems"]}
    state = Store.open(plain.store).state
    assert state.number == records + 5
    store = Store.open(plain.store)
    store.snapshot(plain.closes[day] + HOUR)
    assert Store.open(plain.store).state.waits == state.waits
    assert store.check() == []


def test_an_error_is_left_out_and_the_bars_after_it_are_judged_again(plain: Live, day: int) -> None:
    wrong = divided(plain.bars, plain.closes[day], 0.01, until=plain.closes[day + 1])
    for close in (day, day + 1, day + 2):
        plain.update(close, bars=wrong)
    done = plain.actions(day + 2, "resolve", "--as", "error", of=day).json
    assert [one["date"] for one in done["waiting"]] == [str(plain.closes[day + 1].date())]
    done = plain.actions(day + 2, "resolve", "--as", "error", of=day + 1).json
    assert done["waiting"] == []
    assert plain.chain(day + 2)["time"][-2:].to_list() == [plain.closes[day - 1], plain.closes[day + 2]]
    errors = [(one["symbol"], one["date"]) for one in plain.command(day + 2, "actions", "list").json["left_out"]]
    assert errors == [(A, str(plain.closes[day].date())), (A, str(plain.closes[day + 1].date()))]
    again = plain.update(day - 3, day + 2, bars=wrong)
    assert again.json["bars"].get("new", 0) == 0
    assert plain.chain(day + 2)["time"][-2:].to_list() == [plain.closes[day - 1], plain.closes[day + 2]]
    plain.update(day - 3, day + 2)
    assert plain.chain(day + 2)["time"][-2:].to_list() == [plain.closes[day + 1], plain.closes[day + 2]]


def test_after_a_split_the_next_step_waits_with_prices_as_they_came(plain: Live, day: int) -> None:
    """A bar in pence the day after, at the new level."""
    split = divided(plain.bars, plain.closes[day], 10.0)
    pence = divided(split, plain.closes[day + 1], 0.01, until=plain.closes[day + 1])
    for close in (day, day + 1, day + 2):
        plain.update(close, bars=pence)
    done = plain.actions(day + 2, "resolve", "--as", "split", "--ratio", 10, of=day).json
    wrong = pence.filter(pl.col("symbol") == A, pl.col("time") == plain.closes[day + 1])
    assert [(one["date"], one["open"]) for one in done["waiting"]] == [
        (str(plain.closes[day + 1].date()), pytest.approx(wrong["open"][0]))
    ]
    assert plain.actions(day + 2, "resolve", "--as", "error", of=day + 1).json["waiting"] == []
    true = plain.bars.filter(pl.col("symbol") == A, pl.col("time") != plain.closes[day + 1])
    true = true.filter(pl.col("time") <= plain.closes[day + 2])
    assert np.allclose(plain.chain(day + 2)["close"], true["close"], rtol=1e-12)


def test_a_split_that_is_told_in_time_makes_no_bar_wait(live: Live, day: int) -> None:
    words = ("add", "--kind", "split", "--ratio", 2)
    assert live.actions(day - 1, *words, of=day).json["changed"]
    assert not live.actions(day - 1, *words, of=day).json["changed"]
    done = live.update(day - 10, day, bars=divided(live.bars, live.closes[day], 2.0))
    assert done.gates == {A: "decided", B: "decided"}
    assert done.json["bars"]["corrected"] == 0
    assert live.command(day, "parity", "--last", 1).json["equal"]


def test_an_end_is_told_with_its_return_or_price(live: Live, day: int) -> None:
    live.update(day)
    close = live.chain(day)["close"][-1]
    done = live.actions(day, "add", "--kind", "delisting", "--price", close * 0.7).json
    assert done["actions"][0]["value"] == pytest.approx(-0.3)
    after = live.update(day + 1, bars=live.bars.filter(pl.col("symbol") == B))
    assert after.gates == {A: "ended", B: "decided"}
    table = export(Store.open(live.store), live.store.with_name("out"), live.closes[day + 1])
    assert table["actions.csv"] == 1


def test_dividends_and_the_like_are_kept_and_change_no_forecast(plain: Live, day: int) -> None:
    before = plain.chain(day - 1)
    words = ("add", "--kind", "dividend", "--cash", 0.5, "--pay-date", plain.closes[day].date())
    assert plain.actions(day - 1, *words).json["changed"]
    assert not plain.actions(day - 1, *words).json["changed"]
    assert plain.actions(day - 1, *words[:-2]).status == 2  # another date of payment
    assert plain.actions(day - 1, "add", "--kind", "spin_off", "--ratio", 0.25, "--into", "B1_9").json["changed"]
    found = Store.open(plain.store).actions
    assert found.select("kind", "value", "pay_date", "into").rows() == [
        ("dividend", 0.5, plain.closes[day].date(), None), ("spin_off", 0.25, None, "B1_9"),
    ]  # fmt: skip
    assert plain.chain(day - 1).equals(before)
    assert plain.actions(day - 1, "remove", "--kind", "dividend").json["changed"]
    assert Store.open(plain.store).actions["kind"].to_list() == ["spin_off"]


def test_a_merger_ends_a_symbol_at_its_last_bar_and_is_taken_back_with_it(plain: Live, day: int) -> None:
    close = plain.chain(day - 1)["close"][-1]
    words = ("--kind", "merger", "--cash", 1.2 * close)
    told = plain.actions(day, "add", *words).json["actions"]
    assert [(one["kind"], one["value"]) for one in told] == [
        ("delisting", pytest.approx(0.2)), ("merger", pytest.approx(1.2 * close)),
    ]  # fmt: skip
    wrong = plain.actions(day, "remove")  # of a split, where no kind is named
    assert (wrong.status, len(wrong.json["actions"])) == (0, 2)
    at = plain.closes[day]
    said = remove_action(plain.store, symbol=A, day=at.date(), kind="split", now=at + HOUR).message
    assert said.endswith("nothing has changed. Of that day it has a merger (--kind merger).")
    assert plain.actions(day, "remove", "--kind", "merger").json["actions"] == []
    told = plain.actions(day, "add", "--kind", "symbol_change", "--into", "NEW").json["actions"]
    assert [(one["kind"], one["value"]) for one in told] == [("delisting", 0.0), ("symbol_change", 1.0)]


def test_an_update_keeps_the_money_of_its_table(plain: Live, day: int, tmp_path: Path) -> None:
    table = {"symbol": [A, A], "kind": ["dividend", "split"], "value": [0.5, 1.0],
             "date": [plain.closes[day - 1].date()] * 2}  # fmt: skip
    pl.DataFrame(table).write_csv(tmp_path / "actions.csv")
    assert plain.update(day, day, "--actions", tmp_path / "actions.csv").status == 0
    assert Store.open(plain.store).actions["kind"].to_list() == ["dividend"]


def test_a_table_of_actions_of_an_earlier_version_is_read(plain: Live, day: int) -> None:
    store = Store.open(plain.store)
    row = pl.DataFrame([[A, "delisting", plain.closes[day - 2].date(), -0.3, None]], schema=SCHEMA, orient="row")
    store.set_actions(row, plain.closes[day])
    found = Store.open(plain.store).actions
    assert found.select(list(SCHEMA)).equals(row)
    assert found["into"].to_list() == [None]


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "another ratio": (("resolve", "--as", "split", "--ratio", 3), "does not explain the step"),
    "no ratio": (("resolve", "--as", "split"), "needs its ratio"),
    "a ratio too many": (("resolve", "--as", "real-move", "--ratio", 2), "needs its ratio"),
    "another word": (("resolve", "--as", "spilt", "--ratio", 2), "Did you mean 'split'?"),
    "another symbol": (("resolve", "--as", "real-move", "--symbol", "B1_7"), "has no symbol 'B1_7'"),
    "another date": (("resolve", "--as", "real-move", "--date", "2001-01-02"), "no bar of 'B1_0' on 2001-01-02 waits"),
    "a moment before": (("resolve", "--as", "real-move", "--now", "2001-01-02"), "before the store's newest record"),
    "another kind": (("add", "--kind", "bonus", "--ratio", 1), "no kind of action 'bonus'"),
    "a dividend by a ratio": (("add", "--kind", "dividend", "--ratio", 1), "a dividend needs --cash"),
    "a dividend into a symbol": (("add", "--kind", "dividend", "--cash", 1, "--into", B), "a dividend has no into"),
    "a dividend in pence": (("add", "--kind", "dividend", "--cash", 1e4), "more than the close before"),
    "a merger for nothing": (("add", "--kind", "merger", "--cash", 0), "needs money a share as its value"),
    "a change into nothing": (("add", "--kind", "symbol_change"), "needs the symbol that is given"),
    "a change at another price": (
        ("add", "--kind", "symbol_change", "--into", B, "--ratio", 0.3), "a share keeps its price under another name",
    ),
    "a merger to come": (
        ("add", "--kind", "merger", "--cash", 1, "--date", "2031-01-02"), "has not come yet",
    ),
    "a merger with bars after it": (
        ("add", "--kind", "merger", "--cash", 40, "--symbol", B, "--date", "2001-06-05"), "trades on",
    ),
    "no value": (("add", "--kind", "split", "--ratio", -2), "no value of a split"),
    "a ratio that nobody gives": (("add", "--kind", "split", "--ratio", 1e9), "from 1e-6 to 1e6"),
    "units that nobody gives": (("add", "--kind", "spin_off", "--into", "NEW", "--ratio", 1e9), "from 1e-6 to 1e6"),
    "a merger for units that nobody gives": (
        ("add", "--kind", "merger", "--into", "NEW", "--ratio", 1e9), "its `ratio` from 1e-6 to 1e6",
    ),
    "a name for units that nobody gives": (
        ("add", "--kind", "symbol_change", "--into", "NEW", "--ratio", 1e9), "from 1e-6 to 1e6",
    ),
    "terms of another kind": (("add", "--kind", "split", "--price", 2), "needs --ratio"),
    "a split that the bars do not show": (
        ("add", "--kind", "split", "--ratio", 2, "--symbol", B, "--date", "2001-06-05"), "do not step by a ratio of 2",
    ),
    "known before the bars": (
        ("add", "--kind", "split", "--ratio", 2, "--symbol", B, "--date", "2001-06-05", "--known-at", "2001-06-01"),
        "known from now on",
    ),
    "another date than the step's": (("add", "--kind", "split", "--ratio", 2, "--date", "2001-06-05"), "another one"),
    "an end with bars after it": (
        ("add", "--kind", "delisting", "--return", -0.3, "--symbol", B, "--date", "2001-06-05"), "trades on",
    ),
}  # fmt: skip


def test_what_does_not_fit_is_refused_and_nothing_changes(plain: Live, day: int) -> None:
    plain.update(day, bars=divided(plain.bars, plain.closes[day], 2.0))
    before = files(plain.store)
    for words, said in REFUSED.values():
        verb, *rest = words
        given = {"--symbol": A, "--date": plain.closes[day].date(), **dict(zip(rest[::2], rest[1::2], strict=True))}
        done = plain.command(day, "actions", verb, *(word for pair in given.items() for word in pair))
        assert done.status == 2, words
        assert said in done.json["error"]
    assert {name for name, content in files(plain.store).items() if content != before.get(name)} <= {"lock"}


def test_a_history_with_a_split_of_today_is_read_and_one_within_it_is_refused(
    tmp_path: Path, bars: pl.DataFrame
) -> None:
    """Of shares: a file with all of the history, with a new symbol, and with more history than the store has."""
    closes = bars["time"].unique().sort().to_list()
    given = bars.drop("asset_class", "known_at", "segment")

    def put(name: str, rows: pl.DataFrame) -> Any:
        rows.write_csv(tmp_path / "next.csv")
        return update(
            tmp_path / name, tmp_path / "next.csv", now=closes[-1] + HOUR, stamp="close", experiment=settings()
        )

    halved = divided(given, closes[-1], 2.0)
    for name, since in (("all", 0), ("later", 300)):
        put(name, given.filter(pl.col("time") >= closes[since], pl.col("time") < closes[-1], pl.col("symbol") == A))
        done = put(name, halved.filter(pl.col("time") >= closes[since], pl.col("symbol") == A))
        assert done.counts == {"new": 1, "late": 0, "corrected": 0, "unfinished": 0, "repeated": 599 - since}
        assert list(Store.open(tmp_path / name).state.waiting) == [A]
    other = divided(given, closes[400], 2.0).filter(pl.col("symbol") == A).with_columns(symbol=pl.lit("NEW"))
    old = divided(given, closes[100], 2.0).with_columns(
        pl.col(PRICES) * pl.when(pl.col("symbol") == A).then(2.0).otherwise(1.0)
    )
    for name, rows in (
        ("all", pl.concat([given.filter(pl.col("symbol") == A), other])),
        ("later", old.filter(pl.col("symbol") == A)),
    ):
        records = Store.open(tmp_path / name).state.number
        with pytest.raises(BarsError, match="looks like a split"):
            put(name, rows)
        assert Store.open(tmp_path / name).state.number == records


def test_a_split_of_a_table_is_an_action_beside_bars_as_they_were_traded(plain: Live, day: int) -> None:
    """The same as `actions add` before the update: raw bars, and one factor for who reads them."""
    told = plain.store.with_name("by_command")
    shutil.copytree(plain.store, told)
    bars = divided(plain.bars, plain.closes[day], 2.0).filter(pl.col("time") == plain.closes[day])
    now, date = plain.closes[day] + HOUR, plain.closes[day].date()
    table = pl.DataFrame({"symbol": [A], "date": [date], "ratio": [2.0]})
    done = update(plain.store, bars, now=now, splits=table)
    add_action(told, symbol=A, day=date, kind="split", ratio=2.0, now=now)
    other = update(told, bars, now=now)
    stores = [Store.open(one) for one in (plain.store, told)]
    for left, right in zip(*([one.bars.as_of(now), one.bars.for_chain(now)] for one in stores), strict=True):
        assert left.equals(right)
    raw = stores[0].bars.as_of(now).filter(pl.col("symbol") == A)["close"]
    assert raw[-1] == bars.filter(pl.col("symbol") == A)["close"].item()
    assert stores[0].actions.equals(stores[1].actions)
    assert [row["weight"] for row in done.decisions] == [row["weight"] for row in other.decisions]
    assert update(plain.store, bars, now=now, splits=table).wrote == ()


def test_a_split_within_a_session_is_none(plain: Live, day: int) -> None:
    """Bars of an hour: a factor from the session on would change the bars before the step."""
    hours = plain.bars.filter(pl.col("symbol") == A).with_columns(
        time=pl.datetime(2001, 1, 2, 10, time_zone="UTC") + pl.duration(hours=1) * pl.int_range(pl.len())
    )
    hours = hours.with_columns(known_at="time", asset_class=pl.lit("crypto")).cast({"time": pl.Datetime("us", "UTC")})
    store, now = plain.store.with_name("hours"), hours["time"][-1] + HOUR
    update(store, hours[:-1], now=now, experiment=settings())
    update(store, hours[-1:].with_columns(pl.col(PRICES) * 100), now=now)
    when = Store.open(store).state.waiting[A].time[:10]
    words = ["actions", "resolve", str(store), "--symbol", A, "--date", when, "--now", now.isoformat(), "--as"]
    assert execute([*words, "unit", "--ratio", "0.01"]) == 2
    assert execute([*words, "error"]) == 0


@pytest.mark.parametrize(
    "change", [{"time": "2001-01-02"}, {"until": "soon"}, {"ratio": 0.0}, {"opens": -1.0}, {"symbol": 7}]
)
def test_a_record_of_a_wait_that_is_none_is_refused(change: dict[str, Any]) -> None:
    wait = {"symbol": A, "time": "2001-01-02T21:00:00.000000Z", "ratio": 2.0, "was": 100.0, "opens": 50.0}
    parts = {"actions": "0" * 64 + ".parquet"}
    refuse_misfit("actions", {"parts": parts, "waits": [wait]})
    with pytest.raises(StoreError, match="does not fit"):
        refuse_misfit("actions", {"parts": parts, "waits": [{**wait, **change}]})


@pytest.mark.parametrize("value", [0.0, -2.0, 1e7])
def test_a_table_of_actions_that_are_none_is_damage(plain: Live, day: int, value: float) -> None:
    store, now = Store.open(plain.store), plain.closes[day]
    row = pl.DataFrame([[A, "split", now.date(), value, now]], schema=SCHEMA, orient="row")
    before = files(plain.store)
    with pytest.raises(StoreError, match=r"is not written: .* is no action"):
        store.set_actions(row, now)
    assert files(plain.store) == before
    written_past(store, row, now)
    assert f"its split of 'B1_0' on {now.date()}, {value}, is no action" in str(store.check()[0])
    assert plain.update(day).status == 2
    assert plain.actions(day, "remove").status == 0
    assert store.faults(plain.store) == []
    assert plain.update(day).status == 0


def written_past(store: Store, actions: pl.DataFrame, now: datetime) -> None:
    """A record that an earlier version wrote: nobody looked whether its table can be read."""
    part = store.put(parquet(actions), ".parquet")
    store.journal.append("actions", {"parts": {"actions": part}}, now)
    store.state = Store.open(store.folder).state


@pytest.mark.parametrize("into", ["x" * 1001, "Z\n\x1b[31m"])
def test_a_store_with_an_odd_symbol_of_an_earlier_version_goes_on_and_gets_rid_of_it(
    plain: Live, day: int, into: str
) -> None:
    store, now = Store.open(plain.store), plain.closes[day - 1]
    row = with_terms(pl.DataFrame([[A, "spin_off", now.date(), 0.1, now]], schema=SCHEMA, orient="row"))
    row = row.with_columns(into=pl.lit(into))
    store.append("tables", {"parts": {"actions": store.put(parquet(row), ".parquet")}}, now)
    written_past(store, row, now)
    record = Store.open(plain.store).state.number
    assert plain.update(day).status == 0
    notes = Store.open(plain.store).check()
    assert all(note.is_harmless for note in notes)
    assert notes[0].what.startswith(f"record {record - 1} has a spin_off of 'B1_0'")
    assert "actions remove" in notes[0].what
    assert plain.actions(day, "remove", "--kind", "spin_off", of=day - 1).status == 0
    assert Store.open(plain.store).check() == []
    assert plain.update(day + 1).status == 0
    assert Store.open(plain.store).actions.is_empty()


@pytest.mark.parametrize(("days", "status", "said"), [
    (-20_000, 0, "a split on {} changes nothing"), (3_000, 0, "more than a year ahead"),
    (3_700, 2, "more than ten years ahead"), (30, 0, "decides with it."),
])  # fmt: skip
def test_a_split_far_from_now_is_told(plain: Live, day: int, days: int, status: int, said: str) -> None:
    on = plain.closes[day].date() + timedelta(days=days)
    words = ("--symbol", A, "--date", on, "--kind", "split", "--ratio", 2)
    answer = plain.command(day, "actions", "add", *words)
    assert answer.status == status
    text = answer.json["error" if status else "message"]
    assert said.format(on) in text
    assert ("look for a typo" in text) == (days == 3_000)


@pytest.mark.parametrize(("years", "status"), [(2, 0), (12, 2)])
def test_a_table_of_actions_far_ahead_is_told(plain: Live, day: int, years: int, status: int) -> None:
    on = plain.closes[day].date() + timedelta(days=366 * years)
    table = plain.store.with_name("actions.csv")
    table.write_text(f"symbol,kind,date,value\n{A},split,{on},2\n")
    answer = plain.update(day, None, "--actions", table)
    assert answer.status == status
    said = f"The split of 'B1_0' on {on} is more than {'ten years' if status else 'a year'} ahead"
    assert said in (answer.json["error"] if status else " ".join(answer.json["warnings"]))


# ── the rule ──────────────────────────────────────────────────────────────────────────────────────


def crashed(bars: pl.DataFrame, to: float, opens: float) -> pl.DataFrame:
    """The last bar of each symbol with another open and close, as shares of the close before."""
    last = pl.col("time") == pl.col("time").max().over("symbol")
    before = pl.col("close").shift().over("symbol")
    prices = {
        "open": before * opens,
        "high": before * max(opens, to),
        "low": before * min(opens, to),
        "close": before * to,
    }
    return bars.with_columns(pl.when(last).then(value).otherwise(name).alias(name) for name, value in prices.items())


def found(bars: pl.DataFrame, symbols: list[str] | None = None) -> list[str]:
    last = bars["time"].max()
    newer = bars.filter(pl.col("time") == last)
    if symbols is not None:
        old = synthetic.b1(300, seed=1, r2=0.08, symbols=8).filter(pl.col("time") == last)
        newer = pl.concat([newer.filter(pl.col("symbol").is_in(symbols)), old.filter(~pl.col("symbol").is_in(symbols))])
    return [step.symbol for step in doubtful_steps(bars.filter(pl.col("time") < last), newer.sort("symbol"))]


@pytest.fixture(scope="module")
def eight() -> pl.DataFrame:
    return synthetic.b1(300, seed=1, r2=0.08, symbols=8)


def test_a_crash_that_overlaps_the_day_before_does_not_wait_and_a_step_does(eight: pl.DataFrame) -> None:
    assert found(crashed(eight, to=0.5, opens=0.5), ["B1_3"]) == ["B1_3"]
    assert found(crashed(eight, to=0.5, opens=0.95), ["B1_3"]) == []
    assert found(crashed(eight, to=0.58, opens=0.57), ["B1_3"]) == []
    assert found(eight) == []


def test_a_market_that_moves_as_a_whole_does_not_wait_but_for_what_no_market_does(eight: pl.DataFrame) -> None:
    names = eight["symbol"].unique().sort().to_list()
    assert found(crashed(eight, to=0.5, opens=0.5)) == []
    assert found(crashed(eight, to=0.5, opens=0.5), names[:2]) == names[:2]
    assert found(crashed(eight, to=100.0, opens=100.0)) == names


def test_a_market_of_large_moves_needs_a_larger_step(eight: pl.DataFrame) -> None:
    close = (pl.col("close").log() * 8).exp()
    wild = eight.with_columns(close.alias(name) for name in PRICES)
    assert found(crashed(wild, to=0.5, opens=0.5)) == []
