"""The ledger of trials: one line a configuration on disk, and those on the same market and an overlapping span.

A trial is a pair of data and configuration. The same settings again on the same data, with newer bars, on a window that
slid on or under another name are no new trial; other values in a column of the user's are. Which trials count together
is decided by the returns of their symbols, see `Market`, and by their names where returns are not known.

A ledger that cannot be read or written stops no run; what was missed is said, see `problems`.

Lines that were taken out of it, up to all of them, are said: `trials.count` has how many were written.

`trials.jsonl` in the user's data folder (or `$GATECAST_DATA`) has one line a trial, `trials/` beside it the daily net
profit of each, `markets/` the returns. All of it is outside every run: deleting a run forgets no trial. What is judged
inside `unrecorded` leaves no line.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from gatecast.compute.notices import reason
from gatecast.files import append_lines, read, sha256_of, sweep, write_whole
from gatecast.market.bars import session_date
from gatecast.metrics import significance
from gatecast.metrics.overfitting import effective_trials
from gatecast.metrics.returns import per_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

Record = TypeVar("Record")
SLACK = timedelta(days=7)  # by which the first session of a sliding window may move on more than the last one
DRAWS = 500  # of the bootstrap of a test over all trials
BOOTSTRAP_CELLS = 2e7  # rows x trials x draws that it may take: one or two seconds
SAME_MARKET = 0.99  # correlation of daily returns above which two symbols are one market, whatever their names
OTHER_MARKET = 0.5  # and below which two symbols of one name are two
COMMON_SESSIONS = 250  # that it takes to tell
MOST_SYMBOLS = 256  # of a run whose returns are kept: those with the longest history
SAME_COLUMNS = 0.5  # share of the weeks of two data sets in which the user's columns must agree: the rest is corrected
MAX_LEDGER_BYTES = 2**28  # of the file of trials, or of openings: some hundred thousand lines
MAX_TABLE_BYTES = 2**28  # of a market's returns or a trial's profit
MAX_COUNT_BYTES = 64  # of the number of lines
DIGITS = 4  # hexadecimal, of a week's fingerprint
NO_WEEK = "-" * DIGITS
MARKET_DIGITS = 32  # hexadecimal, of the name of a market's file
PROFIT_COLUMNS: dict[str, type[pl.DataType]] = {"session": pl.Date, "net": pl.Float32}
RUN_AGAIN = "Restore it from a copy, or make that run again, which writes it anew."
CHANGED = "it is not what this program wrote: damaged or changed"
TOO_SMALL = "earlier trials may be missing, so that the correction for trials may be too small"


@dataclass(frozen=True)
class Trial:
    """One configuration on one data set: symbols, first and last session (ISO), hash of the settings, daily Sharpe.

    `profit` has `session` (Date) and `net` (Float32), the net profit of each day as a fraction; None where it is not
    known: a trial of an older version, or one that never saw what it is judged on. `nested`: a candidate of a search
    inside a training slice, which saw no row that is judged: it counts where tries are counted, and was not chosen by
    its luck on what is tested. `data`: what entered; None in a trial of an older version. `profit_sha256`: of the file
    of the profit, as the trial's line has it; empty in a trial of an older version.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    settings_hash: str
    sharpe: float | None
    profit: pl.DataFrame | None = field(default=None, compare=False, repr=False)
    nested: bool = False
    data: Data | None = None
    profit_sha256: str = field(default="", compare=False, repr=False)

    @property
    def start(self) -> tuple[tuple[str, ...], str, str, str]:
        """What stays as bars are added: symbols, first session, settings and the first weeks of the user's columns."""
        return self.symbols, self.first, self.settings_hash, self.data.begins if self.data else ""

    def shares(self, other: Trial) -> bool:
        """Whether both have a market and a day in common."""
        return self.first <= other.last and other.first <= self.last and same_market(self, other)

    def goes_on(self, earlier: Trial) -> bool:
        """Whether this is the earlier trial with newer bars: its first day moved on no further than its last.

        >>> one = Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)
        >>> replace(one, last="2019-01-31").goes_on(one), replace(one, first="2005-01-03").goes_on(one)
        (True, False)
        """
        same = self.settings_hash == earlier.settings_hash and same_data(self, earlier)
        if self.first == earlier.first or not same:
            return same
        moved, grown = (
            date.fromisoformat(late) - date.fromisoformat(early)
            for late, early in ((self.first, earlier.first), (self.last, earlier.last))
        )
        return timedelta(0) < moved <= grown + SLACK and grown > timedelta(0)


