"""Two vendors whose packages are optional: Yahoo's prices by yfinance, those of crypto exchanges by ccxt.

`source = "yfinance:1d"` and `source = "ccxt:kraken/1d"` ask for the bars of the `symbols` that are given; the length of
a bar may be left out (1d). Only what is public is asked for: no key is read, sent or kept. Rows come as the vendor has
them now, today's unfinished bar and adjusted history included: reading leaves out what has not closed, and `merging`
tells a history that was re-based.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from gatecast.errors import BarsError, did_you_mean
from gatecast.libraries import require
from gatecast.market.vendors import VENDORS, Vendor

OLDEST = date(2010, 1, 1)
"""First session that an exchange is asked for where none is given."""
MOST_PAGES = 10_000
"""Answers that are asked for of one symbol, one after the other."""
PATIENCE_SECONDS = 20
PRICES = ("open", "high", "low", "close")


@VENDORS.add
class YFinance(Vendor):
    """Bars of Yahoo, adjusted for splits and not for dividends, as yfinance fetches them."""

    kind = "yfinance"

    def fetch(self, request: str, *, symbols: Sequence[str] | None, start: date | None, end: date | None) -> Any:
        """`request`: the length of a bar, see `Vendor.fetch`."""
        package, length = require(self.kind, f"the vendor {self.kind!r}", has="Ticker"), request or "1d"
        if not re.fullmatch(r"\d{1,2}(m|h|d|wk|mo)", length):
            raise BarsError(f"{request!r} is no length of a bar: expected one such as 1d or 1h.")
        logging.getLogger(self.kind).setLevel(logging.CRITICAL)  # it tells of each failure with the whole address
        last = None if end is None else end + timedelta(days=1)
        frames, failed = [], dict[str, str]()
        for symbol in _named(symbols, self.kind):
            given: dict[str, Any] = {"start": start, "end": last} if start or end else {"period": "max"}
            try:
                with warnings.catch_warnings(action="ignore"):
                    table = package.Ticker(symbol).history(
                        interval=length, auto_adjust=False, actions=False, timeout=PATIENCE_SECONDS, raise_errors=True,
                        **given,
                    )  # fmt: skip
            except Exception as error:  # of whatever it is built on
                failed[symbol] = type(error).__name__
                continue
            if len(table):
                frames.append(_of_yahoo(symbol, table, length))
        return _joined(frames, failed, self.kind)


def _of_yahoo(symbol: str, table: Any, length: str) -> pl.DataFrame:
    """A table of yfinance, by the time at which a bar opened in the exchange's zone."""
    days = length.endswith(("d", "wk", "mo"))
    moments = [moment.date() if days else moment.to_pydatetime().astimezone(UTC) for moment in table.index]
    columns = {name: table[name.capitalize()].to_numpy(dtype=float, na_value=float("nan")) for name in PRICES}
    volume = table["Volume"].to_numpy(dtype=float, na_value=float("nan"))
    return pl.DataFrame({"symbol": symbol, "date" if days else "open_time": moments, **columns, "volume": volume})


@VENDORS.add
class CCXT(Vendor):
    """Bars of an exchange of crypto currencies, as ccxt fetches them; symbols such as BTC/USDT."""

    kind = "ccxt"

    def fetch(self, request: str, *, symbols: Sequence[str] | None, start: date | None, end: date | None) -> Any:
        """`request`: the exchange and the length of a bar, such as kraken/1d, see `Vendor.fetch`."""
        package = require(self.kind, f"the vendor {self.kind!r}", has="exchanges")
        name, _, length = request.partition("/")
        if name not in package.exchanges:
            advice = did_you_mean(name, package.exchanges) if name else "Give one, such as ccxt:kraken."
            raise BarsError(f"{name!r} is no exchange that ccxt knows. {advice}")
        exchange = getattr(package, name)({"enableRateLimit": True, "timeout": PATIENCE_SECONDS * 1000})
        length = length or "1d"
        if length not in (exchange.timeframes or {}):
            raise BarsError(f"{name} has no bars of {length!r}. {did_you_mean(length, exchange.timeframes or {})}")
        frames, failed = [], dict[str, str]()
        for symbol in _named(symbols, self.kind):
            try:
                rows = list(_pages(exchange, symbol, length, start or OLDEST))
            except package.BaseError as error:
                failed[symbol] = type(error).__name__
                continue
            if rows:
                frames.append(_of_exchange(symbol, rows, end))
        return _joined(frames, failed, self.kind)


def _pages(exchange: Any, symbol: str, length: str, start: date) -> Iterator[list[Any]]:
    """Rows of a symbol from a day on, each once: milliseconds at which the bar opened, prices, volume."""
    since = int(datetime.combine(start, time(), UTC).timestamp() * 1000)
    for _ in range(MOST_PAGES):
        page = [row for row in exchange.fetch_ohlcv(symbol, length, since) or () if row[0] >= since]
        yield from page
        if not page:
            return
        since = int(page[-1][0]) + 1


def _of_exchange(symbol: str, rows: Sequence[Sequence[Any]], end: date | None) -> pl.DataFrame:
    schema = {"open_time": pl.Int64, **dict.fromkeys((*PRICES, "volume"), pl.Float64)}
    table = pl.DataFrame([list(row[:6]) for row in rows], schema, orient="row", strict=False)
    opened = pl.from_epoch("open_time", "ms").dt.replace_time_zone("UTC")
    table = table.with_columns(opened).select(
        pl.lit(symbol).alias("symbol"), pl.lit("crypto").alias("asset_class"), *schema
    )  # fmt: skip
    return table if end is None else table.filter(pl.col("open_time").dt.date() <= end)


def _named(symbols: Sequence[str] | None, kind: str) -> Sequence[str]:
    if not symbols:
        raise BarsError(f"{kind} is asked for symbols by name: give symbols=['...'].")
    return symbols


def _joined(frames: Sequence[pl.DataFrame], failed: dict[str, str], kind: str) -> pl.DataFrame:
    """The bars of all symbols; a symbol without any is missing. Raises `BarsError` where no symbol has one."""
    if not frames:
        why = ", ".join(f"{symbol!r}: {error}" for symbol, error in list(failed.items())[:10])
        raise BarsError(f"{kind} has no bar of any symbol{f' ({why})' if why else ''}: check the names, or try later.")
    return pl.concat(frames)
