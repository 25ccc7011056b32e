"""A store whose content was made up, with all hashes right: each reader says one sentence, whatever is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load, save

from gatecast.errors import StoreError
from gatecast.live import Updated, health, today, update
from gatecast.store import Store
from gatecast.store.journal import Journal
from tests.live.conftest import HOUR

Arrays = dict[str, Any]


def made_up(store: Path, role: str, change: Callable[[bytes], bytes]) -> None:
    """Writes a store's journal again, with other content of the parts of a role."""
    records = [*Store.open(store).journal.records()]
    artefacts = Store.open(store).artefacts
    shutil.rmtree(store / "journal")
    (store / "index.sqlite").unlink(missing_ok=True)
    journal = Journal.open(store)
    (store / "journal").mkdir()
    for record in records:
        parts = {
            name: artefacts.put(change(artefacts.get(part)), Path(part).suffix) if name == role else part
            for name, part in record.parts.items()
        }
        body = {**record.body, "parts": parts} if parts else record.body
        journal.append(record.kind, body, record.now, time=record.time)


def arrays(change: Callable[[Arrays], Arrays]) -> Callable[[bytes], bytes]:
    return lambda content: save({name: np.array(one) for name, one in change(load(content)).items()})


def without(text: str) -> Callable[[bytes], bytes]:
    return arrays(lambda found: {name: one for name, one in found.items() if text not in name})


ODD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "times of no dimension": (
        "issued.safetensors",
        arrays(lambda found: {name: one[0] if name == "index/time" else one for name, one in found.items()}),
    ),
    "a number as a path": (
        "issued.safetensors",
        arrays(
            lambda found: {
                name: one.reshape(-1, 1) if "value/" in name and one.ndim == 1 else one for name, one in found.items()
            }
        ),
    ),
    "no weights": ("issued.safetensors", without("decided/")),
    "no forecasts": ("issued.safetensors", without("value/")),
    "no forecasts of one model": ("issued.safetensors", without("value/return/ridge")),
    "no scale": ("issued.safetensors", without("scale/")),
    "no scores": ("scores.json", lambda content: b"{}"),
    "no settings": ("experiment.toml", lambda content: b"x = 1"),
    "alarms of no class": ("alarms.json", lambda content: b"[]"),
    "no state of alarms": ("alarms.json", lambda content: content.replace(b'"state"', b'"stat"')),
    "no provenance": ("provenance.json", lambda content: b"{}"),
}


@pytest.mark.parametrize("case", ODD)
def test_a_part_of_a_model_that_is_none_is_said(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, case: str
) -> None:
    made_up(store, *ODD[case])
    if case != "no forecasts of one model" and case != "no scale":
        assert [one for one in Store.open(store).check() if not one.is_harmless]
    with pytest.raises(StoreError):
        update(store, bars.filter(pl.col("time") == closes[month - 3]), now=closes[month - 3] + HOUR)


def test_decisions_of_other_columns_are_said(store: Path, closes: list[datetime], month: int) -> None:
    opened = Store.open(store)
    time = pl.lit(closes[month - 3]).cast(pl.Datetime("us", "UTC"))
    opened.issue(pl.DataFrame({"symbol": ["B1_0"]}).with_columns(time=time), closes[month - 3] + HOUR)
    with pytest.raises(StoreError, match="gate"):
        today(store, now=closes[month - 3] + HOUR)


@pytest.mark.parametrize(
    "content", [{}, {"now": "2003-02-31T00:00:00.000000Z"}, {"now": "2003-02-01"}, {"now": 3}, {"now": None}, []]
)
def test_a_heartbeat_that_is_none_is_a_warning(
    store: Path, closes: list[datetime], month: int, content: dict[str, Any]
) -> None:
    (store / "heartbeat").write_text(json.dumps(content))
    found = {one.name: one for one in health(store, now=closes[month - 3]).checks}
    assert found["heartbeat"].level == "warning"
    assert "cannot be read" in found["heartbeat"].sentence


def test_health_answers_where_the_file_of_an_older_decision_is_damaged(
    feed: Callable[..., Updated], store: Path, month: int, closes: list[datetime]
) -> None:
    feed(month - 3)
    older = Store.open(store).state.issued[-2].decisions
    file = next((store / "parts").rglob(older))
    file.write_bytes(b"x" * file.stat().st_size)
    found = {one.name: one for one in health(store, now=closes[month - 3] + HOUR).checks}
    assert found["forecasts"].level == "failure"
    assert older in found["forecasts"].sentence
    assert found["decisions"].level == "ok"
