"""What has been tried on the same instruments over an overlapping span: counted by the program, not confessed.

`trials.jsonl` in the user's data folder (or `$GATECAST_DATA`) has one line a trial, `trials/` beside it the daily net
profit of each. The same data and settings again add nothing; a new bar, a window that slid on or another name of the
experiment make no new trial of an old one. All of it is outside every run: deleting a run forgets no trial.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.market.bars import session_date
from gatecast.metrics import significance
from gatecast.metrics.overfitting import effective_trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

SLACK = timedelta(days=7)  # by which the first session of a sliding window may move on more than the last one
BOOTSTRAP_CELLS = 4e8  # days x trials x draws that a test over all trials may take


@dataclass(frozen=True)
class Trial:
    """One configuration on one data set: symbols, first and last session (ISO), hash of the settings, daily Sharpe.

    `profit` has `session` (Date) and `net` (Float32), the net profit of each day as a fraction; None where it is not
    known: a trial of an older version, or one that never saw what it is judged on.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    settings_hash: str
    sharpe: float | None
    profit: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def start(self) -> tuple[tuple[str, ...], str, str]:
        """What stays as bars are added: symbols, first session and settings."""
        return self.symbols, self.first, self.settings_hash

    def shares(self, other: Trial) -> bool:
        """Whether both have an instrument and a day in common."""
        return overlaps(self.symbols, self.first, self.last, other.symbols, other.first, other.last)

    def goes_on(self, earlier: Trial) -> bool:
        """Whether this is the earlier configuration with newer bars: its first day moved on no further than its last.

        >>> one = Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)
        >>> replace(one, last="2019-01-31").goes_on(one), replace(one, first="2005-01-03").goes_on(one)
        (True, False)
        """
        same = (self.symbols, self.settings_hash) == (earlier.symbols, earlier.settings_hash)
        if self.first == earlier.first or not same:
            return same
        moved, grown = (
            date.fromisoformat(late) - date.fromisoformat(early)
            for late, early in ((self.first, earlier.first), (self.last, earlier.last))
        )
        return timedelta(0) < moved <= grown + SLACK and grown > timedelta(0)


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
    compounded = (1 + pl.col("net")).product() - 1
    return equity.group_by(session=session_date(pl.col("time")), maintain_order=True).agg(net=compounded)


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


def data_folder() -> Path:
    """Where trials and openings are kept."""
    root = os.environ.get("GATECAST_DATA")
    if root:
        return Path(root)
    from platformdirs import user_data_path

    return user_data_path("gatecast")


def ledger_path() -> Path:
    """The file of trials."""
    return data_folder() / "trials.jsonl"


def record_trial(trial: Trial, path: Path | None = None) -> list[Trial]:
    """Adds the trial unless it is known, and returns all trials that share its instruments and span, itself included.

    A folder that cannot be written is no reason to lose a run: the trial is then counted for this call only.

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
    known = read_trials(path)
    longest: dict[Any, str] = {}
    for one in known:
        longest[one.start] = max(one.last, longest.get(one.start, ""))
    fresh = [trial for trial in trials if trial.last > longest.get(trial.start, "")]
    try:
        for trial in trials:  # before the lines: one without its profit would stay without
            if trial.profit is not None and (trial in fresh or not _file(path, trial).exists()):
                write_whole(_file(path, trial), _bytes_of(trial.profit))
        append_lines(path, [_line(trial) for trial in fresh])
    except OSError:
        pass
    last = trials[-1]
    company = _once([trial for trial in (*known, *fresh) if trial.shares(last)])
    own = {trial: trial.profit for trial in trials if trial.profit is not None}
    return [replace(trial, profit=own[trial] if trial in own else _read_profit(path, trial)) for trial in company]


def read_trials(path: Path) -> list[Trial]:
    """All trials on file, without their profits; lines that a crash cut short are passed over."""
    trials = []
    for line in read_lines(path):
        try:
            trials.append(Trial(**line | {"symbols": tuple(line["symbols"])}))
        except (TypeError, KeyError):
            continue
    return trials


def _once(trials: Sequence[Trial]) -> list[Trial]:
    """Each configuration once, at its newest, however often its data grew or slid on."""
    found: dict[Any, list[Trial]] = {}
    for trial in sorted(trials, key=lambda one: one.last):
        same = found.setdefault((trial.symbols, trial.settings_hash), [])
        before = next((place for place, earlier in enumerate(same) if trial.goes_on(earlier)), len(same))
        same[before:] = [trial, *same[before + 1 :]]
    return [trial for same in found.values() for trial in same]


def _line(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in ("symbols", "first", "last", "settings_hash", "sharpe")}


def _file(path: Path, trial: Trial) -> Path:
    """Where a trial's profit is kept: one file a configuration and first day, whose newest bars replace the older."""
    key = json.dumps(trial.start).encode()
    return path.with_suffix("") / f"{hashlib.sha256(key).hexdigest()[:32]}.parquet"


