"""The book: forecasts of variance, a core and a tilt -> what is held session by session, and what it earned.

Every line of a comparison goes through the same loop: the same core, caps, band, lots, fills and costs. Lines differ in
the forecasts of variance alone, which say how large the core is; and one has a tilt, what strategies add to it.

    decided at a session's close      filled at the next session's open or close      valued at its close
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gatecast.compute.parallel import fan_out
from gatecast.forecasting.panel import ENSEMBLE, RIVAL, SIZED_BY
from gatecast.trading.book_settings import Book
from gatecast.trading.by_session import Sessions, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.course import Carried, Course, carry_on
from gatecast.trading.line import Past
from gatecast.trading.lines import (
    BYTES_OF_A_PAIR,
    Line,
    closes_of,
    holdings_of,
    learned_of,
    no_holdings,
    run_line,
    terms_of,
)
from gatecast.trading.risk import METHODS, tail_paths
from gatecast.trading.strategies import MARKET
from gatecast.trading.wanted import (
    core_path,
    deviations_of,
    first_of,
    first_session,
    past_deviations,
    tilt_of,
    tilted_at,
)

if TYPE_CHECKING:
    from gatecast.trading.decisions import Decided

__all__ = [
    "BOUGHT", "CASH", "OWN_BENCHMARK", "TILTED", "Book", "Carried", "Course", "Line", "Sessions", "Shared", "Work",
    "carry_on", "closes_of", "core_path", "deviations_of", "first_session", "holdings_of", "learned_of", "lines_of",
    "no_holdings", "past_deviations", "run_line", "sessions_by", "tail_paths_of", "terms_of", "tilt_of", "tilted_at",
]  # fmt: skip

FloatArray = NDArray[np.float64]

TILTED, BOUGHT, CASH, OWN_BENCHMARK = "tilted", "bought_and_held", "cash", "benchmark"
"""Lines beside those of `SIZED_BY`: with what strategies add, without any trade after the first, nothing held, and the
price of the user's benchmark."""


@dataclass(frozen=True)
class Work:
    """What one line is made of, see `run_line`."""

    sessions: Sessions
    core: FloatArray
    deviations: FloatArray
    settings: Book
    begin: int
    tilt: tuple[FloatArray, FloatArray] | None = None
    rebalanced: bool = True
    learned: Iterable[Past] | None = None

    def run(self) -> Line:
        """The line."""
        weights, evidence = self.tilt or (None, None)
        return run_line(
            self.sessions, self.core, self.deviations, self.settings, begin=self.begin, tilt=weights,
            evidence=evidence, rebalanced=self.rebalanced, learned=self.learned,
        )  # fmt: skip


def tail_paths_of(
    classes: Mapping[str, Decided], sessions: Sessions, line: Line, level: float = 0.025
) -> dict[str, FloatArray]:
    """Method -> (sessions of the line, 2) the tails that it says of each, the close before, see `risk.tail_paths`.

    Of what the line was to hold over the session, where it trades in it, by the forecasts that size gatecast's line;
    `filtered_rival`: the same method by those of the best simple forecast so far.
    """
    begin, returns = len(sessions.days) - len(line.frame), sessions.returns
    trades, past = np.isfinite(returns), past_deviations(returns)
    weights = np.zeros(returns.shape)
    weights[begin + 1 :] = line.held[:-1]
    paths = dict[str, FloatArray]()
    for model, methods in ((ENSEMBLE, METHODS), (RIVAL, {"filtered": METHODS["filtered"]})):
        deviations = deviations_of(classes, sessions, model)
        scales = np.where(np.isfinite(deviations), deviations, past)
        before = np.vstack([np.full((1, len(sessions.names)), np.nan), scales[:-1]])
        made = tail_paths(
            returns, before, np.where(trades, weights, 0.0), sessions.classes, level, methods, since=begin + 1
        )
        paths |= {name if model == ENSEMBLE else f"{name}_rival": one[begin:] for name, one in made.items()}
    return paths


@dataclass(frozen=True)
class Shared:
    """What the lines of a comparison share, however large they are and whatever they pay.

    `core`, `tilt`: (sessions, names) decided at each close, see `wanted`. `forecasts`: line of `SIZED_BY` -> (sessions,
    names) deviations. `begin`: the first session of all lines, -1 where there is none.
    """

    sessions: Sessions
    core: FloatArray
    forecasts: Mapping[str, FloatArray]
    tilt: tuple[FloatArray, FloatArray]
    begin: int
    _learned: dict[int, Sequence[Past]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, classes: Mapping[str, Decided], sessions: Sessions, settings: Core) -> Self:
        """What lines with this core share."""
        core, tilt = core_path(sessions, settings), tilt_of(classes, sessions, MARKET)
        forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
        forecasts = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
        return cls(sessions, core, forecasts, tilt, first_of(forecasts, core, tilt, sessions))

    def decided(self, classes: Mapping[str, Decided]) -> Self:
        """The same with what strategies of these classes propose, whose forecasts are the same."""
        tilt = tilt_of(classes, self.sessions, MARKET)
        return replace(self, tilt=tilt, begin=first_of(self.forecasts, self.core, tilt, self.sessions))

    def holds_for(self, sessions: Sessions) -> bool:
        """Whether it is the same with other sessions of the same bars, as of other costs."""
        same = ("returns", "listed", "inside", "known")
        return all(
            np.array_equal(getattr(self.sessions, name), getattr(sessions, name), equal_nan=name == "returns")
            for name in same
        )

    @property
    def wanted(self) -> FloatArray:
        """(sessions, names) what the core and what strategies add want, in absolute value."""
        return np.asarray(np.abs(self.core) + np.abs(self.tilt[0] * self.tilt[1]), np.float64)

    @property
    def is_tilted(self) -> bool:
        """Whether strategies add anything to the core in any session of the lines."""
        return self.begin >= 0 and bool((self.tilt[0] * self.tilt[1])[self.begin :].any())

    @property
    def learned(self) -> Sequence[Past] | None:
        """See `lines.learned_of`, by gatecast's forecasts; None where it is too large to be kept."""
        if BYTES_OF_A_PAIR * len(self.sessions.days) * len(self.sessions.names) ** 2 > MOST_KEPT:
            return None
        if self.begin not in self._learned:
            self._learned[self.begin] = tuple(learned_of(self.sessions, self.forecasts[ENSEMBLE], self.begin))
        return self._learned[self.begin]


MOST_KEPT = 2**28
"""Bytes of what is known of returns that lines may share."""


def lines_of(
    classes: Mapping[str, Decided],
    sessions: Sessions,
    settings: Book,
    *,
    only: Collection[str] | None = None,
    late: int = 0,
    jobs: int = 1,
    shared: Shared | None = None,
) -> dict[str, Line]:
    """Line -> what it held and earned, all from the same session on; none where nothing was ever forecast of the core.

    `tilted` is there where strategies had any evidence. `only`: the lines that are made. `late`: see `tilt_of`.
    `shared`: what was made before for these sessions and this core.
    """
    shared = shared or Shared.of(classes, sessions, settings.core)
    if shared.begin < 0:
        return {}
    work = {name: Work(sessions, shared.core, one, settings, shared.begin) for name, one in shared.forecasts.items()}
    tilt, own = tilt_of(classes, sessions, MARKET, late) if late else shared.tilt, work[ENSEMBLE]
    if replace(shared, tilt=tilt).is_tilted:
        work[TILTED] = replace(own, tilt=tilt)
    work[BOUGHT] = replace(own, rebalanced=False)
    work = {name: one for name, one in work.items() if only is None or name in only}
    if jobs == 1:  # other processes find it sooner than they are given it
        ours = [name for name, one in work.items() if one.deviations is own.deviations]
        work |= {name: replace(work[name], learned=shared.learned) for name in ours}
    made = fan_out(Work.run, work.values(), jobs=jobs, processes=jobs > 1)
    return dict(zip(work, made, strict=True))
