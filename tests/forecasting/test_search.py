"""The search itself: batches, guesses, pruning, failures, and studies that go on where they were killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gatecast.errors import StoreError, StudiesError, hidden
from gatecast.forecasting.tuning.search import Budget, Params, Trial, file_of, importance, open_storage, search

SPACE = {
    "x": FloatDistribution(-3.0, 3.0), "units": IntDistribution(16, 64, step=16),
    "window": CategoricalDistribution(("1Y", "2Y")),
}  # fmt: skip
GIVEN: Params = {"x": 2.5, "units": 16, "window": "1Y"}


class Bowl:
    """Losses whose mean is x² and a little for small units, and a list of all that was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, candidates: Sequence[tuple[int, Params]], step: int) -> list[np.ndarray | str]:
        self.asked += [(number, step) for number, _ in candidates]
        wave = np.sin(np.arange(20.0) + step)
        return [params["x"] ** 2 + 16 / params["units"] + wave - wave.mean() for _, params in candidates]


def trials(url: str | None, count: int, evaluate: object = None, **options: object) -> list[Trial]:
    with open_storage(url) as storage:
        return search(
            storage, "bowl", SPACE, options.pop("guesses", [GIVEN]), evaluate or Bowl(), steps=2,  # type: ignore[arg-type]
            budget=Budget(count), seed=lambda number: 1000 + number, **options,
        )  # fmt: skip


def test_guesses_come_first_and_the_search_finds_the_bottom() -> None:
    found = trials(None, 24, guesses=[GIVEN, {**GIVEN, "x": -2.0}])
    assert [one.params["x"] for one in found[:2]] == [2.5, -2.0]
    assert min(one.loss for one in found if one.loss is not None) < 1.2  # the bottom is .25
    assert [one.number for one in found] == list(range(24))
    assert len({tuple(one.params.items()) for one in found}) == 24


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_the_same_study_has_the_same_trials(sampler: str, tmp_path: Path) -> None:
    whole = trials(None, 10, sampler=sampler)
    assert trials(f"sqlite:///{tmp_path}/studies.db", 10, sampler=sampler) == whole
    in_parts = f"sqlite:///{tmp_path}/parts.db"
    for count in (3, 4, 9, 10):  # the budget grows in the middle of a batch, too
        assert trials(in_parts, count, sampler=sampler) == whole[:count]


def test_what_is_on_file_is_not_tried_again(tmp_path: Path) -> None:
    url, again = f"sqlite:///{tmp_path}/studies.db", Bowl()
    first = trials(url, 8)
    assert trials(url, 8, again) == first
    assert trials(url, 5, again) == first[:5]  # a smaller budget is not given what a larger one found
    assert again.asked == []


def test_hopeless_candidates_are_given_up_after_a_step() -> None:
    pruned, unpruned = (trials(None, 12, prune=prune) for prune in (True, False))
    assert {one.state for one in unpruned} == {"complete"}
    given_up = [one for one in pruned if one.state == "pruned"]
    assert given_up
    for one in given_up:
        assert len(one.days) == 20  # one step of two
        earlier = [other.steps[0] for other in pruned[: one.number // 4 * 4] if other.state == "complete"]
        assert one.steps[0] > np.median(earlier)
    assert all(one.state == "complete" for one in pruned[:4])


def test_a_candidate_that_fails_is_recorded_and_the_study_goes_on() -> None:
    def fragile(candidates: Sequence[tuple[int, Params]], step: int) -> list[np.ndarray | str]:
        return [
            "TrainingError: the loss is no longer finite" if number % 3 == 1 else np.full(5, params["x"] ** 2)
            for number, params in candidates
        ]

    found = trials(None, 9, fragile)
    assert [one.number for one in found if one.state == "failed"] == [1, 4, 7]
    assert all(one.loss is None and "no longer finite" in one.reason for one in found if one.state == "failed")
    assert all(one.loss is not None for one in found if one.state != "failed")


def test_a_budget_of_time_ends() -> None:
    with open_storage(None) as storage:
        found = search(
            storage, "bowl", SPACE, [GIVEN], Bowl(), steps=1, budget=Budget(8, seconds=1e-6), seed=lambda n: n
        )
    assert found == []


KILLED = """
import sys, time
import numpy as np
from test_search import SPACE, GIVEN, Bowl
from gatecast.forecasting.tuning.search import Budget, open_storage, search
class Slow(Bowl):
    def __call__(self, candidates, step):
        time.sleep(0.15)
        return super().__call__(candidates, step)
with open_storage(sys.argv[1]) as storage:
    search(storage, "bowl", SPACE, [GIVEN], Slow(), steps=2, budget=Budget(400), seed=lambda n: 1000 + n)
"""


def on_file(file: Path) -> int:
    """Trials that are written, read without touching the file."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return int(connection.execute("select count(*) from trials where state != 'RUNNING'").fetchone()[0])
    except sqlite3.OperationalError:  # the tables are being made
        return 0


def test_a_killed_study_goes_on_to_the_trials_it_would_have_had(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    url = f"sqlite:///{file}"
    before = 0
    for least in (3, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        )
        deadline = time.monotonic() + 60
        while on_file(file) < least:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert on_file(file) >= before
        before = on_file(file)
    assert 9 <= before < 60
    total = before + 6
    assert trials(url, total) == trials(None, total)


def test_one_file_is_for_one_search_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    with open_storage(url), pytest.raises(StoreError, match="in use by another search"), open_storage(url):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("studies.db", "no address of studies"),
        ("mysql://me:secret@nowhere/studies", "need a driver"),
        ("sqlite:////proc/no/studies.db", "cannot be written"),
    ],
)
def test_addresses_that_are_none_say_so_without_their_password(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught, open_storage(url):
        pass
    assert "secret" not in str(caught.value)


def test_passwords_are_hidden_and_files_are_found() -> None:
    assert (
        hidden("postgresql+psycopg://me:p4ss@host/x and a://b:c@d") == "postgresql+psycopg://***@host/x and a://***@d"
    )
    assert file_of("sqlite:////studies/a.db") == Path("/studies/a.db")
    assert file_of(None) is None


def test_importance_names_what_mattered() -> None:
    draw = np.random.default_rng(1)
    studies = [
        [
            ({"x": float(x), "y": float(y), "same": 1}, float(level + x**2 + 0.01 * y))
            for x, y in draw.normal(size=(30, 2))
        ]
        for level in (0.0, 50.0)  # a level that is the study's own says nothing of settings
    ]
    shares = importance(studies)
    assert shares["x"] > 0.7
    assert "same" not in shares
    assert sum(shares.values()) == pytest.approx(1)
    assert importance([]) == importance([studies[0][:3]]) == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE studies SET study_name = CAST(x'626f77df6c' AS TEXT)",  # no UTF-8
        "UPDATE trial_params SET distribution_json = '{\"name\": 1'",
        'UPDATE trial_params SET distribution_json = \'{"name": "Nobody", "attributes": {}}\'',
        "UPDATE trial_params SET param_value = 'x'",
        "UPDATE trials SET state = 'EATEN'",
        "UPDATE trials SET datetime_start = 'yesterday'",
        "UPDATE trial_intermediate_values SET intermediate_value_type = 'HALF'",
    ],
)
def test_a_damaged_file_is_found_when_it_is_opened(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    trials(f"sqlite:///{file}", 3)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute(damage).rowcount
        database.commit()
    with pytest.raises(StudiesError, match=r"studies\.db cannot be read or written"), open_storage(f"sqlite:///{file}"):
        pass
