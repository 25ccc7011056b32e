"""The sealed hold-out: bars that nothing reads until they are opened, once, and what the opening showed.

An experiment with `holdout = "2017-01-01"` runs as if the sessions from that day on did not exist. Opening runs it
again without the seal, with the same settings, and measures each forecast's and the strategy's gain before and after.
Openings are kept beside the ledger of trials, outside every run: `openings.jsonl`, one line each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation.conclusion import in_percent
from gatecast.evaluation.estimate import Estimate, Tilt, estimate_gain
from gatecast.evaluation.ledger import keep_market, ledger_path, read_trials, with_markets
from gatecast.evaluation.on_file import append_records, data_folder, day_in, problems, read_records, symbols_in, text_in
from gatecast.evaluation.record import day_means
from gatecast.evaluation.scope import too_little
from gatecast.evaluation.trial import Data, Market, Trial, configurations
from gatecast.evaluation.verdict import ADDED, CORE, HELD, NAMES
from gatecast.forecasting.panel import ENSEMBLE, RIVAL, model_phrase
from gatecast.market.bars import session_date
from gatecast.market.reading import as_day
from gatecast.metrics.returns import per_session, returns_of_levels, sharpe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record

    BoolArray = NDArray[np.bool_]

MIN_DAYS_PER_SIDE = 30  # on either side, before a gain is measured there
SHOWN = ("last", "years", "heads", "sharpe", "same_past")  # of an opening, that its line keeps
LAST_DAY = "9999-12-31"
FORWARD = "Only forecasts issued from now on, before their outcomes are known, are a hold-out that nobody has seen."


# ── the seal ──────────────────────────────────────────────────────────────────────────────────────


def last_session(holdout: str | date, end: str | date | None = None) -> str:
    """The last session that may be read: the day before the hold-out, or `end` where that is earlier.

    Given to the reader of bars as its `end`, it keeps the hold-out from cleaning and adjusting, too.

    >>> last_session("2017-01-01"), last_session("2017-01-01", "2010-06-30")
    ('2016-12-31', '2010-06-30')
    """
    eve = as_day(holdout) - timedelta(days=1)
    return str(eve if end is None else min(eve, as_day(end)))


# ── openings ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Opening:
    """One opening: the instruments, the first and last session that it showed, when (UTC) and of which settings.

    `market`: key of the instruments' returns on file, see `trial.Market`; empty in an opening of an older version.
    `found`: what it showed, as `measure` gives it; None in one of an older version.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    opened: str
    settings_hash: str
    market: str = ""
    found: dict[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def as_trial(self) -> Trial:
        """As the ledger compares markets and spans."""
        data = Data("", market_key=self.market) if self.market else None
        return Trial(self.symbols, self.first, self.last, self.settings_hash, None, data=data)


def openings_path() -> Path:
    """The file of openings."""
    return data_folder() / "openings.jsonl"


def read_openings(path: Path | None = None) -> list[Opening]:
    """All openings on file, oldest first; lines that are none are passed over, and `problems` has them."""
    return read_records(path or openings_path(), _opening_of, "earlier openings of a hold-out may be missing")


def _opening_of(line: dict[str, Any]) -> Opening:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is no opening."""
    first, last = day_in(line, "first"), day_in(line, "last")
    return Opening(
        symbols_in(line), first, last, text_in(line, "opened"), text_in(line, "settings_hash"),
        str(line.get("market") or ""), _found_in(line),
    )  # fmt: skip


def openings_of(
    symbols: Iterable[str], first: str, market: Market | None = None, path: Path | None = None
) -> list[Opening]:
    """The openings that showed any of these instruments, by their returns or by name, from `first` (ISO) on."""
    path, openings = path or openings_path(), read_openings(path)
    like = _from(symbols, first, market)
    trials = with_markets(path, [one.as_trial for one in openings], like)
    return [one for one, trial in zip(openings, trials, strict=True) if trial.shares(like)]


def _from(symbols: Iterable[str], first: str, market: Market | None) -> Trial:
    """What the ledger compares trials with: these instruments from `first` (ISO) on."""
    data = None if market is None else Data("", market_key=market.key, market=market)
    return Trial(tuple(symbols), first, LAST_DAY, "", None, data=data)


def _found_in(line: dict[str, Any]) -> dict[str, Any] | None:
    """What an opening showed; None in a line of an older version. Raises as `read_records` wants it."""
    found = line.get("found")
    if found is None:
        return None
    for head in found["heads"]:
        Shrinkage(**{name: value for name, value in head.items() if name != "shrinkage"})
        words = [text_in(head, name) for name in ("head", "rival", "unit", "sentence")]
        if head["head"] not in NAMES or not all(_is_number(value) for value in head.values() if value not in words):
            raise ValueError("no gain of a head")
    day_in(found, "last")
    if not all(map(_is_number, (found["years"], found["same_past"], *found["sharpe"].values()))):
        raise ValueError("no numbers")
    if set(found["sharpe"]) != {"before", "after", "error"}:
        raise ValueError("no Sharpe ratios before and after")
    return {name: found[name] for name in SHOWN}


def _is_number(value: object) -> bool:
    """Whether it is a finite number, or None for what is undefined."""
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def refuse_second(
    symbols: Iterable[str],
    first: str,
    *,
    market: Market | None = None,
    again: bool = False,
    path: Path | None = None,
) -> list[Opening]:
    """The earlier openings that showed any of these instruments from `first` (ISO) on; none, unless `again`.

    `market`: the instruments' returns (`trial.market_of`), by which they are known under any name; None: by name.

    Raises `SettingsError` that says when it was opened and what to do.
    """
    symbols = tuple(symbols)
    earlier = openings_of(symbols, first, market, path)
    if earlier and not again:
        newest = earlier[-1]
        shared = ", ".join(sorted(set(newest.symbols) & set(symbols) or newest.symbols))
        raise SettingsError(
            f"the hold-out from {first} was opened on {newest.opened[:16].replace('T', ' ')} UTC, for {shared} from "
            f"{newest.first} to {newest.last}: only the first opening is a test on unseen data. "
            f"Sessions after {newest.last} are still sealed (set holdout to a later day once there are enough of "
            "them); --again (again=True) opens it again, and the report says so."
        )
    return earlier


def record_opening(opening: Opening, path: Path | None = None, market: Market | None = None) -> None:
    """Writes it down, with the returns by which its instruments are known.

    Raises `StoreError` where that fails: an opening that leaves no trace is not allowed.
    """
    path = path or openings_path()
    try:
        if market is not None:
            keep_market(path, market)
            opening = replace(opening, market=market.key)
        append_records(path, [asdict(opening)])
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. A hold-out is opened only where that can be "
            "recorded: {hint_of(error)}, or set GATECAST_DATA to a folder that can be written."
        ) from None


def seen_without_seal(
    symbols: Iterable[str], first: str, path: Path | None = None, market: Market | None = None
) -> int:
    """How many trials on these instruments, by their returns or by name, have read days from `first` on (ISO)."""
    path, like = path or ledger_path(), _from(symbols, first, market)
    trials = configurations(with_markets(path, read_trials(path), like))
    return sum(one.shares(like) for one in trials)


# ── what it showed ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shrinkage:
    """A gain before the hold-out (validation) and in it, with 90 % intervals, over the rival in force.

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
        """Share of the gain that is gone in the hold-out, 1 - after / before."""
        return 1 - self.after / self.before if self.before > 0 else float("nan")


def measure(
    records: Mapping[str, Record],
    equity: pl.DataFrame,
    holdout: str | date,
    *,
    periods_per_year: float,
    model: str = ENSEMBLE,
    tilt: Tilt | None = None,
) -> dict[str, Any]:
    """Each head's and the strategy's gain before the hold-out and in it, from a run that was not sealed.

    In: head -> record and `equity` (time, net, benchmark) over the whole span; `periods_per_year` in rows of `equity`;
    `tilt`: what strategies added to a core over the whole span, by whose alpha they are measured; None: there is none.
    A forecast whose answer reaches into the hold-out belongs to neither side. Out: `first`, `last`, `years`, `heads`
    (dictionaries of `Shrinkage`), `sharpe` (before, after, and the standard error of a yearly Sharpe ratio over so many
    years) and `sentence`.
    """
    day = np.datetime64(as_day(holdout), "D")
    session = session_date(equity["time"].dt.replace_time_zone(None).to_numpy())
    days, net = per_session(equity["net"].to_numpy(), session)
    held = per_session(returns_of_levels(equity["benchmark"].to_numpy()), session)[1]
    after, sessions_a_year = days >= day, periods_per_year * len(days) / len(equity)
    years = float(after.sum() / sessions_a_year)
    ratio = {name: sharpe(net[rows], sessions_a_year) for name, rows in (("before", ~after), ("after", after))}
    heads = [_head(record, model, day) for record in records.values()]
    alone = Tilt(net, held, net != 0, days, sessions_a_year)
    heads.append(_strategy(alone, day, HELD) if tilt is None else _strategy(tilt, day, CORE))
    return {
        "first": str(day), "last": str(days[-1]), "years": years,
        "heads": [asdict(one) | {"shrinkage": one.shrinkage} for one in heads],
        "sharpe": ratio | {"error": sharpe_error(years)},
        "sentence": f"{how_little(years)} {FORWARD}",
    }  # fmt: skip


def sharpe_error(years: float) -> float:
    """Standard error of a yearly Sharpe ratio near 0, 1 / sqrt(years).

    >>> round(sharpe_error(2), 2)
    0.71
    """
    return years**-0.5 if years > 0 else float("nan")


def how_little(years: float) -> str:
    """What so many years can confirm, in a sentence.

    >>> how_little(2)[:57]
    '2.0 years are weak evidence: an annual Sharpe ratio measu'
    """
    error = sharpe_error(years)
    return (
        f"{years:.1f} years are weak evidence: an annual Sharpe ratio measured over them has a standard error of "
        f"{error:.2f}, so that a ratio of {2 * error:.1f} may be chance."
    )


def _head(record: Record, model: str, day: np.datetime64) -> Shrinkage:
    early = np.where(_answered_before(record.known_at, day), record.forecasts[model], np.nan)
    before, whole = (day_means(one, model, RIVAL) for one in (record.with_forecasts(model, early), record))
    after = whole.of(whole.day >= day)
    both = [
        estimate_gain(days, record.overlap) if len(days.day) >= MIN_DAYS_PER_SIDE else None for days in (before, after)
    ]
    reason = too_little(record.with_forecasts(model, early), model)
    if reason:  # no verdict was given on it, so that there is no gain to confirm
        both[0] = None
    unit = "share of the rival's loss"
    found = _shrinkage(record.head, RIVAL, unit, both[0], len(before.day), both[1], len(after.day))
    return replace(found, sentence=f"{found.sentence} {reason}") if reason and both[1] else found


def _answered_before(known_at: NDArray[np.datetime64], day: np.datetime64) -> BoolArray:
    """(rows,) whether each answer was known in a session before the day."""
    early = ~np.isnat(known_at)
    early[early] = session_date(known_at[early]).astype("datetime64[D]") < day
    return early


def _strategy(tilt: Tilt, day: np.datetime64, rival: str) -> Shrinkage:
    sides = (tilt.sessions < day, tilt.sessions >= day)
    both = [
        tilt.alpha(rows) if np.count_nonzero(tilt.held[rows]) >= MIN_DAYS_PER_SIDE else None for rows in sides
    ]  # fmt: skip
    unit, (n_before, n_after) = "alpha a year, net of costs", (int(rows.sum()) for rows in sides)
    return _shrinkage("strategy", rival, unit, both[0], n_before, both[1], n_after)


def _shrinkage(
    head: str, rival: str, unit: str, before: Estimate | None, n_before: int, after: Estimate | None, n_after: int
) -> Shrinkage:
    first, second = ((float("nan"),) * 3 if one is None else (one.effect, one.low, one.high) for one in (before, after))
    name = ADDED if rival == CORE else NAMES[head]
    sentence = _in_words(name, model_phrase(rival), first, second, n_after)
    return Shrinkage(head, rival, unit, *first, n_before, *second, n_after, sentence)


def _in_words(
    name: str, rival: str, before: tuple[float, float, float], after: tuple[float, float, float], n: int
) -> str:
    if not np.isfinite(after[0]):
        if n >= MIN_DAYS_PER_SIDE and name == NAMES["strategy"]:
            return f"{name} held almost no position in the hold-out: no gain can be measured."
        if n >= MIN_DAYS_PER_SIDE and rival == CORE:
            return "Almost nothing was added to the core in the hold-out: no gain can be measured."
        if n >= MIN_DAYS_PER_SIDE:
            return f"{name} was that of the rival, {rival}, throughout the hold-out: no gain can be measured."
        return f"{name}: too little in the hold-out to measure ({n:,} days)."
    said = f"{name} against {rival}: {in_percent(*after)} measured in the hold-out"
    if not np.isfinite(before[0]):
        return f"{said}; before it no gain could be measured."
    said += f", {in_percent(*before)} on the development record before it"
    if before[0] <= 0:
        return f"{said}: there was nothing to confirm."
    gone = 1 - after[0] / before[0]
    kept = "all of it is gone" if gone >= 1 else f"{gone:.0%} of it is gone" if gone > 0.005 else "none of it is gone"
    if after[1] > 0:
        return f"{said}: {kept}, and the whole interval is above 0."
    if after[2] < before[0]:
        return f"{said}: {kept}; the gain before the hold-out is outside the interval."
    return (
        f"{said}: {kept}; the hold-out is too short to decide: both 0 and the gain before the hold-out "
        "are in the interval."
    )


# ── who has seen it ───────────────────────────────────────────────────────────────────────────────


def state_of(
    symbols: Iterable[str],
    holdout: str | date,
    *,
    market: Market | None = None,
    settings_hash: str | None = None,
    path: Path | None = None,
    ledger: Path | None = None,
) -> dict[str, Any]:
    """What a sealed run says of its hold-out: `first`, `opened` (when earlier runs opened it, ISO), `seen`, `sentence`.

    `seen` is how many trials have read days from `holdout` on without a seal. `market`: see `refuse_second`. Where the
    same settings were opened, also what the newest such opening showed (`SHOWN`), so that a new run in the place of the
    opened one does not lose it.
    """
    symbols, first = tuple(symbols), str(as_day(holdout))
    with problems() as unread:
        earlier = openings_of(symbols, first, market, path)
        seen = seen_without_seal(symbols, first, ledger, market)
    opened = [one.opened for one in earlier]
    own = [one for one in earlier if one.settings_hash == settings_hash and one.first == first and one.found]
    shown = own[-1].found or {} if own else {}
    said = [f"Sessions from {first} on are sealed: this run has not read them."]
    if opened:
        said.append(f"They are no longer unseen: they were opened on {opened[-1][:10]}.")
        if shown:
            said.append("The numbers here are those of the opening with these settings.")
    elif seen:
        said.append(f"They are no longer unseen: {_runs(seen)} read them without a seal.")
    elif unread:
        said.append(f"They can be opened once. {cannot_know(unread)}")
    else:
        said.append("They can be opened once.")
    own_words = {"first": first, "opened": opened, "seen": seen, "sentence": f"{' '.join(said)} {FORWARD}"}
    return {"heads": [], **shown, **own_words}


def cannot_know(unread: Sequence[str]) -> str:
    """That earlier looks may have left no trace, and why: the sentences of `on_file.problems`."""
    return f"It cannot be known whether they were read or opened before: {' '.join(unread)}"


def reservations(earlier: Sequence[Opening], seen: int, same: float, unread: Sequence[str] = ()) -> list[str]:
    """Why an opening shows less than it seems: it is not the first, or may not be, or the past is not the same.

    `unread`: what `on_file.problems` has of looking for earlier ones.
    """
    said = []
    if earlier:
        times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
        said.append(f"This is not the first opening: it was opened {times} before, last on {earlier[-1].opened[:10]}.")
    if seen:
        said.append(f"This hold-out is not unseen: {_runs(seen)} had read it without a seal.")
    if unread and not (earlier or seen):
        said.append(cannot_know(unread).replace("they were", "this hold-out was"))
    if same < 0.999:
        said.append(f"Of the sealed run's forecasts {same:.1%} are the same: its bars or the program have changed.")
    return said


def same_past(sealed: pl.DataFrame, again: pl.DataFrame) -> float:
    """Share of a sealed run's forecasts that a later run repeats, to eight digits.

    In: two tables as `Forecasts.to_frame` gives.
    """
    keys = ["symbol", "time", "model", "head", "step"]
    both = sealed.join(again.select(*keys, again="value"), on=keys, how="left")
    apart = (both["value"] - both["again"]).abs() <= 1e-8 * both["value"].abs()
    return float(np.mean(apart.fill_null(False).to_numpy()))


def _runs(count: int) -> str:
    return "one earlier trial" if count == 1 else f"{count} earlier trials"
