"""The live record: forecasts as a store issued them, beside what came, and what the record so far let one expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import SettingsError
from gatecast.evaluation.gate import limits
from gatecast.evaluation.paired import paired
from gatecast.evaluation.record import Record
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE, RIVAL
from gatecast.store.issued import issued_keys, joined
from gatecast.store.pieces import in_order, read_pieces
from gatecast.store.schema import TABLES

if TYPE_CHECKING:
    from gatecast.store.store import Store

NEWEST = 63
"""Records of decisions that are scored, the newest: a quarter of daily ones, each a file to read."""
LEAST_LIVE = 21
"""Sessions below which nothing is said of what was expected: a month."""
BEFORE = timedelta(days=150)
"""Bars before the first forecast that its answer and its scale are made of."""
HEAD = "volatility"


@dataclass(frozen=True)
class LiveRecord:
    """What live forecasts and the book were worth, over the newest records of decisions.

    `sessions`: days whose answers are known. `loss`, `rival_loss`: mean daily QLIKE of the forecast of variance in
    force and of the rival's; `gain`: the share of the rival's loss that was saved. `expected`: the gain in the record
    of the refit in force; `low`, `high`: where 90 % of records of so many sessions lie if it goes on; `within`: whether
    the gain does. `book_sessions`: sessions of the book with a forecast volatility, of `book_passed` in all
    (`sessions_passed`); `book_newest`: whether there were others before these; `ratio`: its realised volatility over
    the one that was forecast of what was held, with 90 % limits `ratio_low` and `ratio_high`; `ratio_within`: whether
    they hold 1.
    None: not known. Below `LEAST_LIVE` sessions nothing is said of what was expected.
    """

    sessions: int = 0
    loss: float | None = None
    rival_loss: float | None = None
    gain: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    within: bool | None = None
    book_sessions: int = 0
    book_passed: int = 0
    book_newest: bool = False
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    ratio_within: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, with `sentences`."""
        found: dict[str, Any] = jsonable(asdict(self))
        return {**found, "sentences": self.sentences}

    @property
    def sentences(self) -> list[str]:
        """The record in words.

        >>> print(*LiveRecord(40, 1.1, 1.0, -0.1, 0.02, -0.05, 0.09, False).sentences, sep="\\n")
        Live forecasts of variance, 40 sessions: loss (QLIKE, smaller is better) 1.100, of the best simple forecast so \
far 1.000, gain -10.0%. Expected +2.0%, between -5.0% and +9.0%: outside.
        The book has no session yet whose forecast volatility is known.
        """
        return [self._of_forecasts(), self._of_book()]

    def _of_forecasts(self) -> str:
        if not self.sessions or self.gain is None:
            return "No live forecast of variance has its answer yet."
        found = (
            f"Live forecasts of variance, {_sessions(self.sessions)}: loss (QLIKE, smaller is better) {self.loss:.3f}, "
            f"of the best simple forecast so far {self.rival_loss:.3f}, gain {self.gain:+.1%}."
        )
        if self.within is None:
            return f"{found} Whether that is as expected takes {LEAST_LIVE} sessions."
        where = "as expected" if self.within else "outside"
        return f"{found} Expected {self.expected:+.1%}, between {self.low:+.1%} and {self.high:+.1%}: {where}."

    def _of_book(self) -> str:
        if self.ratio is None:
            return "The book has no session yet whose forecast volatility is known."
        rest = self.book_passed - self.book_sessions
        of = f" of {self.book_passed} (in {_sessions(rest)} nothing that it held was traded)" if rest > 0 else ""
        which = f"{'the newest ' * self.book_newest}{_sessions(self.book_sessions)}"
        found = f"Realised over forecast volatility of the book, {which}{of}: {self.ratio:.2f}"
        if self.ratio_within is None:
            return f"{found}. Whether that is as expected takes {LEAST_LIVE} sessions."
        where = "holds 1" if self.ratio_within else "does not hold 1"
        return f"{found}; its interval, {self.ratio_low:.2f} to {self.ratio_high:.2f}, {where}."


def _sessions(count: int) -> str:
    """So many sessions, in words.

    >>> _sessions(1), _sessions(2)
    ('1 session', '2 sessions')
    """
    return f"{count} session{'s' * (count != 1)}"


def live_record(
    store: Store, bars: pl.DataFrame, verdict: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]
) -> LiveRecord:  # fmt: skip
    """The live record of a store.

    `bars`: what is known now. `verdict`: on the forecast of variance, of the refit in force. `figures`: of the book,
    see `morning.sessions_of_book`.
    """
    return LiveRecord(**{**_of_forecasts(store, bars, verdict), **_of_book(figures)})


