"""What has been tried on the same instruments over an overlapping span: counted by the program, not confessed.

`trials.jsonl` in the user's data folder (or `$GATECAST_DATA`) has one line a trial, `trials/` beside it the daily net
profit of each. The same settings again, with newer bars, on a window that slid on or under another name are no new
trial. All of it is outside every run: deleting a run forgets no trial.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from gatecast.evaluation.compare import per_session
from gatecast.market.bars import session_date
from gatecast.metrics import significance
from gatecast.metrics.overfitting import effective_trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Record = TypeVar("Record")
SLACK = timedelta(days=7)  # by which the first session of a sliding window may move on more than the last one
DRAWS = 500  # of the bootstrap of a test over all trials
BOOTSTRAP_CELLS = 2e7  # rows x trials x draws that it may take: one or two seconds


@dataclass(frozen=True)
class Trial:
    """One configuration on one data set: symbols, first and last session (ISO), hash of the settings, daily Sharpe.

    `profit` has `session` (Date) and `net` (Float32), the net profit of each day as a fraction; None where it is not
    known: a trial of an older version, or one that never saw what it is judged on. `nested`: a candidate of a search
    inside a training slice, which saw no row that is judged: it counts where tries are counted, and was not chosen by
    its luck on what is tested.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    settings_hash: str
    sharpe: float | None
    profit: pl.DataFrame | None = field(default=None, compare=False, repr=False)
    nested: bool = False

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
    if not trials:
        return []
    known = read_trials(path)
    newest = {trial.start: trial for trial in sorted(known, key=lambda one: one.last)}
    fresh = [
        trial for trial in trials
        if (old := newest.get(trial.start)) is None or (trial.last >= old.last and trial != old)
    ]  # fmt: skip
    try:
        for trial in trials:  # before the lines: one without its profit would stay without
            if trial.profit is not None and (trial in fresh or not _file(path, trial).exists()):
                write_whole(_file(path, trial), _bytes_of(trial.profit))
        append_lines(path, [_line(trial) for trial in fresh])
    except OSError:
        pass
    last = trials[-1]
    company = configurations([trial for trial in (*known, *fresh) if trial.shares(last)])
    own = {trial: trial.profit for trial in trials if trial.profit is not None}
    return [replace(trial, profit=own[trial] if trial in own else _read_profit(path, trial)) for trial in company]


def read_trials(path: Path) -> list[Trial]:
    """All trials on file, without their profits; lines that are none are passed over."""
    return read_records(path, _trial_of)


def _trial_of(line: dict[str, Any]) -> Trial:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is no trial."""
    sharpe = line["sharpe"]
    if sharpe is not None and not math.isfinite(sharpe):
        raise ValueError("no Sharpe ratio")
    return Trial(
        symbols_in(line), day_in(line, "first"), day_in(line, "last"), str(line["settings_hash"]), sharpe,
        nested=line.get("nested") is True,
    )  # fmt: skip


def configurations(trials: Sequence[Trial]) -> list[Trial]:
    """Each configuration once, at its newest, however often its data grew or slid on."""
    found: dict[Any, list[Trial]] = {}
    for trial in sorted(trials, key=lambda one: one.last):
        same = found.setdefault((trial.symbols, trial.settings_hash), [])
        before = next((place for place, earlier in enumerate(same) if trial.goes_on(earlier)), len(same))
        same[before:] = [trial, *same[before + 1 :]]
    return [trial for same in found.values() for trial in same]


def _line(trial: Trial) -> dict[str, Any]:
    line = {name: getattr(trial, name) for name in ("symbols", "first", "last", "settings_hash", "sharpe")}
    return line | ({"nested": True} if trial.nested else {})


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
        kept = pl.read_parquet(_file(path, trial), schema={"session": pl.Date, "net": pl.Float32}, glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return kept.drop_nans().drop_nulls().unique("session", keep="last", maintain_order=True)


def read_records(path: Path, make: Callable[[dict[str, Any]], Record]) -> list[Record]:
    """What `make` makes of a file's JSON objects, one a line; what is none, or was cut short, is passed over.

    `make` raises `KeyError`, `TypeError` or `ValueError` for an object that it cannot use.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            found.append(make(json.loads(line)))
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
    return found


def symbols_in(line: dict[str, Any]) -> tuple[str, ...]:
    """The symbols of a record. Raises as `read_records` wants it."""
    if not isinstance(line["symbols"], list):
        raise TypeError("symbols are a list")
    return tuple(map(str, line["symbols"]))


def day_in(line: dict[str, Any], name: str) -> str:
    """A date of a record, ISO. Raises as `read_records` wants it."""
    return date.fromisoformat(line[name]).isoformat()


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

    The test of superior predictive ability on each trial's profit beyond its beta times `benchmark`, the (sessions,)
    simple return of buy and hold; where trials are many, on sums over several days. Undefined where no trial ever had
    a profit or loss of its own.
    """
    table = profits(trials, sessions, benchmark)
    table = table[:, np.ptp(table, axis=0) > 0] if len(table) else table[:, :0]
    if not table.shape[1]:
        return significance.Test(np.nan, np.nan, "no trial had a profit or loss of its own", len(table), enough=False)
    together = min(int(np.ceil(table.size * DRAWS / BOOTSTRAP_CELLS)), max(1, len(table) // 60))
    table = np.add.reduceat(table[len(table) % together :], np.arange(0, len(table) // together * together, together))
    return significance.spa(np.zeros(len(table)), -table, draws=DRAWS)
