"""What if: the forecasts of a run with other settings of what comes after them. Nothing is fitted; each is a trial.

The stages after the forecasts are made again, by the functions that a run has: the result is that of a run with these
settings, to the bit (`tests/test_whatif.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.chain import Chain, decided_again
from gatecast.errors import SettingsError, cut, did_you_mean, shown
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.ledger import record_trials, trials_are_missing, unrecorded
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.plausible import void
from gatecast.evaluation.trial import Trial
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.metrics.returns import per_session, tear_sheet
from gatecast.metrics.risk import certainty_equivalent
from gatecast.notebook import Shown, draw_lines, number_text
from gatecast.scores import backtest_scores, line_held, line_scores
from gatecast.settings import Settings
from gatecast.trading.book import TILTED, Book, Line, Sessions, Shared, lines_of, no_holdings, sessions_by
from gatecast.trials import configuration, trials_in
from gatecast.verdicts import Conclusion, conclude

FloatArray = NDArray[np.float64]
AFTER = ("signals", "strategies", "strategy", "selection", "costs", "book")
"""Sections of the settings whose stages come after the forecasts."""
SHORT = {"band": "book.size.book_band", "target": "book.size.target_volatility"}
"""Short name -> the setting that it stands for, also after `book.`."""
_FITTED = "every model would have to be fitted again"
_BEFORE = {
    "ensemble": "the models' forecasts would have to be combined again",
    "intervals": "the intervals of the forecasts would have to be made again",
    "drift": f"alarms of the inputs may add refits, so that {_FITTED}",
    "control": "the models of the planted market would have to be fitted again",
    "too_good": "it says what a run may claim, and is declared before one is made",
    "orders": "it changes no decision of the book, but what a store sends of them",
    "name": "it is no part of the decisions",
}
"""Setting -> why a what-if cannot change it; of those that are not here models would have to be fitted again."""
NO_DECISION = ("orders", "name", "too_good")
"""Settings that do not come before the forecasts, either."""
FIGURES = {
    "return": "return a year, net", "volatility": "volatility a year", "sharpe": "Sharpe ratio a year, beyond cash",
    "certainty_equivalent": "certainty equivalent a year, beyond cash", "drawdown": "deepest drawdown",
    "turnover": "one-sided turnover a year, times the equity", "cost": "cost a year, of the equity",
}  # fmt: skip
"""Figures of a book's money -> what each is; shares as fractions."""


