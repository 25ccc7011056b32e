"""Progress: bars where somebody looks, nothing where nobody does."""

from __future__ import annotations

import pytest

from gatecast.compute.progress import NotebookBars, TerminalBars, bars, shown


class Cell:
    """The output of a notebook cell: what was shown in it, one after the other."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, html: str) -> Cell:
        self.outputs.append([html])
        return self

    def update(self, html: str) -> None:
        self.outputs[-1].append(html)


def test_a_notebook_gets_one_output_that_is_replaced() -> None:
    cell = Cell()
    with bars(cell.display) as stages:
        assert isinstance(stages, NotebookBars)
        stages("index: lstm", 1, 2)
        stages("index: lstm", 1, 2)
        stages("index: lstm", 2, 2)
        stages("index: forest | best <b>7</b>", 0, 3)
        stages("index: forest | best <b>9</b>", 1, 3)
    (output,) = cell.outputs
    assert len(output) == 5  # the first is empty; what says nothing new is not shown
    assert output[-1].count("<progress") == 2
    assert 'value="2" max="2"' in output[-1]
    assert "index: forest, best &lt;b&gt;9&lt;/b&gt;, 1 of 3" in output[-1]
    assert "<b>" not in output[-1]


def test_without_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(True) as told:
        assert isinstance(told, TerminalBars)
        told("index: lstm", 1, 2)
    assert capfd.readouterr() == ("", "")
    for nothing in (None, False):
        with shown(nothing) as told:
            assert told is None
