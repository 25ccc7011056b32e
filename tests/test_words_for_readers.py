"""What commands and pages say of a run in which much cannot be known holds no number that is none."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gatecast.cli.app import execute
from gatecast.market import synthetic

NO_NUMBER = re.compile(r"\b(?:nan|NaN|inf|None)\b(?! were)")
"""A number that is none, as Python writes it; "None were." is a sentence."""
SETTINGS = """models = ["ridge", "logistic"]
[signals]
model = "ridge"
confirmed_by = "ridge"
[schedule]
refit = "1Y"
"""
"""One regression is the ensemble of the returns, and the best simple model: nothing is gained over it on any day."""


class Text(HTMLParser):
    """The text of a page that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said, self._hidden = list[str](), 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.said += [] if self._hidden else [data]


@pytest.mark.filterwarnings("ignore")
def test_no_text_for_a_reader_holds_a_number_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars, settings, run = tmp_path / "bars.parquet", tmp_path / "run.toml", tmp_path / "run"
    synthetic.g1(1200, seed=5, symbols=2).drop("segment").write_parquet(bars)
    settings.write_text(SETTINGS)
    given = ["--bars", str(bars), "--stamp", "close"]
    told = dict[str, str]()
    for words in (
        ["run", str(settings), *given, "--out", str(run)], ["capacity", str(run), "--jobs", "1"],
        ["compare", str(run), str(run)], ["explain", str(run)], ["forecast", str(run), *given],
        ["whatif", str(run), "--set", "book.size.gross_cap=0.5"], ["whatif", str(run), "--set", "selection.evidence=0"],
    ):  # fmt: skip
        assert execute(words) == 0, words
        told[" ".join(words[:1])] = "".join(capsys.readouterr())
    told["page"] = " ".join(Text((run / "report.html").read_text(encoding="utf-8")).said)
    assert "not known, as both have the same loss on each day" in " ".join(told["page"].split())
    for name, text in told.items():
        found = NO_NUMBER.search(text)
        assert found is None, (name, text[max(0, found.start() - 100) : found.end() + 20])
