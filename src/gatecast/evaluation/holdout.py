"""The sealed hold-out: bars that nothing reads until they are opened, once, and what the opening showed.

An experiment with `holdout = "2017-01-01"` runs as if the sessions from that day on did not exist. Opening runs it
again without the seal, with the same settings, and measures each forecast's and the strategy's gain before and after.
Openings are kept beside the ledger of trials, outside every run: `openings.jsonl`, one line each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation.compare import RIVALS, best_rival, day_means, sessions_spanned
from gatecast.evaluation.ledger import append_lines, data_folder, ledger_path, overlaps, read_lines, read_trials
from gatecast.evaluation.verdict import HELD, NAMES, RIVAL_NAMES, Estimate, estimate_alpha, estimate_gain
from gatecast.market.bars import session_date
from gatecast.metrics.returns import sharpe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

LEAST_DAYS = 30  # on either side, before a gain is measured there
FORWARD = "The real hold-out are forecasts that are issued from now on, before anybody knows the answer."


# ── the seal ──────────────────────────────────────────────────────────────────────────────────────


def seal(bars: pl.DataFrame, holdout: str | date) -> pl.DataFrame:
    """The bars of the sessions before `holdout`.

    Raises `SettingsError` when that is no date, or when no bar is before it.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(600, seed=1)
    >>> before = seal(bars, "2001-01-01")
    >>> before["time"].max().date().isoformat(), len(before) < len(bars)
    ('2000-12-29', True)
    """
    day = as_day(holdout)
    before = bars.filter(session_date(pl.col("time")) < day)
    if before.is_empty():
        first = session_date(bars["time"].dt.replace_time_zone(None).to_numpy()).min()
        raise SettingsError(f"holdout = {day}: the bars begin on {first}, nothing is left before. Give a later date.")
    return before


def last_session(holdout: str | date, end: str | date | None = None) -> str:
    """The last session that may be read: the day before the hold-out, or `end` where that is earlier.

    Given to the reader of bars as its `end`, it keeps the hold-out from cleaning and adjusting, too.

    >>> last_session("2017-01-01"), last_session("2017-01-01", "2010-06-30")
    ('2016-12-31', '2010-06-30')
    """
    eve = as_day(holdout) - timedelta(days=1)
    return str(eve if end is None else min(eve, as_day(end)))


def as_day(value: str | date) -> date:
    """A date from ISO text. Raises `SettingsError` for anything else."""
    if isinstance(value, date):
        return value.date() if isinstance(value, datetime) else value
    try:
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        raise SettingsError(f"holdout = {value!r}: expected a date such as 2017-01-01.") from None


# ── openings ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Opening:
    """One opening: the instruments, the first and last session that it showed, when (UTC) and of which settings."""

    symbols: tuple[str, ...]
    first: str
    last: str
    opened: str
    settings_hash: str

    def concerns(self, symbols: Iterable[str], first: str, last: str) -> bool:
        """Whether it showed some of these instruments on some of these days."""
        return overlaps(self.symbols, self.first, self.last, symbols, first, last)


def openings_path() -> Path:
    """The file of openings."""
    return data_folder() / "openings.jsonl"


def read_openings(path: Path | None = None) -> list[Opening]:
    """All openings on file, oldest first; lines that cannot be read are passed over."""
    found = []
    for line in read_lines(path or openings_path()):
        try:
            found.append(Opening(**line | {"symbols": tuple(line["symbols"])}))
        except (TypeError, KeyError):
            continue
    return found


def refuse_second(
    symbols: Iterable[str], first: str, last: str, *, again: bool = False, path: Path | None = None
) -> list[Opening]:
    """The earlier openings that showed any of these instruments on any of these days; none, unless `again`.

    Raises `SettingsError` that says when it was opened and what to do.
    """
    symbols = tuple(symbols)
    earlier = [one for one in read_openings(path) if one.concerns(symbols, first, last)]
    if earlier and not again:
        newest = earlier[-1]
        shared = ", ".join(sorted(set(newest.symbols) & set(symbols)))
        raise SettingsError(
            f"the hold-out from {first} was opened on {newest.opened[:16].replace('T', ' ')} UTC, for {shared} from "
            f"{newest.first} to {newest.last}: a second look is none. Sessions after {newest.last} are still sealed "
            "(set holdout to a later day once there are enough of them); --again (again=True) opens it again, and the "
            "report says so."
        )
    return earlier


def record_opening(opening: Opening, path: Path | None = None) -> None:
    """Writes it down. Raises `StoreError` where that fails: an opening that leaves no trace is not allowed."""
    path = path or openings_path()
    try:
        append_lines(path, [asdict(opening)])
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. A hold-out is opened only where that can be "
            "recorded: make room, or set GATECAST_DATA to a folder that can be written."
        ) from None


def seen_without_seal(symbols: Iterable[str], first: str, last: str, path: Path | None = None) -> int:
    """How many trials on these instruments have read these days without a seal."""
    symbols = tuple(symbols)
    trials = read_trials(path or ledger_path())
    return len({one.start for one in trials if overlaps(one.symbols, one.first, one.last, symbols, first, last)})


# ── what it showed ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shrinkage:
    """A gain before the hold-out (validation) and in it, with 90 % intervals, over the rival chosen before.

    `shrinkage` is the share of the gain that is gone, 1 - after / before, NaN where there was none to lose.
    """

    head: str
    rival: str
    unit: str
    before: float
    before_low: float
    before_high: float
    n_before: int
    after: float
    after_low: float
    after_high: float
    n_after: int
    sentence: str

    @property
    def shrinkage(self) -> float:
        """See above."""
        return 1 - self.after / self.before if self.before > 0 else float("nan")


def measure(
    forecasts: Mapping[str, Forecasts],
    equity: pl.DataFrame,
    holdout: str | date,
    *,
    periods_per_year: float,
    model: str = "ensemble",
) -> dict[str, Any]:
    """Each head's and the strategy's gain before the hold-out and in it, from a run that was not sealed.

    In: forecasts and `equity` (time, net, benchmark) over the whole span. A forecast whose answer reaches into the
    hold-out belongs to neither side. Out: JSON-able `first`, `last`, `years`, `heads` (dictionaries of `Shrinkage`),
    `sharpe` (before, after, and the standard error of a yearly Sharpe ratio over so many years) and `sentence`.
    """
    day = np.datetime64(as_day(holdout), "D")
    heads = [_head(forecasts, head, model, day) for head in RIVALS]
    net = equity["net"].to_numpy()
    wealth = np.r_[1.0, equity["benchmark"].to_numpy()]
    session = session_date(equity["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]")
    after = session >= day
    heads.append(_strategy(net, np.diff(wealth) / wealth[:-1], after, periods_per_year))
    years = float(after.sum() / periods_per_year)
    ratio = {name: sharpe(net[rows], periods_per_year) for name, rows in (("before", ~after), ("after", after))}
    found = {
        "first": str(day), "last": str(session.max()), "years": years,
        "heads": [asdict(one) | {"shrinkage": one.shrinkage} for one in heads],
        "sharpe": ratio | {"error": sharpe_error(years)},
        "sentence": f"{how_little(years)} {FORWARD}",
    }  # fmt: skip
    plain: dict[str, Any] = _plain(found)
    return plain


def sharpe_error(years: float) -> float:
    """Standard error of a yearly Sharpe ratio near 0, 1 / sqrt(years).

    >>> round(sharpe_error(2), 2)
    0.71
    """
    return years**-0.5 if years > 0 else float("nan")


def how_little(years: float) -> str:
    """What so many years can confirm, in a sentence.

    >>> how_little(2)[:58]
    '2.0 years confirm little: a yearly Sharpe ratio measured o'
    """
    error = sharpe_error(years)
    return (
        f"{years:.1f} years confirm little: a yearly Sharpe ratio measured over them has a standard error of "
        f"{error:.2f}, so that one of {2 * error:.1f} may be luck."
    )


def _head(forecasts: Mapping[str, Forecasts], head: str, model: str, day: np.datetime64) -> Shrinkage:
    overlap = sessions_spanned(forecasts)
    answered = {
        name: one.with_model(model, {**one.values[model], head: _answered_before(one, head, model, day)})
        for name, one in forecasts.items()
    }
    rival, before = best_rival(answered, head, model)
    whole = day_means(forecasts, head, model, rival)
    after = whole.of(whole.day >= day)
    both = [estimate_gain(days, head, overlap) if len(days.day) >= LEAST_DAYS else None for days in (before, after)]
    return _shrinkage(head, rival, "share of the rival's loss", both[0], len(before.day), both[1], len(after.day))


def _answered_before(forecasts: Forecasts, head: str, model: str, day: np.datetime64) -> FloatArray:
    """A model's forecasts whose answers were known before the day; the others NaN."""
    samples = forecasts.samples
    known_at = samples.targets[head].known_at[samples.ends]
    early = ~np.isnat(known_at)
    early[early] = session_date(known_at[early]).astype("datetime64[D]") < day
    values = forecasts.values[model][head]
    return np.where(early if values.ndim == 1 else early[:, None], values, np.nan)