@dataclass(frozen=True)
class Data:
    """What entered a trial: its exact hash, and what tells newer bars of the same data from other data.

    `exact`: SHA-256 of the bars, versions and the user's own columns included. `weeks`: fingerprint of the user's own
    columns and features, `DIGITS` hexadecimal digits a calendar week from `monday` (ISO) on, of all symbols together
    and without their names; empty where there are none. `market`: the daily returns, on file under `market_key`; None
    where they are not known. `market_sha256`: of that file when the trial's line was written; empty in an older one.
    """

    exact: str
    monday: str = ""
    weeks: str = ""
    market_key: str = ""
    market: Market | None = field(default=None, compare=False, repr=False)
    market_sha256: str = field(default="", compare=False, repr=False)

    @property
    def begins(self) -> str:
        """The first half year of `weeks` but for the first week, which may be cut."""
        return self.weeks[DIGITS : 27 * DIGITS]

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """(weeks,) the fingerprints as numbers; -1 where there is none, and in the first and the last, maybe cut."""
        parts = [self.weeks[at : at + DIGITS] for at in range(0, len(self.weeks), DIGITS)]
        codes = np.array([-1 if part == NO_WEEK else int(part, 16) for part in parts], np.int64)
        codes[[0, -1] if len(codes) else []] = -1
        return codes

    def columns_agree(self, other: Data) -> bool:
        """Whether the user's columns are the same but for corrections, over the weeks that both cover."""
        if self.exact == other.exact or not (self.weeks or other.weeks):
            return True
        if not (self.weeks and other.weeks):
            return False
        first, second = (week_of(date.fromisoformat(one.monday)) for one in (self, other))
        begin = max(first, second)
        common = max(min(first + len(self.codes), second + len(other.codes)) - begin, 0)
        own, others = self.codes[begin - first :][:common], other.codes[begin - second :][:common]
        both = int(np.count_nonzero((own >= 0) & (others >= 0)))
        return both > 0 and int(np.count_nonzero((own == others) & (own >= 0))) >= SAME_COLUMNS * both


def week_of(day: date) -> int:
    """The number of a day's week, Monday to Sunday.

    >>> week_of(date(2024, 1, 7)), week_of(date(2024, 1, 8))
    (105555, 105556)
    """
    return (day.toordinal() - 1) // 7


@dataclass(frozen=True, eq=False)
class Market:
    """Daily close-to-close log returns of symbols: a frame symbol, session (Date), log_return (Float32), sorted.

    `names`: its symbols. Two symbols are one market where their returns correlate above .99 on 250 common sessions or
    more (or below -.99: a currency pair the other way round), whatever their names; of one name, above .5.
    """

    returns: pl.DataFrame

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The symbols, in order."""
        return tuple(self.returns["symbol"].unique(maintain_order=True).to_list())

    @cached_property
    def key(self) -> str:
        """Name of its file: of the first 250 returns of each symbol, so that newer bars replace the older."""
        first = self.returns.group_by("symbol", maintain_order=True).head(COMMON_SESSIONS)
        digest = hashlib.sha256("\x00".join(first["symbol"].to_list()).encode())
        digest.update(first["session"].to_physical().to_numpy().tobytes())
        digest.update(first["log_return"].round(4).to_numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:MARKET_DIGITS]

    def links(self, other: Market) -> FloatArray:
        """(own symbols, other's symbols) absolute correlation of returns; NaN below 250 common sessions."""
        return _links(self, other)

    def apart(self, other: Market) -> set[str]:
        """The names under which the two have different instruments."""
        place = {name: number for number, name in enumerate(other.names)}
        linked = self.links(other)
        return {
            name for number, name in enumerate(self.names)
            if name in place and linked[number, place[name]] <= OTHER_MARKET
        }  # fmt: skip

    def _table(self, days: NDArray[np.datetime64]) -> FloatArray:
        """(symbols, days) returns, NaN where there is none."""
        table = np.full((len(self.names), len(days)), np.nan)
        number = {name: i for i, name in enumerate(self.names)}
        rows = self.returns["symbol"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
        session = self.returns["session"].to_numpy()
        at = np.minimum(np.searchsorted(days, session), max(len(days) - 1, 0))
        inside = days[at] == session if len(days) else np.zeros(len(session), bool)
        table[rows[inside], at[inside]] = self.returns["log_return"].to_numpy()[inside]
        return table


@lru_cache(maxsize=128)
def _links(first: Market, second: Market) -> FloatArray:
    days = np.intersect1d(first.returns["session"].to_numpy(), second.returns["session"].to_numpy())
    own, others = first._table(days), second._table(days)
    x, y = np.isfinite(own).astype(float), np.isfinite(others).astype(float)  # days that are known
    a, b = np.nan_to_num(own), np.nan_to_num(others)
    count = np.maximum(x @ y.T, 1.0)
    mean_a, mean_b = a @ y.T / count, x @ b.T / count
    variance_a, variance_b = a**2 @ y.T / count - mean_a**2, x @ (b**2).T / count - mean_b**2
    known = (count >= COMMON_SESSIONS) & (variance_a > 1e-20) & (variance_b > 1e-20)
    scale = np.sqrt(np.where(known, variance_a * variance_b, 1.0))
    return np.where(known, np.abs(a @ b.T / count - mean_a * mean_b) / scale, np.nan)


def market_of(bars: pl.DataFrame) -> Market:
    """Bars -> their daily returns, of the symbols with the longest history where there are more than 256.

    >>> from gatecast.market import synthetic
    >>> market = market_of(synthetic.a1(300, seed=1))
    >>> renamed = market_of(synthetic.a1(400, seed=1).with_columns(symbol=pl.lit("Y")))
    >>> market.links(renamed).round(3).tolist()
    [[1.0]]
    """
    daily = bars.select("symbol", "close", session=session_date(pl.col("time"))).group_by("symbol", "session").last()
    daily = daily.sort("symbol", "session").with_columns(
        log_return=(pl.col("close") / pl.col("close").shift().over("symbol")).log().cast(pl.Float32)
    )
    longest = daily.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False]).head(MOST_SYMBOLS)
    kept = daily.filter(pl.col("symbol").is_in(longest["symbol"].implode()), pl.col("log_return").is_finite())
    return Market(kept.select("symbol", "session", "log_return"))


