"""The map of two settings: each cell is the what-if of its settings, its error a textbook one; picture, command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from gatecast.cli.app import execute
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path, read_trials, unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.report.sensitivity import render_sensitivity, sensitivity_svg
from gatecast.runs import Run, run
from gatecast.store import save_run
from gatecast.studies.sensitivity import Sensitivity, sensitivity
from tests.made_up import FEW

pytestmark = pytest.mark.usefixtures("own_ledger")


@pytest.fixture(scope="module")
def made() -> Run:
    with unrecorded():
        return run(Experiment(name="made", bars=synthetic.g1(850, seed=3), **FEW))


def test_each_cell_is_the_run_with_its_settings_and_a_trial(made: Run) -> None:
    found = sensitivity(made, {"band": [0.3], "book.size.target_volatility": [0.2, 0.05]}, metric="sharpe")
    assert found.axes == ((0.07, 0.3), (0.05, 0.1, 0.2))
    assert found.settings == ("book.size.book_band", "book.size.target_volatility")
    assert found.chosen == (0, 1)
    assert (found.added, found.trials, len(read_trials(ledger_path()))) == (5, 6, 6)
    with unrecorded():
        for row, band in enumerate(found.axes[0]):
            for column, target in enumerate(found.axes[1]):
                alone = made.with_(band=band, target=target)
                assert found.values[row, column] == alone.figures["sharpe"]
    own = made.stored.itself
    n, ratio = len(own.daily), own.daily.mean() / own.daily.std()
    textbook = np.sqrt((1 + ratio**2 / 2) / n * own.per_year)  # Lo (2002), independent days
    assert found.errors[found.chosen] == pytest.approx(textbook, rel=0.35)
    assert len(found.sentences) == 2
    assert f"by {2 * found.errors[found.chosen]:.2g}, two standard errors" in found.sentences[0]
    assert "5 cells are trials on this market, of which there are 6 now" in found.sentences[1]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"target": [0.1]}, "a map has two settings, got 1"),
        ({"target": [0.1], "book.target": [0.2]}, "book.size.target_volatility is given twice"),
        ({"target": [0.1], "horizon": [1, 5]}, "horizon comes before the forecasts"),
        ({"target": [0.1], "band": []}, "band has no values"),
        ({"target": [0.1, 7.0], "band": [0.1]}, "target_volatility = 7.0"),
        ({"target": list(np.linspace(0.01, 1, 50)), "band": list(np.linspace(0, 0.9, 20))}, "at most 400 are made"),
    ],
)
def test_other_maps_are_refused_and_leave_no_trial(made: Run, over: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        sensitivity(made, over)
    assert not ledger_path().exists()


@pytest.fixture
def drawn() -> Sensitivity:
    """A map with a cliff, an unknown cell, and a name that is no HTML."""
    values = np.array([[0.1, 0.2, 0.1], [0.0, 1.6, 0.3], [0.1, -0.2, np.nan]])
    axes: Any = ((None, 1, 2), (True, "a<b", 0.5))
    return Sensitivity(
        "<run>", ("book.one", "book.two"), axes, "sharpe", values, np.full((3, 3), 0.3), (1, 1), "book", 8, 9
    )  # fmt: skip


def test_the_picture_shows_every_value_and_frames_the_chosen_cell(drawn: Sensitivity) -> None:
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(sensitivity_svg(drawn))
    texts = [one.text for one in root.iter(f"{space}text")]
    assert texts[2:5] == ["true", "a<b", "0.5"]
    assert [one for one in texts if one in ("left out", "1.60", "-0.20", "–")] == ["left out", "1.60", "-0.20", "–"]
    (frame,) = [one for one in root.iter(f"{space}rect") if one.get("fill") == "none"]
    cells = [one for group in root.iter(f"{space}g") for one in group.iter(f"{space}rect")]
    assert len(cells) == 9
    assert float(frame.get("x", 0)) == float(cells[4].get("x", 0)) + 1
    page = render_sensitivity(drawn)
    assert "<run>" not in page
    assert "A cliff at the chosen setting" in page
    assert "<script" not in page


def test_of_turnover_less_is_better(drawn: Sensitivity) -> None:
    assert replace(drawn, metric="turnover").cliff is None
    low = replace(drawn, metric="turnover", values=-drawn.values).cliff
    assert low is not None
    assert low.lead == pytest.approx(1.3)


def test_the_command_draws_and_tells(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(made, tmp_path / "run")
    words = ["sensitivity", str(tmp_path / "run"), "--over", "target=.05,.1", "--over", "half_spread_bps=none,3"]
    assert execute([*words, "--metric", "turnover", "--out", str(tmp_path / "map.svg"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["axes"] == [[0.05, 0.1], [None, 3]]
    assert said["chosen"] == [1, 0]
    assert said["trials"] == 4
    ElementTree.parse(tmp_path / "map.svg")
    assert execute([*words, "--out", str(tmp_path / "map.pdf")]) == 2
    assert "another ending than .html or .svg" in capsys.readouterr().err
    assert execute([*words, "--metric", "beauty"]) == 2
    assert "unknown metric 'beauty'" in capsys.readouterr().err