@dataclass(frozen=True, repr=False)
class WhatIf(Shown):
    """A run with other settings of what comes after its forecasts; its parts are made when they are asked for.

    `changes`: setting -> its value in the run, and here. `trials`: all on the same market and span, this one included;
    `unread`: sentences on what of the ledger could not be read. Frames are those of a `Run`.
    """

    experiment: Experiment
    changes: Mapping[str, tuple[Any, Any]]
    made: Chain = field(repr=False)
    trials: tuple[Trial, ...] = field(repr=False)
    unread: tuple[str, ...] = ()
    stored: Stored | None = field(default=None, repr=False)
    doubted: bool | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return self.summary()

    @property
    def hash(self) -> str:
        """Of the settings that make a trial, see `trials.configuration`."""
        return configuration(self.experiment)

    @cached_property
    def conclusion(self) -> Conclusion:
        """The verdicts, with what they rest on; this takes as long as a run takes to be judged."""
        return conclude(self.experiment, self.made, self.trials, unread=trials_are_missing(self.unread))

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """head -> verdict, as in a run's scores: corrected for all trials, this one and its neighbours among them."""
        said = self.conclusion
        found = said.verdicts if said.audit.clean else void(said.verdicts, said.audit.findings[0].sentence)
        return {head: one.to_dict() for head, one in found.items()}

    @cached_property
    def chain(self) -> Chain:
        """The chain, with nothing held where its outcome is in doubt: this takes the verdicts."""
        if self.experiment.selection.evidence is not None:
            return self.made
        doubted = self.conclusion.doubted if self.doubted is None else self.doubted
        return self.made.with_nothing_held() if doubted else self.made

    @property
    def _of_money(self) -> Chain:
        """The chain, as far as money goes: where strategies hold nothing, doubt of them changes none."""
        return self.chain if (self.made.weights["weight"] != 0).any() else self.made

    @property
    def signals(self) -> pl.DataFrame:
        """The signals of the chain, as a run has them."""
        return self.chain.decisions.signals

    @property
    def weights(self) -> pl.DataFrame:
        """symbol, time, weight, book."""
        return self._of_money.weights

    @property
    def equity(self) -> pl.DataFrame:
        """time, gross, net, equity, benchmark, of the strategies."""
        return self._of_money.result.equity

    @cached_property
    def line(self) -> Line | None:
        """What the book held and earned, see `trading.book.Line`; None without a book."""
        chain, settings = self._of_money, self.experiment.book
        tilted = (chain.weights["weight"] != 0).any()
        stored = self.stored or Stored(self.experiment, self.made)
        lines = lines_of(
            self.made.classes, stored.sessions(settings), settings, only=(ENSEMBLE, *([TILTED] if tilted else [])),
            shared=stored.shared(settings, self.made),
        )  # fmt: skip
        return lines[line_held(chain, lines)] if lines else None

    @property
    def book(self) -> pl.DataFrame:
        """What the book held and decided, see `trading.book.holdings_of`."""
        return no_holdings() if self.line is None else self.line.holdings

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Of money alone: `backtest` as a run has it, and `line`, the figures of the book's line."""
        chain = self._of_money
        days, held = per_session(chain.benchmark, chain.sessions)
        effective = independent_trials(self.trials, days, held)
        line = None if self.line is None else line_scores(self.line, chain.bars)
        found: dict[str, Any] = jsonable({"backtest": backtest_scores(chain, self.trials, effective), "line": line})
        return found

    @property
    def daily(self) -> FloatArray:
        """(sessions,) simple net return beyond cash of the book; without a book the net return of the strategies."""
        return self._of_money.net if self.line is None else self.line.excess[1:]

    @property
    def turnover(self) -> FloatArray:
        """(sessions,) one-sided turnover of the book, a share of its equity; without a book that of the strategies."""
        if self.line is None:
            bars = self._of_money.result.bars
            names = bars["symbol"].n_unique()
            daily = bars.group_by("time", maintain_order=True).agg(pl.col("turnover").sum() / names / 2).sort("time")
            return daily["turnover"].to_numpy()
        frame = self.line.frame[1:]
        return (frame["traded"] / frame["before"] / 2).to_numpy()

    @cached_property
    def per_year(self) -> float:
        """Sessions a year."""
        if self.line is None:
            return self._of_money.result.rows_per_year
        found = line_scores(self.line, self.made.bars)
        return float(found["sessions"] / found["years"])

    @cached_property
    def figures(self) -> dict[str, float]:
        """The figures of the money, see `FIGURES`: of the book, and without one of the strategies."""
        worth = certainty_equivalent(self.daily) * self.per_year
        if self.line is not None:
            found = line_scores(self.line, self.made.bars)
            return {name: float(found[name]) for name in FIGURES if name in found} | {"certainty_equivalent": worth}
        chain = self._of_money
        sheet, result = tear_sheet(chain.net, self.per_year), chain.result
        paid = float((result.equity["gross"] - result.equity["net"]).sum()) / len(result.equity) * self.per_year
        return {
            "return": sheet["cagr"], "volatility": sheet["volatility"], "sharpe": sheet["sharpe"],
            "certainty_equivalent": worth, "drawdown": sheet["max_drawdown"], "turnover": result.turnover_per_year,
            "cost": paid,
        }  # fmt: skip

    def plot(self) -> Any:
        """A Plotly figure: wealth with the run's settings and with these, net of costs and beyond cash."""
        own = {"changed": self.daily} | ({"as run": self.stored.itself.daily} if self.stored else {})
        wealth = {name: np.cumprod(1 + daily).tolist() for name, daily in own.items()}
        sessions = range(1, 1 + max(len(values) for values in wealth.values()))
        return draw_lines(sessions, wealth, "What if", "wealth, 1 at the start", xaxis_title="session")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: settings (before and after), figures, trials, unread."""
        found: dict[str, Any] = jsonable(
            {
                "settings": {name: {"before": one, "after": other} for name, (one, other) in self.changes.items()},
                "of": "strategies" if self.line is None else "book", "figures": self.figures,
                "trials": None if trials_are_missing(self.unread) else len(self.trials), "unread": list(self.unread),
            }
        )  # fmt: skip
        return found

    def summary(self) -> str:
        """Plain text: the settings, then the figures of the money."""
        said = [f"{name}: {shown(one)} -> {shown(other)}" for name, (one, other) in self.changes.items()]
        figures = ", ".join(
            f"{name.replace('_', ' ')} {number_text(value, '.4g')}" for name, value in self.figures.items()
        )
        return "\n".join([*said, figures, f"trials on this market: {len(self.trials)}", *self.unread])


@dataclass(frozen=True, eq=False)
class Stored:
    """A run's settings and its chain with the forecasts that are stored; what several what-ifs share is made once.

    `chain`: decided, with doubtful positions. `doubted`: whether the run holds nothing because its outcome is in doubt.
    """

    experiment: Experiment
    chain: Chain
    doubted: bool | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def itself(self) -> WhatIf:
        """The run without a change, for its figures: no trial is added, and none is counted."""
        with unrecorded():
            return self.tries([{}])[0]

    def tries(self, changes: Sequence[Mapping[str, Any]]) -> list[WhatIf]:
        """Each set of changes -> a what-if; all are recorded as trials before any is made. See `changed`."""
        asked = [changed(self.experiment, one) for one in changes]
        for after, _ in asked:
            after.book.refuse_unknown(self.chain.bars["symbol"].unique().sort().to_list())
        tried = [(after, found, self._chain(after)) for after, found in asked]
        with problems() as unread:
            trials = record_trials([trial for after, _, chain in tried for trial in trials_in(after, chain)])
        return [
            WhatIf(after, found, chain, tuple(trials), tuple(unread), self, None if found else self.doubted)
            for after, found, chain in tried
        ]

    def _chain(self, experiment: Experiment) -> Chain:
        """The chain with these settings, decided."""
        others = [name for name in AFTER if name != "book"]
        if all(getattr(experiment, name) == getattr(self.experiment, name) for name in others):
            return self.chain.with_book(experiment.book)
        return decided_again(experiment, self.chain)

    def sessions(self, book: Book) -> Sessions:
        """The bars by session, see `trading.book.sessions_by`."""
        key = f"sessions {book.money.model_dump_json()} {book.size.lots}"
        if key not in self._kept:
            self._kept[key] = sessions_by(self.chain.facts, book, level="newest")
        found: Sessions = self._kept[key]
        return found

    def shared(self, book: Book, made: Chain) -> Shared:
        """What lines of books with this core share, see `trading.book.Shared`; `made`: the chain that was decided."""
        sessions, key = self.sessions(book), f"shared {book.core.model_dump_json()}"
        if key not in self._kept or not self._kept[key].holds_for(sessions):
            self._kept[key] = Shared.of(self.chain.classes, sessions, book.core)
        found: Shared = self._kept[key]
        return found if made.classes is self.chain.classes else found.decided(made.classes)


# ── settings ──────────────────────────────────────────────────────────────────────────────────────


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> tuple[Experiment, dict[str, tuple[Any, Any]]]:
    """The settings with changes, and what differs: name -> both values.

    `changes`: a name such as "book.size.book_band", the name alone where no other section has it, or a short one
    ("band", "target") -> value; or a section -> a table of values. Raises `SettingsError` for a setting whose stage
    comes before the forecasts, saying what would have to be made again, and for an unknown one.

    >>> after, found = changed(Experiment(), {"band": 0.1, "costs": {"slippage_bps": 3.0}})
    >>> found
    {'book.size.book_band': (0.07, 0.1), 'costs.slippage_bps': (None, 3.0)}
    >>> changed(Experiment(), {"schedule.refit": "1M"})
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: schedule.refit comes before the forecasts: every model would have to be fitted \
again. Make a run with it; a what-if changes signals, strategies, strategy, selection, costs or book.
    """
    after = experiment
    for name, value in changes.items():
        after = _replaced(after, _path_of(name, experiment), value)
    after = after.replace(book=after.book.with_file_read())
    before, now = (_flat(one.model_dump(mode="json", include={*AFTER})) for one in (experiment, after))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return after, {name: (before.get(name), now.get(name)) for name in names}


def value_of(experiment: Experiment, name: str) -> tuple[str, Any]:
    """The full name of a setting, and its value; `name`: as in `changed`."""
    path, found = _path_of(name, experiment), experiment
    for part in path:
        found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    return ".".join(path), found


def _path_of(name: str, experiment: Experiment) -> list[str]:
    """The parts of a setting's full name. Raises `SettingsError`, see `changed`."""
    path = SHORT.get(name.removeprefix("book."), name).split(".")
    if path[0] in AFTER:
        return _inside(path, experiment)
    if path[0] in type(experiment).model_fields:
        why = f"{_named(path)} would have to be fitted again" if path[0] == "model" else _BEFORE.get(path[0], _FITTED)
        where = "cannot be changed" if path[0] in NO_DECISION else "comes before the forecasts"
        raise SettingsError(
            f"{cut(name)} {where}: {why}. Make a run with it; a what-if changes {', '.join(AFTER[:-1])} or {AFTER[-1]}."
        )
    known = [one for one in _leaves(experiment) if one.endswith(f".{name}")]
    if len(known) == 1:
        return known[0].split(".")
    if known:
        raise SettingsError(f"{cut(name)} stands for several settings: say {' or '.join(known)}.")
    raise SettingsError(f"unknown setting {cut(name)!r}. {did_you_mean(name, [*SHORT, *_leaves(experiment)])}")