def market_of_answers(samples: Iterable[Samples]) -> Market:
    """The daily returns of samples' symbols, as `market_of` has them of bars: out of the returns over the next bar."""
    parts = []
    for one in samples:
        same = np.flatnonzero(one.symbol[1:] == one.symbol[:-1])
        step = one.targets["return"].value[same, 0]
        session = session_date(one.time[same + 1]).astype("datetime64[D]")
        names = np.array(one.symbols)[one.symbol[same + 1]]
        parts.append(pl.DataFrame({"symbol": names.tolist(), "session": session, "log_return": step}))
    whole = pl.concat(parts).filter(pl.col("log_return").is_finite())
    daily = whole.group_by("symbol", "session").agg(pl.col("log_return").sum().cast(pl.Float32))
    longest = daily.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False]).head(MOST_SYMBOLS)
    return Market(daily.filter(pl.col("symbol").is_in(longest["symbol"].implode())).sort("symbol", "session"))


def same_market(one: Trial, other: Trial) -> bool:
    """Whether two trials have a symbol in common: by returns, and by name where returns do not say otherwise."""
    names = set(one.symbols) & set(other.symbols)
    first, second = _market(one), _market(other)
    if first is None or second is None:
        return bool(names)
    return bool((first.links(second) > SAME_MARKET).any()) or bool(names - first.apart(second))


def same_data(one: Trial, other: Trial) -> bool:
    """Whether two trials saw the same symbols, by returns or by name, and the same columns, but for newer bars."""
    if one.data and other.data and not one.data.columns_agree(other.data):
        return False
    first, second = _market(one), _market(other)
    if first is None or second is None:
        return one.symbols == other.symbols
    if one.symbols == other.symbols:
        return not first.apart(second)
    same = first.links(second) > SAME_MARKET
    return len(one.symbols) == len(other.symbols) == len(same) and bool(same.any(0).all() and same.any(1).all())


def _market(trial: Trial) -> Market | None:
    return trial.data.market if trial.data else None


# ── what cannot be read or written ────────────────────────────────────────────────────────────────

_PROBLEMS: ContextVar[list[str] | None] = ContextVar("gatecast_ledger_problems", default=None)


@contextmanager
def problems() -> Iterator[list[str]]:
    """Collects a sentence on everything on file that could not be read or written inside, each once.

    It holds for the thread that entered it. Of two inside each other, both have what the inner one found.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "trials.jsonl"
    >>> file.write_text("no trial")
    8
    >>> with problems() as found:
    ...     read_trials(file)
    []
    >>> found[0].startswith("1 line of "), found[0].endswith("Mend or remove what cannot be read.")
    (True, True)
    """
    found: list[str] = []
    token = _PROBLEMS.set(found)
    try:
        yield found
    finally:
        _PROBLEMS.reset(token)
        for sentence in found:
            _say(sentence)


def trials_are_missing(sentences: Iterable[str]) -> bool:
    """Whether one of the sentences of `problems` says that earlier trials could not be read.

    >>> trials_are_missing(["nothing of that"]), trials_are_missing([f"half a line: {TOO_SMALL}. Mend it."])
    (False, True)
    """
    return any(TOO_SMALL in one for one in sentences)


