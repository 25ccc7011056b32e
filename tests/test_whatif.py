"""What if: other settings on stored forecasts are a run with these settings to the bit, and each is a trial."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.cli.app import execute
from gatecast.cli.options import as_setting
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path, read_trials, unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.runs import Run, run
from gatecast.store import load_run, save_run
from gatecast.whatif import changed
from tests.made_up import FEW

BARS = synthetic.b1(900, seed=5, r2=0.1)
"""One class, and a column that knows: too good to be true unless that is allowed."""
CLASSES = pl.concat([BARS.drop("x"), synthetic.a1(900, seed=6).with_columns(asset_class=pl.lit("etf"))])
"""Two classes, whose arrays wait on disk."""

pytestmark = pytest.mark.usefixtures("own_ledger")


@pytest.fixture(scope="module")
def planted() -> Run:
    """A run whose strategies hold something, on two markets whose truth is known."""
    with unrecorded():
        return run(Experiment(name="planted", bars=CLASSES, too_good=("planted",), selection={"evidence": 1.0}, **FEW))


@pytest.fixture(scope="module")
def doubtful() -> Run:
    """The same where what is too good is not allowed: nothing of the strategies is held."""
    with unrecorded():
        return run(Experiment(name="doubtful", bars=BARS, features=("ret_log_1", "x"), **FEW))


def assert_same(found: Any, full: Run) -> None:
    """Decisions, book and money of a what-if are those of a run, to the bit."""
    assert found.weights.equals(full.weights)
    assert found.equity.equals(full.equity)
    assert found.book.equals(full.book)
    assert found.signals.equals(full.signals)
    own = full.scores["book"]["risk"]["today"]["line"]
    (line,) = [one for one in full.scores["book"]["lines"] if one["line"] == own]
    assert found.scores["line"] == {name: value for name, value in line.items() if name not in ("line", "title")}
    assert found.scores["backtest"] == full.scores["backtest"]
    assert found.verdicts == full.scores["verdicts"]


def test_a_what_if_is_the_run_with_these_settings(planted: Run) -> None:
    changes: dict[str, Any] = {
        "target": 0.05, "band": 0.2, "costs": {"slippage_bps": 0.5}, "book.money.half_spread_bps": 8.0,
        "selection": {"memory_bars": 300}, "strategies.target_volatility": 0.05, "signals.threshold": 0.5,
    }  # fmt: skip
    with unrecorded():
        found = planted.with_(**changes)
        full = run(found.experiment)
        assert_same(found, full)
    assert len(found.changes) == len(changes)
    assert (full.weights["weight"] != 0).any()
    assert not full.book.equals(planted.book)


def test_of_a_doubtful_run_nothing_of_the_strategies_is_held(doubtful: Run) -> None:
    assert doubtful.doubtful
    with unrecorded():
        found = doubtful.with_(band=0.3)
        assert_same(found, run(found.experiment))
    assert not (found.weights["weight"] != 0).any()


def test_a_run_that_was_read_gives_the_same(planted: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(planted, tmp_path / "run")
    with unrecorded():
        mine, theirs = (one.with_(target=0.06) for one in (planted, load_run(tmp_path / "run")))
        assert mine.book.equals(theirs.book)
        assert mine.figures == theirs.figures
        itself = planted.stored.itself
        assert itself.book.equals(planted.book)
    asked = ["whatif", str(tmp_path / "run"), "--set", "book.target=.06", "--json"]
    assert execute(asked) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["settings"] == {"book.size.target_volatility": {"before": 0.1, "after": 0.06}}
    assert said["figures"] == pytest.approx(mine.figures)
    assert said["before"] == pytest.approx(itself.figures)
    assert said["trials"] == 1
    assert execute(asked[:-1]) == 0
    shown = capsys.readouterr().out
    assert "0.1 -> 0.06" in shown
    (row,) = (line for line in shown.splitlines() if "return a year, net" in line)
    for one in (itself, mine):
        assert f"{100 * one.figures['return']:.1f} %".replace("-", "−") in row


def test_the_figures_are_those_of_the_line(planted: Run) -> None:
    """Against formulas of numpy on the line's own returns."""
    with unrecorded():
        found = planted.with_(tilt_share=0.0)
    assert found.line is not None
    excess, years = found.line.excess, found.per_year
    worth = np.mean(excess[1:] - excess[1:] ** 2) * years
    assert found.figures["certainty_equivalent"] == pytest.approx(worth)
    assert found.figures["sharpe"] == pytest.approx(excess.mean() / excess.std(ddof=1) * np.sqrt(years), rel=1e-6)
    assert found.turnover.mean() * years == pytest.approx(found.figures["turnover"], rel=0.01)


def test_each_is_a_trial_and_the_same_again_is_none(planted: Run) -> None:
    one, other = planted.with_(band=0.1), planted.with_(band=0.2)
    again = planted.with_(book={"size": {"book_band": 0.2}})
    assert [len(found.trials) for found in (one, other, again)] == [1, 2, 2]
    assert len(read_trials(ledger_path())) == 2
    assert again.verdicts["strategy"]["trials"] == 2
    assert planted.stored.itself.figures
    assert len(read_trials(ledger_path())) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": {"refit": "1M"}}, "schedule comes before the forecasts: every model would have to be fitted"),
        ({"model.ridge.penalty": 2.0}, "the model 'ridge' would have to be fitted again"),
        ({"seed": 3}, "every model would have to be fitted again"),
        ({"ensemble.members": ["ridge"]}, "would have to be combined again"),
        ({"too_good": ["return"]}, "it says what a run may claim"),
        ({"book.size.bannd": 0.1}, "unknown setting 'book.size.bannd'. Did you mean 'book.size.book_band'"),
        ({"bannd": 0.1}, "unknown setting 'bannd'. Did you mean 'band'"),
        ({"book": {"size": {"bannd": 0.1}}}, "unknown setting 'bannd'"),
        ({"commission_bps": 1.0}, "stands for several settings: say costs.commission_bps or book.money.commission_bps"),
        ({"costs.spread_bps": 1.0}, "unknown setting 'costs.spread_bps'"),
        ({"target": 5.0}, "target_volatility = 5.0"),
        ({"book.benchmark": "SPY"}, "the bars have no symbol 'SPY'"),
        ({}, "name a setting"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_leaves_no_trial(
    planted: Run, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        planted.with_(**changes)
    assert not ledger_path().exists()


@settings(max_examples=25, deadline=None)
@given(
    band=st.floats(0.0, 0.99), target=st.floats(0.01, 2.0), slippage=st.none() | st.floats(0.0, 100.0),
    days=st.integers(20, 1000),
)  # fmt: skip
def test_settings_that_are_changed_and_changed_back_are_those_before(
    band: float, target: float, slippage: float | None, days: int
) -> None:
    base = Experiment()
    after, found = changed(
        base, {"band": band, "target": target, "slippage_bps": slippage, "selection": {"minimum_days": days}}
    )  # fmt: skip
    back, undone = changed(after, {name: value for name, (value, _) in found.items()})
    assert (after.book.size.book_band, after.selection.minimum_days) == (band, days)
    assert back.to_dict() == base.to_dict()
    assert undone == {name: (new, old) for name, (old, new) in found.items()}


@pytest.mark.parametrize("text", ["band", "band=", "=.1", ""])
def test_a_setting_of_the_command_is_a_name_and_a_value(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--set must be NAME=VALUE such as band=.1, got"):
        as_setting(text, "--set")
    assert as_setting("a=none", "--set") == ("a", None)
    assert as_setting("a=1,true,b", "--over", several=True) == ("a", [1, True, "b"])