def _bytes_of(profit: pl.DataFrame) -> bytes:
    import io

    buffer = io.BytesIO()
    profit.select(pl.col("session").cast(pl.Date), pl.col("net").cast(pl.Float32)).write_parquet(buffer)
    return buffer.getvalue()


def _read_profit(path: Path, trial: Trial) -> pl.DataFrame | None:
    """None where there is no file, or one that is no profit."""
    try:
        return pl.read_parquet(_file(path, trial), schema={"session": pl.Date, "net": pl.Float32}, glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; what is none, or was cut short, is passed over."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict):
            found.append(one)
    return found


def append_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Adds objects to a file, one a line, with a single write that is brought to the disk. Raises `OSError`.

    It begins with an empty line where a crash left half of one, so that nothing is joined to it.
    """
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        torn = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        text = "\n" * torn + "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
        if file.write(text.encode()) != len(text.encode()):
            raise OSError(f"{path} could be written in part only")
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ── what follows from them ────────────────────────────────────────────────────────────────────────


def profits(trials: Sequence[Trial], sessions: NDArray[np.datetime64]) -> FloatArray:
    """(sessions, trials) net profit of the trials whose profit is known; 0 on days that a trial did not cover."""
    days = pl.DataFrame({"session": pl.Series(sessions.astype("datetime64[D]"), dtype=pl.Date)})
    columns = [
        days.join(trial.profit, on="session", how="left", maintain_order="left")["net"].cast(pl.Float64).fill_null(0.0)
        for trial in trials
        if trial.profit is not None
    ]
    return np.column_stack([column.to_numpy() for column in columns]) if columns else np.zeros((len(days), 0))


def independent_trials(trials: Sequence[Trial], sessions: NDArray[np.datetime64]) -> float:
    """How many independent trials these are worth, by `effective_trials` of their profits.

    Trials whose profit is unknown or does not vary count one each, since nothing shows that they were alike.
    """
    table = profits(trials, sessions)
    unknown = len(trials) - table.shape[1]
    return float(unknown + (effective_trials(table) if table.shape[1] else 0.0))


def best_of_trials(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray
) -> significance.Test:
    """Does the best of the trials beat buy and hold at its own exposure, given that it is the best of them? One-sided.

    The test of superior predictive ability on each trial's profit beyond its beta times `benchmark`, the (sessions,)
    simple return of buy and hold. Undefined where no trial ever had a profit or loss.
    """
    table = profits(trials, sessions)
    table = table[:, np.ptp(table, axis=0) > 0] if len(table) else table[:, :0]
    if not table.shape[1]:
        return significance.Test(np.nan, np.nan, "no trial had a profit or loss", len(table), enough=False)
    centred = benchmark - benchmark.mean()
    if centred @ centred > 0:
        table = table - benchmark[:, None] * (centred @ table / (centred @ centred))
    draws = int(np.clip(BOOTSTRAP_CELLS / table.size, 200, 2000))
    return significance.spa(np.zeros(len(table)), -table, draws=draws)