def _say(sentence: str) -> None:
    found = _PROBLEMS.get()
    if found is not None and sentence not in found:
        found.append(sentence)


def _say_unread(what: str, why: object, follows: str, advice: str = "Mend or remove what cannot be read.") -> None:
    _say(f"{what} cannot be read ({reason(why)}): {follows}. {advice}")


# ── what is not recorded ──────────────────────────────────────────────────────────────────────────

_RECORDED: ContextVar[bool] = ContextVar("gatecast_trials_recorded", default=True)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Inside, trials are neither recorded nor looked up: for copies and planted markets, on which nobody trades.

    It holds for the thread that entered it; work in other threads or processes enters it there.

    >>> with unrecorded():
    ...     len(record_trial(Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)))
    1
    >>> ledger_path().exists()
    False
    """
    token = _RECORDED.set(False)
    try:
        yield
    finally:
        _RECORDED.reset(token)


def overlaps(
    symbols: Iterable[str], first: str, last: str, other_symbols: Iterable[str], other_first: str, other_last: str
) -> bool:
    """Whether two sets of instruments have a symbol, and their spans (ISO dates, both ends included) a day in common.

    >>> overlaps(["SP500"], "2001-01-02", "2010-12-31", ["SP500", "NASDAQ"], "2010-12-31", "2012-12-31")
    True
    """
    return not set(symbols).isdisjoint(other_symbols) and first <= other_last and other_first <= last


def daily_profit(equity: pl.DataFrame) -> pl.DataFrame:
    """`session` and `net`: the net profit of each session, from a backtest's equity frame (`time`, `net`).

    >>> from datetime import UTC, datetime
    >>> day = [datetime(2024, 1, 2, hour, tzinfo=UTC) for hour in (15, 16)]
    >>> daily_profit(pl.DataFrame({"time": day, "net": [0.1, 0.1]}))["net"].round(6).to_list()
    [0.21]
    """
    sessions = session_date(equity["time"].dt.replace_time_zone(None).to_numpy())
    day, net = per_session(equity["net"].to_numpy(), sessions)
    return pl.DataFrame({"session": pl.Series(day, dtype=pl.Date), "net": net})


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


def data_folder() -> Path:
    """Where trials and openings are kept."""
    root = os.environ.get("GATECAST_DATA")
    if root:
        return Path(root)
    from platformdirs import user_data_path

    try:
        folder = user_data_path("gatecast")
    except RuntimeError:
        folder = Path("~")
    return folder if folder.is_absolute() else Path(os.devnull) / "gatecast"  # a user without a home has no place


def ledger_path() -> Path:
    """The file of trials."""
    return data_folder() / "trials.jsonl"


def record_trial(trial: Trial, path: Path | None = None) -> list[Trial]:
    """Adds the trial unless it is known, and returns all trials that share its instruments and span, itself included.

    A folder that cannot be written is no reason to lose a run: the trial is then counted for this call only, and
    `problems` has it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "trials.jsonl"
    >>> one = Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)
    >>> len(record_trial(one, file)), len(record_trial(one, file))
    (1, 1)
    """
    return record_trials([trial], path)


def record_trials(trials: Sequence[Trial], path: Path | None = None) -> list[Trial]:
    """As `record_trial` for several at once, such as those of one search; the last one's company is returned."""
    path = path or ledger_path()
    if not trials:
        return []
    if not _RECORDED.get():
        return configurations(trials)
    for folder in (path.parent, path.with_name("markets"), path.with_name(path.stem)):
        sweep(folder)  # of what a killed process left, also where there is nothing to write
    known = with_markets(path, read_trials(path), trials[-1])
    newest = {trial.start: trial for trial in sorted(known, key=lambda one: one.last)}
    fresh = [
        trial for trial in trials
        if (old := newest.get(trial.start)) is None
        or not same_data(trial, old)
        or (trial.last >= old.last and (trial != old or _cannot_be_mended(path, trial, old)))
    ]  # fmt: skip
    profits_of = {start: one.profit_sha256 for start, one in newest.items()}
    _write(path, trials, fresh, profits_of, _market_hashes(known))
    last = trials[-1]
    company = configurations([trial for trial in (*known, *fresh) if trial.shares(last)])
    own = {trial: trial.profit for trial in trials if trial.profit is not None}
    written = {one.profit_sha256 for one in known}
    others = _read_profits(path, [one for one in company if one not in own], written)
    return [replace(trial, profit=own[trial] if trial in own else others[trial]) for trial in company]


