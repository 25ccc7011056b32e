"""The book at other costs and with other money: known answers of one line, and what is said of the points."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from gatecast.evaluation.ledger import unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.runs import run
from gatecast.store import chain_of
from gatecast.studies.capacity import Capacity, Point, at_costs, capacity, without_volume
from gatecast.trading.book import Book, Sessions, core_path, first_session, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.sizing import BookSettings
from tests.made_up import FEW

BOOK = Book(
    size=BookSettings(lots={"G1_0": 0.0, "G1_1": 0.0}), money=MoneySettings(benchmark_rate=0.02, commission_minimum=0.0)
)


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return sessions_by(facts_of(synthetic.g1(160, seed=3, symbols=2)), BOOK)


def paid(sessions: Sessions, book: Book, *names: str) -> float:
    """Costs of a line that trades once, as a share of the equity before."""
    core, deviations = core_path(sessions, Core()), past_deviations(sessions.returns)
    begin = first_session([deviations], core)
    frame = run_line(sessions, core, deviations, book, begin=begin, rebalanced=False).frame
    assert (frame["traded"] > 0).sum() == 1
    return float((frame.select(names).sum_horizontal() / frame["before"]).sum())


def test_costs_of_one_trade_are_so_many_times_what_they_are(sessions: Sessions) -> None:
    names = ("commission", "spread", "impact")
    once = paid(sessions, BOOK, *names)
    assert once > 0
    for times in (0.0, 0.5, 3.0):
        assert paid(*at_costs(sessions, BOOK, times), *names) == pytest.approx(times * once, rel=1e-6)
    a_unit = Book(size=BOOK.size, money=BOOK.money.replace(commission_per_unit=0.01, commission_minimum=2.0))
    _, dear = at_costs(sessions, a_unit, 3.0)
    assert (dear.money.commission_per_unit, dear.money.commission_minimum) == (pytest.approx(0.03), 6.0)
    assert dear.money.benchmark_rate == 0.02
    assert dear.size == BOOK.size


def test_impact_grows_with_the_root_of_the_capital_where_volumes_are_known(sessions: Sessions) -> None:
    known = np.full(sessions.grid.volume.shape, 1e9)
    grid = replace(sessions.grid, volume=known, usual_volume=known)
    liquid = replace(sessions, grid=grid)
    one, hundred = (
        paid(liquid, BOOK.replace(size=BOOK.size.replace(capital=capital)), "impact") for capital in (1e4, 1e6)
    )
    assert hundred / one == pytest.approx(10, rel=1e-6)
    assert without_volume(liquid, np.ones(known.shape)) == ()
    unknown = replace(sessions, grid=replace(grid, volume=known * [1.0, np.nan]))
    assert without_volume(unknown, np.ones(known.shape)) == (sessions.names[1],)
    assert without_volume(unknown, np.ones(known.shape) * [1.0, 0.0]) == ()


def test_it_is_of_the_line_that_the_run_holds() -> None:
    """To the bit: the same figures as the run's own, at its own costs and capital; of a core alone: test_cli.py."""
    with unrecorded():
        made = run(Experiment(bars=synthetic.b1(700, seed=1), features=("x",), selection={"evidence": 1.0}, **FEW))
    found = capacity(made.experiment, chain_of(made), costs=[1.0], capitals=[1e6])
    own = next(one for one in made.scores["book"]["lines"] if one["line"] == "tilted")
    assert found.line == made.scores["book"]["risk"]["today"]["line"] == "tilted"
    for name, other in (("result", "return"), ("volatility", "volatility"), ("sharpe", "sharpe"), ("cost", "cost"),
                        ("impact", "impact"), ("turnover", "turnover"), ("gross", "gross")):  # fmt: skip
        assert getattr(found.costs[0], name) == own[other], name
    assert "The line is that which is held: gatecast, with what strategies add." in found.sentences


def point(costs: float, capital: float, excess: float) -> Point:
    return Point(costs, capital, excess + 0.02, excess, 0.1, 0.5, 0.01, 0.001, 2.0, 0.9)


def test_where_nothing_is_left_is_said_and_where_most_is_earned() -> None:
    costs = tuple(point(times, 1e6, 0.03 - 0.01 * times) for times in (0, 1, 3, 5))
    capital = tuple(point(1, size, gain) for size, gain in ((1e6, 0.02), (1e8, 0.01), (1e9, -0.01)))
    unknown = ("A", "B", "C", "D", "E")
    found = Capacity(date(2020, 1, 2), "USD", costs, capital, without_volume=unknown)
    assert found.best == 1e8
    assert found.sentences == [
        "At 3 times the costs the book earns no more than cash.",
        "Most money beyond cash is earned with 100,000,000 USD, of the amounts tried: 1,000,000 a year.",
        "What is traded a session is not known of 'A', 'B', 'C', 'D', 'E': an order of them counts as the same small "
        "share of it at every capital and is never too large for it, so that less can be held than is told here. Bring "
        "a `volume` in units of equities and ETFs; for other classes raise `unknown_share_of_volume` of [book.money].",
    ]
    older = replace(found, actions_known=False).sentences
    assert older[:3] == found.sentences
    assert "without its actions of companies" in older[3]
    poor = replace(found, costs=costs[:2], capital=capital[2:], without_volume=())
    assert poor.best == 0
    assert poor.sentences == [
        "With its own costs the book still earns more than cash.",
        "It earns more than cash with none of the amounts tried.",
    ]
    assert found.to_dict()["since"] == "2020-01-02"
    assert found.to_dict()["capital"][1]["capital"] == 1e8
