"""Asset classes: when a session closes, how many bars a year has, what trading costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any

import polars as pl

from gatecast.errors import BarsError, did_you_mean


@dataclass(frozen=True)
class AssetClass:
    """What all symbols of one kind have in common.

    `close_time` is the wall-clock end of the daily session in `timezone`; 00:00 means the midnight that
    ends the day. `periods_per_year` is the number of daily bars a year. `cost_bps` is commission and
    slippage together, in basis points of the value traded, per side. `borrow_bps_per_year` is paid on the
    value of a short position. Two bars further apart than `gap_limit` belong to different segments.
    `calendar` names the exchange whose sessions a live feed of the class is held to (`market.sessions`).
    `end_return` is the simple return that a holder is taken to have had where a symbol ends on unknown terms:
    -30 % for equities (Shumway 1997, Journal of Finance 52), -90 % for coins (an assumption), 0 for what cannot
    become worthless from one day to the next. Where each cost is kept apart, `commission_bps` and `half_spread_bps`
    are paid a side, beside the market's impact. `lendable`: whether a short can be assumed to be lent; `funded`:
    whether a purchase takes money, which that of a currency pair or a future does not.
    """

    name: str
    close_time: time
    timezone: str
    periods_per_year: int
    cost_bps: float
    borrow_bps_per_year: float
    gap_limit: timedelta
    end_return: float = 0.0
    pause: timedelta = timedelta(hours=15)
    calendar: str = "XNYS"
    commission_bps: float = 0.5
    half_spread_bps: float = 1.0
    lendable: bool = True
    funded: bool = True

    def close_of(self, session: pl.Expr) -> pl.Expr:
        """The closing moments (Datetime[us, UTC]) of session dates (a Date expression).

        >>> from datetime import date
        >>> pl.select(ASSET_CLASSES["equity"].close_of(pl.lit(date(2024, 7, 3)))).item().isoformat()
        '2024-07-03T20:00:00+00:00'
        >>> pl.select(ASSET_CLASSES["crypto"].close_of(pl.lit(date(2024, 7, 3)))).item().isoformat()
        '2024-07-04T00:00:00+00:00'
        """
        day = session.dt.offset_by("1d") if self.close_time == time() else session
        local = day.dt.combine(self.close_time, "us").dt.replace_time_zone(self.timezone)
        return local.dt.convert_time_zone("UTC")


def _five_pm(
    name: str, periods: int, cost_bps: float, borrow_bps_per_year: float, pause_hours: int = 1, calendar: str = "CMES",
    **more: Any,
) -> AssetClass:  # fmt: skip
    return AssetClass(
        name, time(17), "America/New_York", periods, cost_bps, borrow_bps_per_year, timedelta(days=10),
        pause=timedelta(hours=pause_hours), calendar=calendar, **more,
    )  # fmt: skip


def _four_pm(
    name: str, cost_bps: float, borrow_bps_per_year: float, end_return: float = 0.0, **more: Any
) -> AssetClass:  # fmt: skip
    return AssetClass(
        name, time(16), "America/New_York", 252, cost_bps, borrow_bps_per_year, timedelta(days=10), end_return, **more
    )


ASSET_CLASSES: dict[str, AssetClass] = {
    known.name: known
    for known in (
        _four_pm("index", cost_bps=2.0, borrow_bps_per_year=30.0),
        _four_pm("etf", cost_bps=2.0, borrow_bps_per_year=30.0),
        _four_pm("equity", cost_bps=5.0, borrow_bps_per_year=50.0, end_return=-0.3, half_spread_bps=3.0),
        _five_pm("future", 252, cost_bps=2.0, borrow_bps_per_year=0.0, commission_bps=0.2, funded=False),
        _five_pm("commodity", 252, cost_bps=3.0, borrow_bps_per_year=0.0, half_spread_bps=2.0),
        _five_pm("metal", 252, cost_bps=3.0, borrow_bps_per_year=50.0, half_spread_bps=2.0),
        _five_pm(
            "fx", 260, cost_bps=1.0, borrow_bps_per_year=0.0, pause_hours=0, calendar="24/5", commission_bps=0.2,
            half_spread_bps=0.6, funded=False,
        ),
        AssetClass(
            "crypto",
            time(),
            "UTC",
            365,
            10.0,
            500.0,
            timedelta(days=3),
            end_return=-0.9,
            pause=timedelta(),
            calendar="24/7",
            commission_bps=5.0,
            half_spread_bps=3.0,
            lendable=False,
        ),
    )
}  # fmt: skip
"""The classes by name. A short future or currency is the other side of a contract: nothing is borrowed."""
END_RETURN_OF_EXCHANGE = {"NASDAQ": -0.55}
"""Exchange -> `end_return` of an equity that was listed there: Shumway and Warther (1999), Journal of Finance 54."""


def asset_class(name: str) -> AssetClass:
    """The class of that name; a BarsError names the closest known one.

    >>> asset_class("crypto").periods_per_year
    365
    """
    try:
        return ASSET_CLASSES[name]
    except KeyError:
        raise BarsError(f"asset class {name!r} is unknown. {did_you_mean(name, ASSET_CLASSES)}") from None


CURRENCIES = {
    "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "NZD", "CAD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "TRY",
    "ZAR", "MXN", "BRL", "CLP", "COP", "CNY", "CNH", "HKD", "SGD", "KRW", "INR", "THB", "IDR", "MYR", "PHP", "TWD",
    "ILS", "RUB", "SAR", "AED",
}  # fmt: skip
COINS = {
    "BTC", "XBT", "ETH", "XRP", "LTC", "BCH", "ADA", "SOL", "DOGE", "DOT", "AVAX", "MATIC", "LINK", "BNB", "XMR",
    "XLM", "TRX", "EOS", "ATOM", "UNI", "SHIB", "ETC", "NEAR", "ALGO", "FIL", "AAVE", "ICP", "APT", "ARB", "OP", "SUI",
    "TON", "PEPE",
}  # fmt: skip
STABLE = {"USDT", "USDC", "BUSD", "TUSD", "DAI", "FDUSD"}
METALS = {"XAU", "XAG", "XPT", "XPD"}
ALSO_FITS = {"future": {"commodity", "metal", "index"}, "metal": {"commodity", "future"}, "crypto": {"future"}}
"""Other classes that a name of this look may rightly have."""


def class_by_name(symbol: str) -> str | None:
    """The asset class that a symbol's name looks like, None where it looks like no class in particular.

    A guess for a warning, never for a decision.

    >>> [class_by_name(name) for name in ("BTC-USD", "ETH/EUR", "EURUSD", "USDJPY=X", "CL=F", "^GSPC", "XAUUSD", "KO")]
    ['crypto', 'crypto', 'fx', 'fx', 'future', 'index', 'metal', None]
    """
    name = symbol.strip().upper()
    if name.startswith("^"):
        return "index"
    if name.endswith("=F"):
        return "future"
    yahoo_fx = name.endswith("=X")
    name = re.sub(r"^[A-Z]+:|=X$|\.(FOREX|CC|FX|P)$|[-_]?PERP$|[-_]SWAP$", "", name)
    if yahoo_fx and name in CURRENCIES:  # JPY=X is dollars in yen
        return "fx"
    pair = re.fullmatch(r"([A-Z0-9]{2,10})[-/_.]([A-Z]{3,5})", name)
    splits = [(pair[1], pair[2])] if pair else [(name[:-size], name[-size:]) for size in (3, 4, 5) if len(name) > size]
    money = CURRENCIES | STABLE | {"BTC", "ETH"}
    for base, quote in splits:
        if quote not in money:
            continue
        if base in METALS:
            return "metal"
        if base in CURRENCIES and quote in CURRENCIES:
            return "fx"
        if base in COINS or (quote in STABLE and len(base) >= 2) or (pair and quote == "USD" and "." not in symbol):
            return "crypto"
    return "fx" if yahoo_fx else "crypto" if name in COINS - {"OP", "TON", "LINK", "DOT", "UNI", "NEAR"} else None


MINOR = {
    "GBX": ("GBP", 0.01), "GBp": ("GBP", 0.01), "ZAc": ("ZAR", 0.01), "ZAX": ("ZAR", 0.01), "ILA": ("ILS", 0.01),
}  # fmt: skip
"""Hundredths of currencies in which exchanges quote: name -> the currency, and the share of one that it is."""


def currencies_of(symbol: str) -> tuple[str, str] | None:
    """The two currencies of a pair by its name, the second that of its price; None for another name.

    >>> currencies_of("EURUSD"), currencies_of("FX:GBP/JPY"), currencies_of("JPY=X"), currencies_of("SPY")
    (('EUR', 'USD'), ('GBP', 'JPY'), ('USD', 'JPY'), None)
    """
    name = re.sub(r"^[A-Z]+:|\.(FOREX|FX)$|[-_/. ]", "", symbol.upper())
    yahoo = name.removesuffix("=X")
    pair = ("USD", yahoo) if len(yahoo) == 3 and yahoo != name else (yahoo[:3], yahoo[3:])
    return pair if CURRENCIES.issuperset(pair) else None


CURRENCY = "^([A-Za-z]{3}|[A-Z][A-Z0-9]{2,9})$"
"""What a currency of prices is written like: EUR, GBp, USDT."""


def rate_pair(symbol: str, asset_class: str, currency: str) -> str | None:
    """The pair of currencies whose rate the price of a symbol is, without marks between them; None for another symbol.

    `currency`: of its price. The price of a coin is a rate as well.

    >>> rate_pair("EUR/USD", "fx", "USD"), rate_pair("USDT-USD", "crypto", "USD"), rate_pair("USDT", "equity", "USD")
    ('EURUSD', 'USDTUSD', None)
    """
    if asset_class == "fx":
        pair = currencies_of(symbol)
        return "".join(pair) if pair else None
    name = re.sub(r"^[A-Z]+:|[-_/. ]", "", symbol.upper())
    return name if asset_class == "crypto" and name.endswith(currency) and len(name) >= len(currency) + 3 else None


def looks_like_another(symbol: str, name: str) -> str | None:
    """The class that a symbol of the class `name` looks like, where the two do not go together; else None.

    >>> looks_like_another("BTC-USD", "equity"), looks_like_another("SI=F", "metal")
    ('crypto', None)
    """
    guess = class_by_name(symbol)
    return None if guess is None or name == guess or name in ALSO_FITS.get(guess, ()) else guess
