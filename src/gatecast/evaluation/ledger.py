"""The ledger of trials: one line a configuration on disk, and those on the same market and an overlapping span.

`trials.jsonl` in the user's data folder (or `$GATECAST_DATA`) has one line a trial (`trial`), `trials/` beside it the
daily net profit of each, `markets/` the returns, `trials.count` how many lines were written. All of it is outside every
run: deleting a run forgets no trial. What is judged inside `unrecorded` leaves no line. A ledger that cannot be read or
written stops no run; what was missed is said, see `on_file.problems`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.compute.notices import reason
from gatecast.evaluation.on_file import (
    append_records,
    data_folder,
    day_in,
    keep_count,
    lines_written,
    read_records,
    say,
    say_unread,
    symbols_in,
    text_in,
)
from gatecast.evaluation.trial import MARKET_DIGITS, Data, Market, Trial, configurations, market_of_answers, same_data
from gatecast.files import read, sha256_of, sweep, write_whole
from gatecast.formats import refuse_environment
from gatecast.market.bars import session_date
from gatecast.metrics.returns import per_session

if TYPE_CHECKING:
    from gatecast.samples.windows import Samples


MAX_TABLE_BYTES = 2**28  # of a market's returns or a trial's profit
PROFIT_COLUMNS: dict[str, type[pl.DataType]] = {"session": pl.Date, "net": pl.Float32}
RUN_AGAIN = "Restore it from a copy, or make that run again, which writes it anew."
CHANGED = "it is not what this program wrote: damaged or changed"
TOO_SMALL = "earlier trials may be missing, so that the correction for trials may be too small"


def trials_are_missing(sentences: Iterable[str]) -> bool:
    """Whether one of the sentences of `problems` says that earlier trials could not be read.

    >>> trials_are_missing(["nothing of that"]), trials_are_missing([f"half a line: {TOO_SMALL}. Mend it."])
    (False, True)
    """
    return any(TOO_SMALL in one for one in sentences)


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
        say(
            f"{path} cannot be written ({reason(lines[-1])}): this trial is not on file, so that later runs count "
            f"too few. {advice}"
        )
    elif files:
        say(
            f"{_those(files, path.parent)} cannot be written ({reason(files[0][1])}): later runs may not tell on which "
            f"market this trial was, or how alike it was to others. {advice}"
        )


def _begin(path: Path) -> None:
    """The empty file where there is none. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and lines_written(path) is None:
        keep_count(path, 0)  # so that an empty file was begun, and not emptied
    path.touch()


def _those(files: Sequence[tuple[Path, object]], folder: Path) -> str:
    """One file by its name, several by their number and the first."""
    return str(files[0][0]) if len(files) == 1 else f"{len(files)} files in {folder} (the first is {files[0][0]})"


def read_trials(path: Path) -> list[Trial]:
    """All trials on file, without their profits; lines that are none are passed over, and `problems` has them."""
    found = os.path.exists(path)  # that of pathlib raises where a folder may not be searched
    if not found or (lines_written(path) is None and path.stat().st_size == 0):
        beside = [f"{name}/" for name in ("markets", path.stem) if _has_files(path.with_name(name))]
        if beside:
            how, names = "empty" if found else "missing", " and ".join(beside)
            say(f"{path} is {how}, while {names} beside it hold earlier trials: {TOO_SMALL}.")
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
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # polars panics over some damaged files
        refuse_environment(str(error))
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
        say_unread(_those(unread, path.with_name("markets")), unread[0][1], follows, RUN_AGAIN)
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
        say_unread(_those(unread, path.with_suffix("")), unread[0][1], follows, RUN_AGAIN)
    return found