def _of_forecasts(store: Store, bars: pl.DataFrame, verdict: Mapping[str, Any]) -> dict[str, Any]:
    issued = issued_table(store, bars)
    if issued.is_empty():
        return {}
    first = issued["time"].min() - BEFORE  # type: ignore[operator]
    settings = store.experiment
    known = bars.filter(pl.col("time") >= first, pl.col("symbol").is_in(issued["symbol"].unique().implode()))
    there = issued.join(known.select("symbol", "time"), on=["symbol", "time"], how="semi")
    try:
        record = Record.from_table(there, known, horizon=settings.horizon, volatility_proxy=settings.volatility_proxy)[
            HEAD
        ]
    except SettingsError:  # no forecast that can be judged: its bars are gone, or too few
        return {}
    both = paired(record, ENSEMBLE, RIVAL)
    if not both.n:
        return {}
    found = {"sessions": both.n, "loss": both.loss, "rival_loss": both.loss_against, "gain": both.gain}
    effect, low, high, count = (verdict.get(name) for name in ("effect", "low", "high", "n"))
    if both.n < LEAST_LIVE or effect is None or low is None or high is None or not count:
        return found
    error = (high - low) / 2 * (1 + count / both.n) ** 0.5  # of the record, and of so few sessions
    return {
        **found, "expected": effect, "low": effect - error, "high": effect + error,
        "within": bool(abs(both.gain - effect) <= error),
    }  # fmt: skip


def issued_table(store: Store, bars: pl.DataFrame) -> pl.DataFrame:
    """symbol, time, model, head, step and value of the newest forecasts of variance as updates issued them.

    Those alone that were issued before the symbol's next close among `bars`: of one that an update caught up with, a
    part of the answer was there.
    """
    kinds = {name: kind for name, kind in TABLES["forecasts"].items() if name != "known_at"}
    horizon = store.experiment.horizon
    said = [one for one in store.state.issued if one.pieces is not None][-NEWEST:]
    read = [(one.record, read_pieces(store.artefacts, str(one.pieces), horizon)) for one in said]
    moments = {one.record: datetime.fromisoformat(one.now) for one in said}
    following = bars.select("symbol", "time", _next=pl.col("time").shift(-1).over("symbol", order_by="time"))
    frames = [pl.DataFrame(schema=kinds)]
    for name in sorted({name for _, each in read for name in each}):
        whole = joined(
            [one.issued for one in in_order([(number, each[name]) for number, each in read if name in each])]
        )
        keys = issued_keys(whole)
        when = pl.concat(
            issued_keys(each[name].issued).with_columns(_issued=pl.lit(moments[number]))
            for number, each in read if name in each
        ).group_by("symbol", "time").agg(pl.col("_issued").max())  # fmt: skip
        told = keys.join(when, on=["symbol", "time"], how="left", maintain_order="left")
        told = told.join(following, on=["symbol", "time"], how="left", maintain_order="left")
        in_time = told.select((pl.col("_next").is_null() | (pl.col("_issued") < pl.col("_next"))).alias("_in_time"))
        for model in (ENSEMBLE, RIVAL):
            values = dict(whole.values.get(model, {})).get(HEAD)
            if values is None:
                continue
            frames.append(
                keys.with_columns(
                    model=pl.lit(model), head=pl.lit(HEAD), step=pl.lit(horizon, pl.Int32),
                    value=pl.Series(np.asarray(values, np.float64).reshape(len(keys), -1)[:, -1]),
                ).filter(pl.col("value").is_finite() & in_time["_in_time"])
            )  # fmt: skip
    return pl.concat(frames)


def sessions_passed(figures: Sequence[Mapping[str, Any]]) -> int:
    """Sessions of these that a book has come through, see `morning.sessions_of_book`: not that of its first close,
    which earned nothing.

    >>> sessions_passed([{"earned": None}, {"earned": 0.0}, {"earned": 0.01, "spans": 5}])
    6
    """
    return sum(one.get("spans", 1) for one in figures if one.get("earned") is not None)


def _of_book(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The realised volatility of a book over the one forecast, by what its records say of each session."""
    rows = [[*(one.get(name) for name in ("earned", "expected", "level")), one.get("spans", 1)] for one in figures]
    known = np.array([row for row in rows if None not in row], np.float64).reshape(-1, 4)
    known = known[known[:, 1] > 0]
    if not len(known):
        return {}
    ratios = known[:, 0] ** 2 / (known[:, 1] * known[:, 2] ** 2)
    found = {
        "book_passed": sessions_passed(figures), "book_newest": figures[0].get("earned") is not None,
        "book_sessions": int(known[:, 3].sum()), "ratio": float(ratios.mean() ** 0.5),
    }  # fmt: skip
    if len(ratios) < LEAST_LIVE:
        return found
    low, high = (max(limits(ratios)[name], 0.0) ** 0.5 for name in ("low", "high"))
    return {**found, "ratio_low": low, "ratio_high": high, "ratio_within": low <= 1 <= high}
