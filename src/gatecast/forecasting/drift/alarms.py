"""Alarms: one row for each, the settings of all of them, and what they do to positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gatecast.market.bars import session_date
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    TimeArray = NDArray[np.datetime64]

Kind = Literal["psi", "ks", "window", "variance", "loss", "bets", "calibration"]
INPUTS: tuple[Kind, ...] = ("psi", "ks", "window", "variance")
"""Kinds that need no forecast: these alone may add a refit."""
LOSSES: tuple[Kind, ...] = ("loss", "bets", "calibration")
"""Kinds that are made from answered forecasts: these alone act on positions."""
SESSIONS = 1000.0  # over which false alarms are counted


class Drift(Settings):
    """When a change of the inputs or of the losses is an alarm, and what an alarm does."""

    watch: bool = True
    """look for alarms; off: none is raised"""
    false_alarms: Annotated[float, Field(gt=0, le=100)] = 1.0
    """false alarms in 1,000 sessions where nothing changes, for each class and kind of alarm"""
    block: Annotated[int, Field(ge=20, le=MOST_BARS)] = 63
    """latest sessions whose features are compared with the training window of the refit in force"""
    every: Annotated[int, Field(ge=1, le=1000)] = 5
    """sessions from one comparison of the features to the next"""
    growth: Annotated[float, Field(ge=1.2, le=100)] = 2.0
    """growth of the variance that the charts of returns look for"""
    filter_every: Annotated[int, Field(ge=1, le=1000)] = 12
    """refits from one fit of the charts' own GARCH to the next"""
    filter_minimum: Annotated[int, Field(ge=100, le=MOST_BARS)] = 500
    """sessions of returns that the charts' own GARCH needs"""
    most_symbols: Annotated[int, Field(ge=1, le=10_000)] = 30
    """symbols that have a chart each; of a class with more, the mean return is watched instead"""
    reference: Annotated[int, Field(ge=100, le=MOST_BARS)] = 504
    """sessions of past losses that the latest are compared with"""
    on_inputs: Literal["say", "refit"] = "say"
    """what an alarm of the inputs does: it is said, or it also adds a refit"""
    on_losses: Literal["say", "smaller", "flat"] = "say"
    """what an alarm of the losses does: it is said, or positions also are smaller, or flat, for least_sessions"""
    smaller: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """share of the position that is left where on_losses = "smaller" """
    least_sessions: Annotated[int, Field(ge=1, le=MOST_BARS)] = 21
    """least sessions between two alarms of one kind and symbol, two added refits, or two changes of the position"""

    @property
    def acts(self) -> bool:
        """Whether any alarm changes when models are refitted or what is held."""
        return self.adds_refits or (self.watch and self.on_losses != "say")

    @property
    def adds_refits(self) -> bool:
        """Whether alarms of the inputs decide when the models are refitted."""
        return self.watch and self.on_inputs == "refit"

    @property
    def rows(self) -> float:
        """Sessions from one false alarm of a kind to the next, in the mean."""
        return SESSIONS / self.false_alarms


@dataclass(frozen=True)
class Alarm:
    """One alarm: `time` is the close of the decision at which it is raised, `symbol` None where it is of a class.

    `kind` is one of `INPUTS` or `LOSSES`; `statistic` was above `threshold` (of `psi` and `ks` both are -log10 of a
    p-value); `sentence` says what was found.
    """

    time: np.datetime64
    asset_class: str
    symbol: str | None
    kind: Kind
    statistic: float
    threshold: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the time in ISO format, UTC."""
        return asdict(self) | {"time": f"{self.time.astype('datetime64[us]')}Z"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Alarm:
        """The inverse of `to_dict`."""
        return cls(**{**values, "time": np.datetime64(str(values["time"]).removesuffix("Z"), "us")})


@dataclass(frozen=True)
class Alarms:
    """The alarms of one class in time order, and what is needed to go on from there.

    Attributes
    ----------
    alarms: of all closes up to `until`. refits: closes at which an alarm adds a refit, see `Schedule.folds`.
    until: the last close that was looked at; None: none yet. state: running sums by name, JSON-able.
    """

    alarms: tuple[Alarm, ...] = ()
    refits: tuple[np.datetime64, ...] = ()
    until: np.datetime64 | None = None
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.alarms)

    def of_kinds(self, kinds: Sequence[str]) -> tuple[Alarm, ...]:
        """The alarms of some kinds."""
        return tuple(one for one in self.alarms if one.kind in kinds)

    def up_to(self, moment: np.datetime64) -> Alarms:
        """The alarms and refits up to a moment, without the state to go on from.

        >>> Alarms(refits=(np.datetime64("2020-01-02"),)).up_to(np.datetime64("2020-01-01")).refits
        ()
        """
        return replace(
            self, alarms=tuple(one for one in self.alarms if one.time <= moment),
            refits=tuple(one for one in self.refits if one <= moment), state={},
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; numbers come back to the bit."""
        return {
            "alarms": [one.to_dict() for one in self.alarms],
            "refits": [str(one) for one in self.refits],
            "until": None if self.until is None else str(self.until),
            "state": dict(self.state),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Alarms:
        """The inverse of `to_dict`."""
        until = values["until"]
        return cls(
            tuple(Alarm.from_dict(one) for one in values["alarms"]),
            tuple(np.datetime64(one, "us") for one in values["refits"]),
            None if until is None else np.datetime64(until, "us"), dict(values["state"]),
        )  # fmt: skip


def alarms_on(alarms: Sequence[Alarm], times: TimeArray, settings: Drift) -> tuple[Alarm, ...]:
    """Alarms of a class and its closes in any order -> those that are on at the newest close.

    An alarm is on from its close on, for `least_sessions` sessions. Sessions are those of `times`.

    >>> times = np.arange("2020-01-01T21", "2020-01-07T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    >>> made = [Alarm(times[place], "index", None, "loss", 6.0, 5.0, "") for place in (1, 4)]
    >>> [str(one.time)[:10] for one in alarms_on(made, times, Drift(least_sessions=2))]
    ['2020-01-05']
    """
    days = np.unique(session_date(times))
    on = days[-settings.least_sessions :][:1]
    return tuple(one for one in alarms if len(on) and session_date(np.array([one.time]))[0] >= on[0])


def position_factor(alarms: Alarms, times: TimeArray, settings: Drift) -> FloatArray:
    """(rows,) closes of a class in any order -> (rows,) what the position at each is multiplied with, 0 to 1.

    From an alarm of the losses on, that close included, and for `least_sessions` sessions, or until that many have
    passed since the last such alarm, it is 0 or `smaller` as the settings say; else 1. Sessions are those of `times`.

    >>> times = np.arange("2020-01-01T21", "2020-01-07T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    >>> alarm = Alarm(times[1], "index", None, "loss", 6.0, 5.0, "")
    >>> position_factor(Alarms((alarm,)), times, Drift(on_losses="flat", least_sessions=2)).tolist()
    [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    factor = np.ones(len(times))
    if settings.on_losses == "say" or len(times) == 0:
        return factor
    days, day = np.unique(session_date(times), return_inverse=True)
    for one in alarms.of_kinds(LOSSES):
        first = int(np.searchsorted(days, session_date(np.array([one.time]))[0]))
        inside = (times >= one.time) & (day < first + settings.least_sessions)
        factor[inside] = 0.0 if settings.on_losses == "flat" else settings.smaller
    return factor