def _named(path: Sequence[str]) -> str:
    return f"the model {cut(path[1])!r}" if len(path) > 1 else "the models"


def _inside(path: list[str], experiment: Experiment) -> list[str]:
    """The path of a setting in a section, with the tables between that were not said where it is the only one."""
    found: Any = experiment
    for place, part in enumerate(path):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, Settings) and part in type(found).model_fields:
            found = getattr(found, part)
        else:
            section = ".".join(path[:place])
            own = [one for one in _leaves(experiment) if one.startswith(f"{section}.")]
            inner = [one for one in own if one.endswith("." + ".".join(path[place:]))]
            if len(inner) == 1:
                return inner[0].split(".")
            said = ".".join(path)
            raise SettingsError(f"unknown setting {cut(said)!r}. {did_you_mean(said, own)}")
    return path


def _leaves(experiment: Experiment) -> list[str]:
    """The full names of all settings that a what-if changes."""
    found = list[str]()

    def walk(place: str, value: Any) -> None:
        if isinstance(value, Settings):
            for name in type(value).model_fields:
                walk(f"{place}.{name}", getattr(value, name))
        elif isinstance(value, dict) and value and all(isinstance(one, Settings) for one in value.values()):
            for name, one in value.items():
                walk(f"{place}.{name}", one)
        else:
            found.append(place)

    for section in AFTER:
        walk(section, getattr(experiment, section))
    return found


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Settings with one value in a place changed; of a table of values each of them."""
    if not path:
        if isinstance(value, Mapping) and isinstance(settings, Settings):
            for name, one in value.items():
                if name not in type(settings).model_fields:
                    raise SettingsError(
                        f"unknown setting {cut(name)!r}. {did_you_mean(name, type(settings).model_fields)}"
                    )
                settings = _replaced(settings, [name], one)
            return settings
        return value
    name, *rest = path
    if isinstance(settings, Mapping):
        return {**settings, name: _replaced(settings[name], rest, value)}
    return settings.replace(**{name: _replaced(getattr(settings, name), rest, value)})


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat = dict[str, Any]()
    for name, value in settings.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat
