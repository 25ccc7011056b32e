"""A store that has a model, three closes before a new month, copied for each test; and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest

from attack.readers import make_live
from gatecast.cli.app import execute
from gatecast.experiment import Experiment
from gatecast.live import Updated, retrain, update
from gatecast.market import synthetic

if TYPE_CHECKING:
    from tests.live.desk import Desk

HOUR = timedelta(hours=1)
FIRST = 500
"""Closes that the store begins with; the refit of a new month comes some later."""


class Answer(NamedTuple):
    """What a command gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What the command printed."""
        return json.loads(self.out.splitlines()[-1])

    def row(self, symbol: str = "B1_0") -> Any:
        """The decision on a symbol."""
        return next(row for row in self.json["decisions"] if row["symbol"] == symbol)

    @property
    def said(self) -> str:
        """All that was said, in one line."""
        told = [] if self.status else self.json["warnings"]
        return " ".join([*self.err.split(), *told])

    @property
    def gates(self) -> dict[str, str]:
        """Symbol -> gate; of one that a forecast leads to, whether or not a position is held, "decided"."""
        decided = dict.fromkeys(("open", "signal", "flat"), "decided")
        return {row["symbol"]: decided.get(row["gate"], row["gate"]) for row in self.json["decisions"]}


Command = Callable[..., Answer]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model the day before its next bars, and others; see `make_live`."""
    folder = tmp_path_factory.mktemp("live")
    make_live(folder)
    return folder


@pytest.fixture
def gatecast(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process."""

    def command(*words: object) -> Answer:
        capsys.readouterr()
        return Answer(execute([str(word) for word in words]), *capsys.readouterr())

    return command


def settings(**more: Any) -> Experiment:
    cheap: dict[str, Any] = {
        "features": ("x", "ret_log_1"), "lookback": 10, "models": ("ridge", "logistic"),
        "signals": {"model": "ridge", "confirmed_by": "ridge"}, "schedule": {"train": "1Y", "minimum": "1Y"},
        "selection": {"evidence": 1.0, "minimum_days": 20}, "too_good": ("planted",),
    }  # fmt: skip
    return Experiment(**{**cheap, **more})


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    return synthetic.b1(600, seed=1, r2=0.08, symbols=2)


@pytest.fixture(scope="session")
def closes(bars: pl.DataFrame) -> list[datetime]:
    found: list[datetime] = bars["time"].unique().sort().to_list()
    return found


@pytest.fixture(scope="session")
def month(closes: list[datetime]) -> int:
    """The number of a first session of a month after the first closes."""
    return next(number for number in range(FIRST + 3, len(closes)) if closes[number].month != closes[number - 1].month)


@pytest.fixture(scope="session")
def trained(bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model, three closes before a new month."""
    folder = tmp_path_factory.mktemp("trained") / "store"
    now = closes[month - 4] + HOUR
    done = update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=settings())
    assert done.created
    assert done.model is None
    assert not done.decisions
    assert "no model yet" in done.message
    made = retrain(folder, now=now)
    assert made.model is not None
    assert made.replaces is None
    return folder


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def desk(store: Path, gatecast: Command, tmp_path: Path, closes: list[datetime], month: int) -> Desk:
    from tests.live.desk import Desk

    return Desk(store, gatecast, tmp_path, closes[month - 4])


@pytest.fixture
def feed(bars: pl.DataFrame, closes: list[datetime], store: Path) -> Callable[..., Updated]:
    """The bars of some closes into the store, an hour after the last of them."""

    def add(first: int, last: int | None = None, given: pl.DataFrame = bars, after: timedelta = HOUR) -> Updated:
        last = first if last is None else last
        part = given.filter(pl.col("time").is_between(closes[first], closes[last]))
        return update(store, part, now=closes[last] + after)

    return add