def _strategy(net: FloatArray, benchmark: FloatArray, after: BoolArray, periods: float) -> Shrinkage:
    both = [
        estimate_alpha(net[rows], benchmark[rows], periods) if np.count_nonzero(net[rows]) >= LEAST_DAYS else None
        for rows in (~after, after)
    ]
    unit = "alpha a year, net of costs"
    return _shrinkage("strategy", HELD, unit, both[0], int((~after).sum()), both[1], int(after.sum()))


def _shrinkage(
    head: str, rival: str, unit: str, before: Estimate | None, n_before: int, after: Estimate | None, n_after: int
) -> Shrinkage:
    first, second = ((float("nan"),) * 3 if one is None else (one.effect, one.low, one.high) for one in (before, after))
    sentence = _in_words(NAMES[head], RIVAL_NAMES.get(rival, rival), first, second, n_after)
    return Shrinkage(head, rival, unit, *first, n_before, *second, n_after, sentence)


def _in_words(
    name: str, rival: str, before: tuple[float, float, float], after: tuple[float, float, float], n: int
) -> str:
    if not np.isfinite(after[0]):
        if n >= LEAST_DAYS:
            return f"{name} was {rival}'s own throughout the hold-out: there is nothing to measure."
        return f"{name}: too little in the hold-out to measure ({n:,} days)."
    interval = f"{after[1]:+.1%} to {after[2]:+.1%}"
    said = f"{name} against {rival}: {after[0]:+.1%} ({interval}) in the hold-out"
    if not np.isfinite(before[0]):
        return f"{said}; before it there was too little to measure."
    said += f", {before[0]:+.1%} before it"
    if before[0] <= 0:
        return f"{said}: there was nothing to confirm."
    gone = 1 - after[0] / before[0]
    kept = (
        "all of it is gone" if gone >= 1 else f"{gone:.0%} of it is gone" if gone > 0.005 else "nothing of it is gone"
    )
    if after[1] > 0:
        return f"{said}: {kept}, and what is left is above 0 beyond doubt."
    if after[2] < before[0]:
        return f"{said}: {kept}; what was promised before is outside the interval."
    return f"{said}: {kept}; the hold-out is too short to tell, for both 0 and what was promised are in the interval."