def trials_on(samples: Collection[Samples], path: Path | None = None) -> list[Trial]:
    """All trials on file, with their profits, on the market and span of these samples, one an asset class.

    None of a search's candidates, which never saw what is judged. Nothing is recorded; inside `unrecorded` there are
    none.
    """
    path = path or ledger_path()
    if not samples or not _RECORDED.get():
        return []
    market = market_of_answers(samples)
    days = [session_date(one.time[[one.time.argmin(), one.time.argmax()]]) for one in samples if len(one.time)]
    symbols = tuple(sorted(symbol for one in samples for symbol in one.symbols))
    like = Trial(
        symbols, str(min(day[0] for day in days)), str(max(day[1] for day in days)), "", None,
        data=Data("", market_key=market.key, market=market),
    )  # fmt: skip
    known = with_markets(path, [one for one in read_trials(path) if not one.nested], like)
    company = configurations([one for one in known if one.shares(like)])
    profit = _read_profits(path, company)
    return [replace(one, profit=profit[one]) for one in company]


def _write(
    path: Path, trials: Sequence[Trial], fresh: Sequence[Trial], known: dict[Any, str], written: dict[str, set[str]]
) -> None:
    """Returns and profits first, as a line without its profit would stay without; then the lines, whatever failed.

    `known`: SHA-256 of the profit on file, by `Trial.start`. `written`: see `_market_hashes`.
    """
    failed: list[tuple[Path, OSError]] = []

    def attempt(file: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            failed.append((file, error))

    if fresh:
        attempt(path, lambda: _begin(path))  # before its companions: without them it would look lost
    for market in {one.data.market_key: one.data.market for one in trials if one.data}.values():
        if market is not None:
            attempt(_market_file(path, market.key), partial(keep_market, path, market, written.get(market.key, ())))
    for trial in trials:
        if trial.profit is not None:
            attempt(
                _file(path, trial),
                partial(_keep_profit, path, trial, trial.profit, known.get(trial.start, ""), again=trial in fresh),
            )
    attempt(path, lambda: append_records(path, [_line(path, trial) for trial in fresh]))
    advice = "Make room, or set GATECAST_DATA to a folder that can be written."
    lines = [error for file, error in failed if file == path]
    files = [(file, error) for file, error in failed if file != path]
    if lines:
        _say(
            f"{path} cannot be written ({reason(lines[-1])}): this trial is not on file, so that later runs count "
            f"too few. {advice}"
        )
    elif files:
        _say(
            f"{_those(files, path.parent)} cannot be written ({reason(files[0][1])}): later runs may not tell on which "
            f"market this trial was, or how alike it was to others. {advice}"
        )


def _begin(path: Path) -> None:
    """The empty file where there is none. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and _written(path) is None:
        _keep_count(path, 0)  # so that an empty file was begun, and not emptied
    path.touch()


def _those(files: Sequence[tuple[Path, object]], folder: Path) -> str:
    """One file by its name, several by their number and the first."""
    return str(files[0][0]) if len(files) == 1 else f"{len(files)} files in {folder} (the first is {files[0][0]})"


def read_trials(path: Path) -> list[Trial]:
    """All trials on file, without their profits; lines that are none are passed over, and `problems` has them."""
    found = os.path.exists(path)  # that of pathlib raises where a folder may not be searched
    if not found or (_written(path) is None and path.stat().st_size == 0):
        beside = [f"{name}/" for name in ("markets", path.stem) if _has_files(path.with_name(name))]
        if beside:
            how, names = "empty" if found else "missing", " and ".join(beside)
            _say(f"{path} is {how}, while {names} beside it hold earlier trials: {TOO_SMALL}.")
            return []
    return read_records(path, _trial_of, TOO_SMALL)


def _has_files(folder: Path) -> bool:
    try:
        return any(file.suffix == ".parquet" for file in folder.iterdir())
    except OSError:
        return False


def _trial_of(line: dict[str, Any]) -> Trial:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is no trial."""
    sharpe = line["sharpe"]
    if sharpe is not None and (isinstance(sharpe, bool) or not math.isfinite(sharpe)):
        raise ValueError("no Sharpe ratio")
    found = line.get("data")
    data = None
    if isinstance(found, dict):  # a line of an older version has none
        monday = day_in(found, "monday") if found["monday"] else ""
        data = Data(
            text_in(found, "exact"), monday, text_in(found, "weeks"), _hexadecimal(found, "market", MARKET_DIGITS),
            market_sha256=_hexadecimal(found, "market_sha256", 64),
        )  # fmt: skip
        len(data.codes)  # raises ValueError where the weeks are no fingerprints
    return Trial(
        symbols_in(line), day_in(line, "first"), day_in(line, "last"), text_in(line, "settings_hash"),
        None if sharpe is None else float(sharpe), nested=line.get("nested") is True, data=data,
        profit_sha256=_hexadecimal(line, "profit_sha256", 64),
    )  # fmt: skip


def _hexadecimal(line: dict[str, Any], name: str, digits: int) -> str:
    """So many hexadecimal digits, which the program itself wrote and may make a file's name of; empty for none."""
    value = line.get(name, "")
    if not isinstance(value, str) or not re.fullmatch(rf"([0-9a-f]{{{digits}}})?", value):
        raise ValueError(f"{name} is no hash")
    return value


def configurations(trials: Sequence[Trial]) -> list[Trial]:
    """Each pair of configuration and data once, at its newest, however often its data grew or slid on."""
    found: dict[str, list[Trial]] = {}
    places: dict[Any, list[int]] = {}  # settings, week and fingerprint -> where trials with it are in `found`
    for trial in sorted(trials, key=lambda one: one.last):
        same = found.setdefault(trial.settings_hash, [])
        keys = [(trial.settings_hash, *week) for week in _weeks(trial)]
        likely = {at for key in keys for at in places.get(key, ())} | set(places.get((trial.settings_hash, -1, -1), ()))
        among = sorted(likely) if _weeks(trial)[0] != (-1, -1) else range(len(same))
        before = next((at for at in among if trial.goes_on(same[at])), len(same))
        same[before:] = [trial, *same[before + 1 :]]
        for key in keys:
            if before not in (known := places.setdefault(key, [])):
                known.append(before)
    return [trial for same in found.values() for trial in same]


def _weeks(trial: Trial) -> list[tuple[int, int]]:
    """Number and fingerprint of each week of the user's columns; (-1, -1) alone where there is none."""
    if trial.data is None or not (trial.data.codes >= 0).any():
        return [(-1, -1)]
    first = week_of(date.fromisoformat(trial.data.monday))
    return [(first + at, code) for at, code in enumerate(trial.data.codes.tolist()) if code >= 0]


def _line(path: Path, trial: Trial) -> dict[str, Any]:
    line = {name: getattr(trial, name) for name in ("symbols", "first", "last", "settings_hash", "sharpe")}
    if trial.data:
        line["data"] = {name: getattr(trial.data, name) for name in ("exact", "monday", "weeks")}
        line["data"]["market"] = trial.data.market_key
        if trial.data.market is not None and (sha256 := _sha256_of(_market_file(path, trial.data.market_key))):
            line["data"]["market_sha256"] = sha256
    if trial.profit is not None:
        line["profit_sha256"] = sha256_of(_bytes_of(trial.profit))
    return line | ({"nested": True} if trial.nested else {})


def _sha256_of(file: Path) -> str:
    """Of a file's bytes; empty where it cannot be read."""
    try:
        return sha256_of(read(file, at_most=MAX_TABLE_BYTES))
    except OSError:
        return ""


def _cannot_be_mended(path: Path, trial: Trial, known: Trial) -> bool:
    """Whether the profit on file is not the one of the known trial's line, and writing it anew gives another, too."""
    if trial.profit is None or known.profit_sha256 in ("", _sha256_of(_file(path, trial))):
        return False
    return sha256_of(_bytes_of(trial.profit)) != known.profit_sha256


def _market_file(path: Path, key: str) -> Path:
    return path.with_name("markets") / f"{key}.parquet"


def keep_market(path: Path, market: Market, written: Collection[str] = ()) -> None:
    """Writes the returns unless as many are on file, as `_read_table` reads them. Raises `OSError`."""
    file = _market_file(path, market.key)
    known = _read_market(file, written)
    if not isinstance(known, Market) or len(known.returns) < len(market.returns):
        buffer = io.BytesIO()
        market.returns.write_parquet(buffer)
        write_whole(file, buffer.getvalue())


def _read_market(file: Path, written: Collection[str] = ()) -> Market | OSError:
    """What is on file, or why it cannot be read: see `_read_table`."""
    found = _read_table(file, {"symbol": pl.String, "session": pl.Date, "log_return": pl.Float32}, written)
    if isinstance(found, OSError):
        return found
    market = Market(found.drop_nulls().drop_nans())
    return market if market.key == file.stem else OSError(CHANGED)


def _read_table(
    file: Path, schema: dict[str, type[pl.DataType]], written: Collection[str] = ()
) -> pl.DataFrame | OSError:
    """A table of the program, or why it cannot be read. `written`: SHA-256 of what it may hold; none: anything."""
    try:
        content = read(file, at_most=MAX_TABLE_BYTES)
        if written and sha256_of(content) not in written:
            return OSError(CHANGED)
        return pl.read_parquet(io.BytesIO(content), schema=schema)
    except OSError as error:
        return error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # polars panics over some damaged files
        return OSError("it is damaged or no table of this program")


def _market_hashes(trials: Iterable[Trial]) -> dict[str, set[str]]:
    """Name of a market -> SHA-256 of its file, as the lines of trials have it; the file grew between them."""
    found: dict[str, set[str]] = {}
    for one in trials:
        if one.data and one.data.market_sha256:
            found.setdefault(one.data.market_key, set()).add(one.data.market_sha256)
    return found


def with_markets(path: Path, trials: Sequence[Trial], like: Trial) -> list[Trial]:
    """The trials with the returns on file, of those that have a day in common with `like`."""
    markets: dict[str, Market | None] = {"": None}
    if like.data and like.data.market:
        markets[like.data.market_key] = like.data.market
    found, unread = [], []
    written = _market_hashes(trials)
    for trial in trials:
        if trial.data and trial.first <= like.last and like.first <= trial.last:
            key = trial.data.market_key
            if key not in markets:
                file = _market_file(path, key)
                known = _read_market(file, written.get(key, ()))
                markets[key] = None if isinstance(known, OSError) else known
                unread += [(file, known)] if isinstance(known, OSError) else []
            trial = replace(trial, data=replace(trial.data, market=markets[key]))
        found.append(trial)
    if unread:
        follows = (
            "trials on this market under another name may be missing, so that the correction for trials may be too "
            "small"
        )
        _say_unread(_those(unread, path.with_name("markets")), unread[0][1], follows, RUN_AGAIN)
    return found


def _file(path: Path, trial: Trial) -> Path:
    """Where a trial's profit is kept: one file a configuration and first day, whose newest bars replace the older."""
    key = json.dumps(trial.start).encode()
    return path.with_suffix("") / f"{hashlib.sha256(key).hexdigest()[:32]}.parquet"


def _bytes_of(profit: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    profit.select(pl.col("session").cast(pl.Date), pl.col("net").cast(pl.Float32)).write_parquet(buffer)
    return buffer.getvalue()


def _keep_profit(path: Path, trial: Trial, profit: pl.DataFrame, known: str, *, again: bool) -> None:
    """Writes the profit, `again` although the one of SHA-256 `known` (empty: any) can be read. Raises `OSError`."""
    file = _file(path, trial)
    if again or isinstance(_read_table(file, PROFIT_COLUMNS, [known] if known else ()), OSError):
        write_whole(file, _bytes_of(profit))


def _read_profits(
    path: Path, trials: Sequence[Trial], written: Collection[str] = ()
) -> dict[Trial, pl.DataFrame | None]:
    """The profits on file; None where there is no file, or one that is no profit of the trial.

    `written`: SHA-256 of the profits of all lines: what another trial with the same beginning wrote is no damage.
    """
    found: dict[Trial, pl.DataFrame | None] = {}
    unread = []
    for trial in trials:
        file = _file(path, trial)
        kept = _read_table(file, PROFIT_COLUMNS, [trial.profit_sha256] if trial.profit_sha256 else ())
        if isinstance(kept, OSError):
            found[trial] = None
            if _sha256_of(file) in written:
                continue
            had_one = trial.sharpe is not None and trial.data is not None  # not every trial has a profit
            unread += [(file, kept)] if had_one or not isinstance(kept, FileNotFoundError) else []
        else:
            found[trial] = kept.drop_nans().drop_nulls().unique("session", keep="last", maintain_order=True)
    if unread:
        follows = "how alike these trials are to others is unknown, and each counts in full"
        _say_unread(_those(unread, path.with_suffix("")), unread[0][1], follows, RUN_AGAIN)
    return found


def read_records(path: Path, make: Callable[[dict[str, Any]], Record], follows: str) -> list[Record]:
    """What `make` makes of a file's JSON objects, one a line; what is none, or was cut short, is passed over.

    `make` raises `KeyError`, `TypeError` or `ValueError` for an object that it cannot use. `problems` has what was
    passed over, and what `follows` from it.
    """
    found, wrong = [], 0
    try:
        lines = [line for line in read(path, at_most=MAX_LEDGER_BYTES).split(b"\n") if line.strip()]
    except FileNotFoundError:
        lines = []
    except OSError as error:
        _say_unread(str(path), error, follows)
        return []
    written = _written(path) or 0
    if len(lines) < written:
        _say(
            f"{path} has {len(lines)} of the {written} lines that were written to it: {follows}. Restore it from a "
            f"copy, or remove {_count_file(path)} if they were taken out on purpose."
        )
    for line in lines:
        try:
            found.append(make(json.loads(line)))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            wrong += 1
    if wrong:
        _say_unread(f"{wrong} {'line' if wrong == 1 else 'lines'} of {path}", "damaged or cut short", follows)
    return found


def symbols_in(line: dict[str, Any]) -> tuple[str, ...]:
    """The symbols of a record. Raises as `read_records` wants it."""
    if not isinstance(line["symbols"], list):
        raise TypeError("symbols are a list")
    return tuple(_text(symbol) for symbol in line["symbols"])


def text_in(line: dict[str, Any], name: str) -> str:
    """A text of a record. Raises as `read_records` wants it."""
    return _text(line[name])


def _text(value: object) -> str:
    """Text that can be written as UTF-8: half of a surrogate pair cannot (UnicodeEncodeError is a `ValueError`)."""
    if not isinstance(value, str):
        raise TypeError("expected text")
    value.encode()
    return value


def day_in(line: dict[str, Any], name: str) -> str:
    """A date of a record, ISO. Raises as `read_records` wants it."""
    return date.fromisoformat(line[name]).isoformat()


def append_records(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """See `append_lines`; how many lines were ever written is kept beside the file. Raises `OSError`."""
    if lines:
        append_lines(path, lines)
        have = sum(1 for line in read(path, at_most=MAX_LEDGER_BYTES).split(b"\n") if line.strip())
        _keep_count(path, max((_written(path) or 0) + len(lines), have))


def _count_file(path: Path) -> Path:
    return path.with_suffix(".count")


def _keep_count(path: Path, lines: int) -> None:
    """How many lines were written to a file, in a file beside it; where that fails no line is missed later."""
    with suppress(OSError):
        write_whole(_count_file(path), f"{lines}\n".encode())


def _written(path: Path) -> int | None:
    """How many lines were written to a file; None where it is not known."""
    try:
        return int(read(_count_file(path), at_most=MAX_COUNT_BYTES))
    except (OSError, ValueError):
        return None


# ── what follows from them ────────────────────────────────────────────────────────────────────────


def profits(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray | None = None
) -> FloatArray:
    """(sessions, trials) net profit of the trials whose profit is known; 0 on days that a trial did not cover.

    With `benchmark`, the (sessions,) simple return of buy and hold: what is beyond each trial's own exposure to it.
    """
    days = pl.DataFrame({"session": pl.Series(sessions.astype("datetime64[D]"), dtype=pl.Date)})
    table = np.zeros((len(days), sum(trial.profit is not None for trial in trials)))
    known = (trial.profit for trial in trials if trial.profit is not None)
    for own, profit in zip(table.T, known, strict=True):
        net = days.join(profit, on="session", how="left", maintain_order="left")["net"]
        covered = net.is_not_null().to_numpy()
        own[covered] = net.drop_nulls().to_numpy()
        if benchmark is not None and own.any():
            own[covered] = _beyond(own[covered], benchmark[covered])
    return table


def _beyond(net: FloatArray, benchmark: FloatArray) -> FloatArray:
    """The profit beyond beta times buy and hold; 0 throughout where that is rounding."""
    centred = benchmark - benchmark.mean()
    beyond: FloatArray = net - benchmark * (centred @ net / max(float(centred @ centred), 1e-300))
    return np.where(np.abs(beyond).max() > 1e-6 * np.abs(net).max(), beyond, 0.0)


def independent_trials(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray | None = None
) -> float:
    """How many independent trials these are worth, by `effective_trials` of their profits.

    With `benchmark` (see `profits`) books that are alike in no more than being long are not taken for alike. Trials
    whose profit is unknown or does not vary count one each, since nothing shows that they were alike.
    """
    table = profits(trials, sessions, benchmark)
    unknown = len(trials) - table.shape[1]
    return float(unknown + (effective_trials(table) if table.shape[1] else 0.0))


def best_of_trials(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray
) -> significance.Test:
    """Does the best of the trials beat buy and hold at its own exposure, given that it is the best of them? One-sided.

    One question alone: the verdict on the strategy is corrected for all questions of the run, and decides.

    The test of superior predictive ability on each trial's profit beyond its beta times `benchmark`, the (sessions,)
    simple return of buy and hold; where trials are many, on sums over several days. Undefined where fewer than two
    trials had a profit or loss of their own: there is no best of them.
    """
    table = profits(trials, sessions, benchmark)
    table = table[:, np.ptp(table, axis=0) > 0] if len(table) else table[:, :0]
    if table.shape[1] < 2:
        reason = f"{'one trial' if table.shape[1] else 'no trial'} had a profit or loss of its own"
        return significance.Test(np.nan, np.nan, reason, len(table), enough=False)
    together = min(int(np.ceil(table.size * DRAWS / BOOTSTRAP_CELLS)), max(1, len(table) // 60))
    table = np.add.reduceat(table[len(table) % together :], np.arange(0, len(table) // together * together, together))
    return significance.spa(np.zeros(len(table)), -table, draws=DRAWS)
