"""Symbols' histories from a vendor into a store: asked for politely, kept as they come, stored all together."""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import BarsError, GatecastError, PluginError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path, write_whole
from gatecast.live.update import Updated, update
from gatecast.live.watch import OVERLAP
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.reading import as_day, as_utc
from gatecast.market.tables import read_tables
from gatecast.market.vendors import VENDORS, fetched, vendor_of
from gatecast.store.store import ABOUT, Store

USUAL_VENDOR = "yfinance"
SINCE = date(2000, 1, 1)
"""First session that is asked for where none is given."""
PAUSE_SECONDS = 1.0
"""Between two questions to a vendor."""
TRIES = 3
"""Questions for one symbol that gets no answer, each after twice the pause of the one before."""
STALE = timedelta(hours=12)
"""How long an answer is kept for a command that goes on."""


@dataclass(frozen=True)
class Fetched:
    """What came of each symbol, and of storing it.

    `symbols`: symbol -> `rows`, `first`, `last` (session), and `kept`, whether an earlier command that was interrupted
    had it already. `missing`: symbol -> why it has no bars. `updated`: see `update`; None where nothing came.
    """

    vendor: str
    symbols: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]
    updated: Updated | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "vendor": self.vendor, "symbols": {name: dict(one) for name, one in self.symbols.items()},
            "missing": dict(self.missing), "updated": self.updated.to_dict() if self.updated else None,
        }  # fmt: skip


@checked
def fetch(
    symbols: Sequence[str],
    store: str | Path,
    *,
    vendor: str = USUAL_VENDOR,
    since: str | date | None = None,
    now: datetime | None = None,
    pause_seconds: float = PAUSE_SECONDS,
    experiment: Experiment | None = None,
    machine: Machine = ONE_CORE,
    progress: Progress | bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Fetched:
    """Asks a vendor for symbols one after the other and stores what came, as `update` does.

    Parameters
    ----------
    symbols: names as the vendor has them. vendor: "yfinance", "ccxt:kraken", or one of your own, see docs/plugins.md.
    since: first session of symbols that the store does not have (None: 2000-01-01); of the others the last 30 days that
        are stored and what came since are asked for.
    pause_seconds: between two questions; a symbol without an answer is asked for again after twice, then four times it.
    now, experiment, machine, options: see `update`. progress: as in `gatecast.run`.

    Each answer is kept in a folder beside the store until all are stored, so that a command that was interrupted goes
    on where it stopped. A symbol without bars is named in `missing`, and the others are stored.

    Raises `BarsError` where no symbol has bars or they do not fit the store, `PluginError` where the vendor's package
    is not installed, `StoreError` where answers cannot be kept.
    """
    names = list(dict.fromkeys(name.strip() for name in symbols if name.strip()))
    if not names:
        raise SettingsError("no symbol is named: give one or more, such as SPY TLT.")
    if not 0 <= pause_seconds <= 3600:
        raise SettingsError(f"pause_seconds = {pause_seconds}: expected 0 to 3600.")
    source = f"{vendor}:" if vendor in VENDORS else vendor
    if vendor_of(source) is None:
        raise BarsError(f"{vendor!r} is no vendor: expected one of {', '.join(sorted(VENDORS))}, such as ccxt:kraken.")
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    first = SINCE if since is None else as_day(_whole_day(since), "since")
    place = full_path(store)
    begins = _begins(place, names, first, moment)
    kept = place.with_name(f"{place.name}.fetched")
    found, missing, asked = dict[str, tuple[pl.DataFrame, bool]](), dict[str, str](), 0
    with shown(progress) as told:
        for number, name in enumerate(names):
            file = kept / f"{_key(source, name, begins[name])}.parquet"
            table = _kept(file)
            was_kept = table is not None
            if table is None:
                if asked:
                    time.sleep(pause_seconds)
                asked += 1
                table = _asked(source, name, begins[name], pause_seconds, missing)
                if table is not None:
                    _keep(file, table)
            if table is not None:
                found[name] = (table, was_kept)
            if told:
                told(f"fetching from {vendor}", number + 1, len(names))
    if not found:
        why = "; ".join(f"{name}: {one}" for name, one in list(missing.items())[:5])
        raise BarsError(f"{vendor} gave no bars of any symbol ({why}). Check the names, or try later.")
    bars = pl.concat([table for table, _ in found.values()], how="diagonal_relaxed")
    done = update(place, bars, now=moment, experiment=experiment, machine=machine, **dict(options or {}))
    shutil.rmtree(kept, ignore_errors=True)
    said = {name: {**_span(table), "kept": was} for name, (table, was) in found.items()}
    return Fetched(vendor, said, missing, done)


def _whole_day(since: str | date) -> str | date:
    """A day; of a year or a month alone the first one."""
    if isinstance(since, str) and since.replace("-", "").isdecimal():
        return {4: f"{since}-01-01", 7: f"{since}-01"}.get(len(since), since)
    return since


def _begins(place: Path, names: Sequence[str], first: date, now: datetime) -> dict[str, date]:
    """Symbol -> the first session that is asked for."""
    last = dict[str, datetime]()
    if (place / ABOUT).exists():
        bars = Store.open(place).bars.as_of(now)
        last = dict(bars.group_by("symbol").agg(pl.col("time").max()).iter_rows())
    return {name: (last[name] - OVERLAP).date() if name in last else first for name in names}


def _key(source: str, name: str, begin: date) -> str:
    return hashlib.sha256(f"{source}\0{name}\0{begin}".encode()).hexdigest()[:32]


def _kept(file: Path) -> pl.DataFrame | None:
    """The answer that a file holds, unless it is old or cannot be read."""
    try:
        if time.time() - file.stat().st_mtime > STALE.total_seconds():
            return None
        (table,) = read_tables(file)
    except (OSError, BarsError):
        return None
    return table.frame


def _keep(file: Path, table: pl.DataFrame) -> None:
    content = io.BytesIO()
    table.write_parquet(content)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        write_whole(file, content.getvalue())
    except OSError as error:
        raise StoreError(
            f"{file.parent} cannot be written: {error.strerror or error}. Nothing was stored; make room, or give "
            "another folder."
        ) from None


def _asked(source: str, name: str, begin: date, pause: float, missing: dict[str, str]) -> pl.DataFrame | None:
    """The bars of one symbol; None where there is no answer, and why is then in `missing`."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2**attempt)
        try:
            answer = fetched(source, [name], begin, None)
        except PluginError:
            raise
        except GatecastError as error:
            missing[name] = str(error)
            continue
        table: pl.DataFrame = nw.from_native(answer, eager_only=True).to_polars()
        if len(table):
            missing.pop(name, None)
            return table
        missing[name] = "no bars"
        return None
    return None


def _span(table: pl.DataFrame) -> dict[str, Any]:
    """Rows, and the first and last session or opening, of an answer."""
    column = next((name for name in ("date", "time", "open_time", "day") if name in table.columns), None)
    ends = (None, None) if column is None else (table[column].min(), table[column].max())
    return {"rows": len(table), "first": str(ends[0])[:10], "last": str(ends[1])[:10]}
