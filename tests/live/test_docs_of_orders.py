"""The evening and the day after of docs/orders.md: each command gives there what it gives here."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from gatecast.live import retrain, update
from gatecast.market import synthetic
from tests.live.conftest import Command, settings

PAGE = Path(__file__).parents[2] / "docs" / "orders.md"
EVENING, AFTERNOON, NEXT = "2001-12-28T23:00", "2001-12-31T15:00", "2001-12-31T22:00"
"""After the close, after the next open, and after the next close, UTC."""


def steps() -> list[tuple[str, list[str]]]:
    """The commands of the page, each with the lines below it."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(\$ .*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = list[tuple[str, list[str]]]()
    for line in "".join(blocks).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def make_store() -> None:
    """The store of the page, in the current folder: two shares, the bars of the next session beside it."""
    bars = synthetic.b1(560, seed=3, r2=0.08, symbols=2)
    names = pl.col("symbol").replace({"B1_0": "ABC", "B1_1": "XYZ"})
    bars = bars.with_columns(symbol=names, asset_class=pl.lit("equity"), volume=pl.col("volume") * 1e6)
    now = datetime.fromisoformat(f"{EVENING}+00:00")
    update("store", bars.filter(pl.col("time") <= now), now=now, experiment=settings())
    retrain("store", now=now)
    later = bars.filter(pl.col("time") > now)
    later.filter(pl.col("time") == pl.col("time").min()).write_parquet("next1.parquet")


def test_the_page_shows_what_the_commands_give(
    gatecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store()
    now, seen = EVENING, 0
    for words, lines in steps():
        program, *rest = shlex.split(words)
        if program == "cat":
            (file,) = rest
            wanted = "\n".join([*lines, ""])
            if file == "orders.csv":
                assert Path(file).read_text().splitlines()[:2] == lines[:2]
            else:
                Path(file).write_text(wanted)
            continue
        now = {"fills": AFTERNOON, "update": NEXT}.get(rest[0], now)
        moment = [] if rest[0] == "store" else ["--now", now]
        answer = gatecast(*rest, *moment)
        if rest[0] == "update":
            assert answer.status == 0
            continue
        told = (answer.out + answer.err).replace(f"{tmp_path.resolve()}/", "")
        assert [line.rstrip() for line in told.rstrip("\n").split("\n")] == lines, words
        seen += 1
    assert seen == 10
