"""A store from day to day: new bars, refits, the way back, what changed, and whether live says what batch says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import BarsError, GatecastError, StoreError
from gatecast.explanations import explain
from gatecast.live import Updated, health, parity, replay_store, retrain, rollback, today, update
from gatecast.machine import Machine
from gatecast.samples.features import FEATURES, register
from gatecast.store import Store
from gatecast.store.export import export
from gatecast.store.history import parquet
from tests.live.conftest import FIRST, HOUR, files, settings


def test_a_decision_of_every_symbol_is_issued_with_its_gate_and_the_same_bars_change_nothing(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    done = feed(month - 3)
    assert [row["symbol"] for row in done.decisions] == ["B1_0", "B1_1"]
    assert all(row["time"] == closes[month - 3] and row["gate"] in ("open", "signal", "flat") for row in done.decisions)
    assert dict(done.counts)["new"] == 2
    assert len(done.wrote) == 2
    before = files(store)
    again = feed(month - 3)
    after = files(store)
    assert again.wrote == ()
    assert [(row["gate"], row["weight"]) for row in again.decisions] == [
        (row["gate"], row["weight"]) for row in done.decisions
    ]
    assert {name for name in after if after[name] != before.get(name)} <= {"heartbeat", "lock"}
    assert Store.open(store).check() == []


def test_what_is_issued_from_day_to_day_is_what_a_chain_over_all_bars_says(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    for number in range(month - 3, month + 3):
        feed(number - 2, number)
        retrain(store, now=closes[number] + HOUR)
    now = closes[month + 2] + HOUR
    assert len(Store.open(store).state.models) == 2
    for compare in (parity, replay_store):
        found = compare(store, last=6, now=now)
        assert (found.closes, found.difference) == (6, None)


def test_a_machine_that_slept_decides_at_the_newest_close_alone_and_live_is_still_batch(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    feed(month - 3)
    slept = feed(month - 2, month + 1, after=HOUR)
    assert dict(slept.counts)["late"] == 6
    assert {row["time"] for row in slept.decisions} == {closes[month + 1]}
    due = retrain(store, now=closes[month + 1] + HOUR)
    assert due.model is not None
    assert list(due.due) == ["index"]
    assert parity(store, last=1, now=closes[month + 1] + HOUR).equal  # before it batch had refitted in time


def test_a_refit_takes_the_place_of_what_was_issued_before_the_fill_and_waits_after_it(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    feed(month - 3, month)
    late = retrain(store, now=closes[month] + timedelta(days=2))
    assert late.model is None
    assert "fill has passed" in late.message
    done = retrain(store, now=closes[month] + HOUR)
    assert done.model is not None
    assert {row["model"] for row in done.decisions} == {done.model}
    assert retrain(store, now=closes[month] + HOUR).message == "no refit is due."
    newest = today(store, now=closes[month] + HOUR).rows
    assert {row["model"] for row in newest} == {done.model}


def test_a_rollback_brings_the_old_forecasts_back_and_a_second_one_the_new_ones(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    now = closes[month] + HOUR
    old = {row["symbol"]: row["expected_return_log"] for row in feed(month - 3, month).decisions}
    new = {row["symbol"]: row["expected_return_log"] for row in retrain(store, now=now).decisions}
    assert all(old[symbol] != new[symbol] for symbol in old)
    back, forth = rollback(store, now=now), rollback(store, now=now)
    for done, was, becomes in ((back, new, old), (forth, old, new)):
        assert {row["symbol"]: row["expected_return_log_before"] for row in done.changes} == was
        assert {row["symbol"]: row["expected_return_log_after"] for row in done.changes} == becomes
    assert retrain(store, now=now).message == "no refit is due."
    assert Store.open(store).check() == []


def test_a_decision_of_another_model_than_the_one_in_force_says_so(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    """As of a symbol without a forecast, which a rollback does not decide again."""
    now = closes[month] + HOUR
    feed(month - 3, month)
    made, opened = retrain(store, now=now).model, Store.open(store)
    assert not any("in force now" in row["why"] for row in today(store, now=now).rows)
    old = opened.state.models[0].record
    opened.append("rollback", {"model": old}, now)
    for row in today(store, now=now).rows:
        said = f"Model {made} decided this; model {old}, in force now, has not decided of this close."
        assert (row["model"], row["why"].endswith(said)) == (made, True)


def test_without_a_model_before_nothing_can_be_brought_back(store: Path) -> None:
    with pytest.raises(StoreError, match="no model before"):
        rollback(store)


def test_a_store_without_a_model_says_how_old_its_bars_are_and_how_its_first_decision_is_made(
    tmp_path: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    store, now = tmp_path / "new", closes[-1] + timedelta(days=9 * 365)
    done = update(store, bars, now=now, experiment=settings())
    assert any("the newest bar is of" in one and "days old" in one for one in done.warnings)
    first = f"`gatecast retrain {store}`"
    for ask in (rollback, lambda folder: explain(folder, str(bars["symbol"][0]))):
        with pytest.raises(GatecastError) as refused:
            ask(store)
        assert first in str(refused.value)
        assert "Leave it out" not in str(refused.value)


def test_what_changed_is_the_sum_of_new_bars_and_the_refit(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    now = closes[month] + HOUR
    feed(month - 3, month - 1)
    feed(month)
    retrain(store, now=now)
    rows = today(store, now=now).rows
    assert len(rows) == 2
    for row in rows:
        assert row["change"] == pytest.approx(row["weight"] - row["before"]["weight"])
        assert sum(row["because"].values()) == pytest.approx(row["change"])
        assert set(row["because"]) <= {"data", "refit"}
    assert any("refit" in row["because"] for row in rows)


def test_a_step_like_a_split_that_the_common_bar_has_as_well_is_refused_and_nothing_changes(
    feed: Callable[..., Updated], month: int, store: Path, bars: pl.DataFrame
) -> None:
    before = files(store)
    halved = bars.with_columns(pl.col("open", "high", "low", "close") / 2)
    with pytest.raises(BarsError, match="split"):
        feed(month - 4, month - 3, given=halved)
    after = files(store)
    assert {name for name in after if after[name] != before.get(name)} <= {"lock"}


def test_a_history_that_was_rebased_goes_on_at_the_level_of_the_store(
    feed: Callable[..., Updated], month: int, store: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    halved = bars.with_columns(pl.col("open", "high", "low", "close") / 2)
    done = feed(month - 30, month - 3, given=halved)
    assert dict(done.counts) | {"repeated": 0} == {
        "new": 2, "late": 0, "corrected": 0, "unfinished": 0, "repeated": 0,
    }  # fmt: skip
    assert "rescaled" in {problem.kind for problem in done.problems}
    stored = Store.open(store).bars.as_of(closes[month - 3] + HOUR)
    expected = bars.filter(pl.col("time") <= closes[month - 3])
    assert np.allclose(stored["close"], expected["close"], rtol=1e-12)


def test_a_corrected_bar_is_a_new_version_and_what_was_issued_stays(
    feed: Callable[..., Updated], month: int, store: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    feed(month - 3)
    issued = Store.open(store).decisions()
    wrong = (pl.col("time") == closes[month - 3]) & (pl.col("symbol") == "B1_0")
    changed = bars.with_columns(high=pl.when(wrong).then(pl.col("high") * 1.001).otherwise("high"))
    done = feed(month - 6, month - 3, given=changed)
    assert dict(done.counts)["corrected"] == 1
    assert "revised" in {problem.kind for problem in done.problems}
    assert Store.open(store).decisions().equals(issued)
    found = parity(store, last=1, now=closes[month - 3] + HOUR)
    assert found.difference is not None
    assert (found.difference.stage, found.difference.symbol, found.difference.column) == ("bar", "B1_0", "high")


def test_parity_names_the_feature_that_moved_by_a_bar(
    bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    def move(close: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.r_[0.0, np.diff(np.log(close))]

    register("planted_move", warmup=2)(move)
    try:
        now = closes[month - 4] + HOUR
        experiment = settings(features=("x", "planted_move"))
        update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now, experiment=experiment)
        retrain(tmp_path / "s", now=now)
        now = closes[month - 3] + HOUR
        update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now)
        assert parity(tmp_path / "s", now=now).equal
        again = update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now)
        assert not any("What was issued" in one for one in again.warnings)
        register("planted_move", warmup=2)(lambda close: np.r_[0.0, move(close)[:-1]])
        found = parity(tmp_path / "s", now=now)
        assert found.difference is not None
        assert (found.difference.stage, found.difference.column) == ("feature", "planted_move")
        assert (found.difference.symbol, found.difference.time) == ("B1_0", closes[month - 4])  # the refit's own close
        now = closes[month - 2] + HOUR
        done = update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now)
        assert f"'B1_0' at {closes[month - 3]:%Y-%m-%d %H:%M} UTC: the feature" in done.warnings[0]
        assert "planted_move" in done.warnings[0]
    finally:
        FEATURES.remove("planted_move")


def test_a_symbol_that_is_missing_today_is_said_in_its_row(
    feed: Callable[..., Updated], month: int, bars: pl.DataFrame
) -> None:
    done = feed(month - 3, given=bars.filter(pl.col("symbol") != "B1_1"))
    gates = {row["symbol"]: row["gate"] for row in done.decisions}
    assert gates["B1_1"] == "no bar"
    assert gates["B1_0"] != "no bar"
    assert all(row["weight"] is None for row in done.decisions if row["symbol"] == "B1_1")


def test_a_model_that_was_not_refitted_for_three_periods_forecasts_nothing_and_health_says_so(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]
) -> None:
    last = Store.open(store).state.models[0].cutoffs["index"]
    refit = next(
        number for number, close in enumerate(closes) if str(np.datetime64(close.replace(tzinfo=None))) == last
    )
    served = next(number for number in range(refit, len(closes)) if closes[number].date() > three_months(closes[refit]))
    done = feed(month - 3, served - 1)
    assert {row["gate"] for row in done.decisions} <= {"open", "signal", "flat"}
    assert "old model" not in {problem.kind for problem in done.problems}
    old = feed(served)
    for row in old.decisions:
        assert (row["gate"], row["weight"], row["expected_return_log"], row["path"]) == ("old model", 0.0, None, None)
    issued = Store.open(store).decisions().filter(pl.col("time") == closes[served])
    assert issued["weight"].to_list() == issued["book"].to_list() == [0.0, 0.0]
    assert issued["expected_return_log"].null_count() == 2
    assert "`gatecast retrain` makes a new one" in " ".join(old.warnings)
    now = closes[served] + HOUR
    held = {row["symbol"]: row["weight"] for row in done.decisions}
    for row in today(store, now=now).rows:
        assert set(row["because"]) <= {"data", "age"}
        assert sum(row["because"].values()) == pytest.approx(-held[row["symbol"]])
    assert any("the model's age" in row["why"] for row in today(store, now=now).rows)
    found = health(store, now=now)
    assert found.status == 2
    assert [check.level for check in found.checks if check.name == "model"] == ["failure"]
    feed(served + 1)
    now = closes[served + 1] + HOUR
    again = retrain(store, now=now)
    assert {row["gate"] for row in again.decisions} <= {"open", "signal", "flat"}
    assert [check.level for check in health(store, now=now).checks if check.name == "model"] == ["ok"]
    rows = today(store, now=now).rows
    assert all(sum(row["because"].values()) == pytest.approx(row["weight"]) for row in rows)
    assert any("age" in row["because"] for row in rows)


def three_months(after: datetime) -> date:
    """The same day three months later."""
    month = after.month + 3
    return date(after.year + (month > 12), (month - 1) % 12 + 1, after.day)


def test_a_refit_that_was_interrupted_goes_on_from_its_networks_and_ends_in_the_same_model(
    bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    now = closes[FIRST] + HOUR
    small: dict[str, Any] = {"units": 16, "layers": 1, "seeds": 1, "epochs": 2}
    experiment = settings(
        models=("ridge", "lstm"), model={"lstm": small}, schedule={"train": "1Y", "minimum": "1Y", "refit": "3M"}
    )
    update(tmp_path / "killed", bars.filter(pl.col("time") <= now), now=now, experiment=experiment)
    shutil.copytree(tmp_path / "killed", tmp_path / "twin")

    def after(networks: int, heard: list[int]) -> Callable[[str, int, int], None]:
        def hear(stage: str, done: int, total: int) -> None:
            if "lstm" in stage and done:
                heard.append(done)
            if "lstm" in stage and done == networks:
                raise KeyboardInterrupt

        return hear

    first, second, twin = list[int](), list[int](), list[int]()
    with pytest.raises(KeyboardInterrupt):
        retrain(tmp_path / "killed", now=now, progress=after(2, first))
    assert len(list((tmp_path / "killed" / "kept").glob("*.safetensors"))) == 2
    assert Store.open(tmp_path / "killed").state.models == ()
    assert Store.open(tmp_path / "killed").check() == []
    retrain(tmp_path / "killed", now=now, progress=after(0, second))
    retrain(tmp_path / "twin", now=now, progress=after(0, twin))
    assert (first[0], second[0], twin[0]) == (1, 3, 1)
    assert not (tmp_path / "killed" / "kept").exists()
    resumed, whole = (Store.open(tmp_path / name).state.models[0].parts for name in ("killed", "twin"))
    clocks_and_notices = {"provenance.json", "scores.json"}
    assert {role for role in whole if resumed[role] != whole[role]} <= clocks_and_notices


def test_networks_are_not_kept_through_a_link(store: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (store / "kept").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="kept is no folder"):
        retrain(store)


def test_an_update_that_was_killed_after_it_stored_its_bars_is_done_as_if_they_came_again(
    feed: Callable[..., Updated], month: int, store: Path, bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "twin")
    wrong = (pl.col("time") == closes[month - 5]) & (pl.col("symbol") == "B1_0")
    changed = bars.with_columns(high=pl.when(wrong).then(pl.col("high") * 1.001).otherwise("high"))
    part = changed.filter(pl.col("time").is_between(closes[month - 6], closes[month - 3]))
    now = closes[month - 3] + HOUR
    Store.open(store).add_bars(part, now, stated=False)  # all that happened before the kill
    update(store, part, now=now)
    update(tmp_path / "twin", part, now=now)
    resumed, twin = (Store.open(folder).decisions().drop("record") for folder in (store, tmp_path / "twin"))
    assert resumed.equals(twin)
    assert twin["flags"].to_list()[-2:] == ["revised", ""]


def test_pruning_leaves_what_old_models_issued_and_the_store_goes_on(
    store: Path, feed: Callable[..., Updated], closes: list[datetime], month: int
) -> None:
    feed(month - 3, month)
    made = retrain(store, now=closes[month] + HOUR)
    forced = Store.open(store)
    with forced.locked():  # as if two refits more had been made: the first model is neither in force nor before
        for _ in range(2):
            model = forced.state.models[-1]
            body = {"parts": model.parts, "cutoffs": dict(model.cutoffs), "goes_on": made.model}
            number = forced.append("refit", body, closes[month] + HOUR).number
            forced.append("accepted", {"model": number}, closes[month] + HOUR)
    first = forced.state.models[0]
    gone = forced.prune(closes[month] + HOUR, keep=1).all
    assert first.parts["issued.safetensors"] not in gone
    assert set(gone) & set(first.parts.values())
    feed(month + 1)
    assert today(store, now=closes[month + 1] + HOUR).rows
    forced.append("rollback", {"model": first.record}, closes[month + 1] + HOUR)
    forced.append("rollback", {"model": made.model}, closes[month + 1] + HOUR)
    with pytest.raises(StoreError, match="cannot be brought back"):
        rollback(store, now=closes[month + 1] + HOUR)


def test_the_commands_write_the_index_that_the_environment_names(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    monkeypatch.setenv("GATECAST_INDEX", address)
    own = (store / "index.sqlite").read_bytes()
    bars.filter(pl.col("time").is_between(closes[month - 3], closes[month])).write_parquet(tmp_path / "new.parquet")
    now = (closes[month] + HOUR).isoformat()
    shared = Machine(index=address)
    given = ["--bars", str(tmp_path / "new.parquet"), "--asset-class", "index"]
    for command in (["update", str(store), *given], ["retrain", str(store), "--quiet"], ["rollback", str(store)]):
        before = Store.open(store).state.number
        assert execute([*command, "--now", now]) == 0
        opened = Store.open(store, machine=shared)
        assert opened.state.number > before
        assert opened.index().last() == (opened.state.number, opened.state.hash)
    assert (store / "index.sqlite").read_bytes() == own


def test_an_export_has_the_forecasts_and_says_which_decisions_count(
    store: Path, feed: Callable[..., Updated], closes: list[datetime], month: int, tmp_path: Path
) -> None:
    feed(month - 3, month)
    retrain(store, now=closes[month] + HOUR)
    opened = Store.open(store)
    assert opened.check() == []
    done = export(opened, tmp_path / "out", closes[month] + HOUR, "parquet")
    forecasts = pl.read_parquet(tmp_path / "out" / "forecasts.parquet")
    assert done["forecasts.parquet"] == len(forecasts) > 1000
    assert forecasts.columns == ["symbol", "time", "model", "head", "step", "value"]
    assert not forecasts.select(pl.struct(pl.all().exclude("value")).is_duplicated().any()).item()
    decisions = pl.read_parquet(tmp_path / "out" / "decisions.parquet").filter(pl.col("time") == closes[month])
    assert decisions["in_force"].value_counts().sort("in_force")["count"].to_list() == [2, 2]
    counts = decisions.filter("in_force").sort("symbol")
    indexed = [row for row in opened.index().decisions() if row["time"] == closes[month]]
    assert [row["record"] for row in indexed] == counts["record"].to_list()
    assert [row["gate"] for row in indexed] == counts["gate"].to_list()
    rows = today(store, now=closes[month] + HOUR).rows
    assert counts["gate"].to_list() == [row["gate"] for row in rows]
    mine = forecasts.filter(pl.col("time") == closes[month], model="ensemble", head="return").sort("step")
    expected = {row["symbol"]: row["expected_return_log"] for row in rows}
    for (symbol,), own in mine.group_by("symbol"):
        assert own["value"].to_list()[-1] == expected[str(symbol)]


def test_actions_of_other_columns_are_a_fault(store: Path, closes: list[datetime], month: int) -> None:
    opened = Store.open(store)
    with pytest.raises(StoreError, match="a record 'actions' is not written"):
        opened.set_actions(pl.DataFrame({"symbol": ["B1_0"]}), closes[month])
    part = opened.put(parquet(pl.DataFrame({"symbol": ["B1_0"]})), ".parquet")
    opened.journal.append("actions", {"parts": {"actions": part}}, closes[month])
    opened = Store.open(store)
    (fault,) = [one for one in opened.check() if not one.is_harmless]
    assert "cannot be used" in fault.what
