"""How vendors spell the columns of bars."""

from __future__ import annotations

import re

SPELLINGS: dict[str, tuple[str, ...]] = {
    "time": (
        "time", "datetime", "timestamp", "date_time", "date", "ts", "trade_date", "trading_date", "gmt_time",
        "local_time", "utc_time", "time_utc", "unix", "unix_timestamp", "epoch", "t", "dt", "day",
    ),
    "open_time": ("open_time", "opentime", "start_time", "bar_start"),
    "close_time": ("close_time", "closetime", "end_time", "bar_end"),
    "symbol": ("symbol", "ticker", "sym", "instrument", "tic", "ric", "name", "asset", "code", "security"),
    "asset_class": ("asset_class", "assetclass"),
    "open": ("open", "o", "open_price", "price_open", "px_open", "opening_price", "first"),
    "high": ("high", "h", "high_price", "price_high", "px_high", "max"),
    "low": ("low", "l", "low_price", "price_low", "px_low", "min"),
    "close": (
        "close", "c", "close_price", "price_close", "px_last", "closing_price", "close_last", "last",
        "settle", "settlement", "price",
    ),
    "adjusted_close": ("adjusted_close", "adj_close", "adjclose", "close_adj", "close_adjusted"),
    "volume": ("volume", "v", "vol", "total_volume", "trade_volume", "tick_volume", "tickvol"),
    "known_at": ("known_at", "knowledge_time", "available_at"),
    "segment": ("segment",),
    "traded": ("traded", "is_trading", "is_traded", "trading", "tradestatus", "trade_status"),
    "suspended": ("suspended", "is_suspended", "halted", "is_halted", "paused"),
    "delisting": ("delisting", "delisting_return", "dlret"),
}  # fmt: skip
"""Column names, lower-case with underscores, by what they are; earlier spellings win."""


def snake(name: str) -> str:
    """Lower case, underscores, no number in front.

    >>> [snake(name) for name in ("Adj Close", "<OPEN>", "1. open")]
    ['adj_close', 'open', 'open']
    """
    return re.sub(r"^\d+_", "", re.sub(r"[^0-9a-z]+", "_", name.strip().lower()).strip("_"))