# ── opening it ────────────────────────────────────────────────────────────────────────────────────


def state_of(
    symbols: Iterable[str], holdout: str | date, *, path: Path | None = None, ledger: Path | None = None
) -> dict[str, Any]:
    """What a sealed run says of its hold-out: `first`, `opened` (when earlier runs opened it, ISO), `seen`, `sentence`.

    `seen` is how many trials have read days from `holdout` on without a seal.
    """
    symbols, first = tuple(symbols), str(as_day(holdout))
    opened = [one.opened for one in read_openings(path) if one.concerns(symbols, first, "9999-12-31")]
    seen = seen_without_seal(symbols, first, "9999-12-31", ledger)
    said = [f"Sessions from {first} on are sealed: nothing in this run has read them."]
    if opened:
        said.append(f"They are no longer untouched: they were opened on {opened[-1][:10]}.")
    elif seen:
        said.append(f"They are no longer untouched: {_runs(seen)} read them without a seal.")
    else:
        said.append("They can be opened once.")
    return {"first": first, "opened": opened, "seen": seen, "heads": [], "sentence": f"{' '.join(said)} {FORWARD}"}


def unseal(
    symbols: Iterable[str],
    holdout: str | date,
    rerun: Callable[[], tuple[Mapping[str, Forecasts], pl.DataFrame, float]],
    *,
    settings_hash: str = "",
    sealed: pl.DataFrame | None = None,
    again: bool = False,
    path: Path | None = None,
    ledger: Path | None = None,
) -> dict[str, Any]:
    """Opens a hold-out: runs on without the seal, writes the opening down, and only then says what it showed.

    Parameters
    ----------
    symbols: the run's instruments; settings_hash: of its settings, for the record.
    rerun: the same experiment without the seal -> forecasts by asset class, equity frame, periods a year.
    sealed: the sealed run's forecasts frame, to check that the past is the same in both.
    again: open it although it was opened before.

    Out: what `measure` gives, with `opened` (every opening, this one last), `seen` (earlier trials that read these
    days without a seal) and `same_past`, the share of the sealed run's forecasts that came out the same.

    Raises `SettingsError` for a second opening, before anything is run, and `StoreError` where it cannot be recorded.
    """
    symbols, first = tuple(symbols), str(as_day(holdout))
    earlier = refuse_second(symbols, first, "9999-12-31", again=again, path=path)
    seen = seen_without_seal(symbols, first, "9999-12-31", ledger)
    forecasts, equity, periods = rerun()
    found = measure(forecasts, equity, holdout, periods_per_year=periods)
    if found["last"] < first:
        raise SettingsError(f"there are no sessions from {first} on: the bars end on {found['last']}.")
    opening = Opening(symbols, first, found["last"], datetime.now(UTC).isoformat(timespec="seconds"), settings_hash)
    record_opening(opening, path)
    same = None if sealed is None else same_past(sealed, forecasts)
    said = []
    if earlier:
        said.append(
            f"This is no first look: it was opened {_times(len(earlier))} before, last on {earlier[-1].opened[:10]}."
        )
    elif seen:
        said.append(f"This is no untouched hold-out: {_runs(seen)} had read it without a seal.")
    if same is not None and same < 0.999:
        said.append(
            f"Of the sealed run's forecasts {same:.0%} came out the same: its bars or the program have changed."
        )
    return found | {
        "opened": [*(one.opened for one in earlier), opening.opened], "seen": seen, "same_past": same,
        "sentence": " ".join([*said, found["sentence"]]),
    }  # fmt: skip


def same_past(sealed: pl.DataFrame, forecasts: Mapping[str, Forecasts]) -> float:
    """Share of a sealed run's forecasts that a run without the seal repeats, to eight digits."""
    keys = ["symbol", "time", "model", "head", "step"]
    whole = pl.concat([one.to_frame() for one in forecasts.values()]).select(*keys, again="value")
    both = sealed.join(whole, on=keys, how="left")
    apart = (both["value"] - both["again"]).abs() <= 1e-8 * both["value"].abs()
    return float(np.mean(apart.fill_null(False).to_numpy()))


def _runs(count: int) -> str:
    return "one earlier trial" if count == 1 else f"{count} earlier trials"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _plain(value: Any) -> Any:
    """NaN as None and NumPy's numbers as Python's, through all levels."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
