"""What is fixed about the symbols of a book: what a unit of each is worth, and what trading and holding it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError, did_you_mean
from gatecast.market.classes import END_RETURN_OF_EXCHANGE, asset_class, class_by_name, currencies_of, rate_pair
from gatecast.market.given import conversion_of
from gatecast.trading.costs import BASIS_POINT, MoneySettings

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WITH_VOLUME = ("equity", "etf")
"""Classes of which a symbol without a known volume counts as small: no short is assumed to be lent."""
CONTRACTS: dict[str, type[pl.DataType]] = {
    "symbol": pl.String, "multiplier": pl.Float64, "tick": pl.Float64, "currency": pl.String, "margin": pl.Float64,
    "last_trade": pl.Date,
}  # fmt: skip
"""Columns of a table of contracts; `last_trade` is empty for a series of several contracts, and for perpetual ones,
which have a further column `funding_hours`."""
ROLLS: dict[str, type[pl.DataType]] = {"symbol": pl.String, "date": pl.Date, "gap": pl.Float64}
"""Columns of a table of rolls: the first session of the new contract, and its close of the session before minus the old
one's; 0 in a series that was adjusted by differences."""


@dataclass(frozen=True)
class Instruments:
    """What is fixed about the symbols of a book, each (symbols,); made by `Instruments.of`.

    Attributes
    ----------
    currency: of the prices; home: whether it is that of the book.
    multiplier: money that one unit gains when the price rises by 1.
    tick: least step of the price, 0 where there is none. margin: money a lot, 0 where there is none.
    lot: least units that can be traded, 0 for any fraction.
    funded: whether a purchase takes money. pair: whether it is a currency pair, which earns a carry.
    intervals: of funding a day, 0 for what has none.
    lendable, has_volume: whether shorts can be assumed to be lent, and whether its class has volumes.
    commission, half_spread: shares of the value traded. borrow: a fraction a year.
    end_return: of a long holding, where the symbol ends on unknown terms.
    """

    symbols: tuple[str, ...]
    currency: tuple[str, ...]
    home: BoolArray
    multiplier: FloatArray
    tick: FloatArray
    margin: FloatArray
    lot: FloatArray
    funded: BoolArray
    pair: BoolArray
    intervals: FloatArray
    lendable: BoolArray
    has_volume: BoolArray
    commission: FloatArray
    half_spread: FloatArray
    borrow: FloatArray
    end_return: FloatArray

    @classmethod
    def of(
        cls,
        classes: Mapping[str, str],
        settings: MoneySettings,
        *,
        contracts: pl.DataFrame | None = None,
        rolls: pl.DataFrame | None = None,
        currencies: Mapping[str, str] | None = None,
        exchanges: Mapping[str, str] | None = None,
        lots: Mapping[str, float] | None = None,
        last_bars: Mapping[str, date] | None = None,
    ) -> Instruments:
        """Symbols and their classes -> what is fixed about each, in the order of `classes`.

        Parameters
        ----------
        contracts: columns of `CONTRACTS`, of futures and perpetual contracts. rolls: columns of `ROLLS`.
        currencies: symbol -> currency of its prices; left out: the second one of a pair's name, else that of the book.
        exchanges: symbol -> exchange, for what a holder loses at an end on unknown terms.
        lots: symbol -> least units that can be traded; left out: 1, and any fraction of a coin.
        last_bars: symbol -> session of its last bar, so that a splice of contracts is seen.

        Raises `BarsError` for a future without a contract, a splice of contracts without dates of rolls, a table
        without its columns, and a multiplier out of range.

        >>> Instruments.of({"ES=F": "future"}, MoneySettings())
        Traceback (most recent call last):
            ...
        gatecast.errors.BarsError: 'ES=F' is a future: its money needs a row in the table of contracts (symbol, \
multiplier, tick, currency, margin, last_trade). Give the row, or leave the symbol out of the book; forecasts do \
without it.
        """
        contract = {row["symbol"]: row for row in rows_of(contracts, CONTRACTS, "contracts")}
        rolled = {row["symbol"] for row in rows_of(rolls, ROLLS, "rolls")}
        rows = []
        for symbol, name in classes.items():
            known, own = asset_class(name), contract.get(symbol)
            _refuse_unknown_terms(symbol, name, own, symbol in rolled, (last_bars or {}).get(symbol))
            funded, told = known.funded and own is None, own or {}
            hours = told.get("funding_hours")
            end = END_RETURN_OF_EXCHANGE.get((exchanges or {}).get(symbol, "")) if name == "equity" else None
            pair = currencies_of(symbol) if name == "fx" else None
            usual = pair[1] if pair else settings.currency
            currency = told.get("currency") or (currencies or {}).get(symbol, usual)
            rows.append({
                "currency": currency, "home": currency == settings.currency,
                "multiplier": told.get("multiplier", 1.0), "tick": told.get("tick") or 0.0,
                "margin": told.get("margin") or 0.0, "funded": funded, "pair": name == "fx" and own is None,
                "lot": (lots or {}).get(symbol, 0.0 if name == "crypto" and funded else 1.0),
                "intervals": 24 / hours if hours else 0.0, "lendable": known.lendable or not funded,
                "has_volume": name in WITH_VOLUME, "end_return": known.end_return if end is None else end,
                "commission": _bps(settings.commission_bps, known.commission_bps),
                "half_spread": _bps(settings.half_spread_bps, known.half_spread_bps),
                "borrow": _bps(settings.borrow_bps_per_year, known.borrow_bps_per_year) if funded else 0.0,
            })  # fmt: skip
        kinds = {one.name: bool if one.type == "BoolArray" else float for one in fields(cls)}
        names = [name for name in kinds if name not in ("symbols", "currency")]
        arrays: dict[str, Any] = {name: np.array([row[name] for row in rows], kinds[name]) for name in names}
        return cls(symbols=tuple(classes), currency=tuple(row["currency"] for row in rows), **arrays)

    def rate_pairs(self, classes: Sequence[str]) -> dict[str, int]:
        """Pair of currencies -> the place of the symbol whose price is its rate; `classes`: of the symbols."""
        rows = zip(self.symbols, classes, self.currency, self.pair, self.funded, strict=True)
        found = [
            (rate_pair(symbol, name, currency), place)
            for place, (symbol, name, currency, pair, funded) in enumerate(rows) if pair or funded
        ]  # fmt: skip
        return {name: place for name, place in reversed(found) if name is not None}

    def converters(self, classes: Sequence[str], book: str) -> NDArray[np.int64]:
        """(symbols,) the place of the symbol whose price values each in money of the book, -1 where none is needed.

        Raises `BarsError` for a currency without a pair with that of the book.
        """
        pairs = self.rate_pairs(classes)
        names = [conversion_of(currency, book, pairs)[0] for currency in self.currency]
        return np.array([-1 if name is None else pairs[name] for name in names], np.int64)

    @cached_property
    def places(self) -> dict[str, int]:
        """Symbol -> its place in all arrays."""
        return {symbol: place for place, symbol in enumerate(self.symbols)}

    def place(self, symbol: str) -> int:
        """The place of a symbol; `BarsError` for one that the book does not have."""
        try:
            return self.places[symbol]
        except KeyError:
            known = did_you_mean(symbol, self.symbols)
            raise BarsError(f"the book has no symbol {symbol!r}. {known}") from None

    def lot_values(self, price: FloatArray, rate: FloatArray | float = 1.0) -> FloatArray:
        """(symbols,) the value of one lot in the currency of the book; 0 where any fraction can be traded."""
        return self.lot * self.multiplier * price * rate

    def without_default_ends(self) -> Instruments:
        """The same with nothing lost where a symbol ends on unknown terms."""
        return replace(self, end_return=np.zeros(len(self.symbols)))


def _bps(own: float | None, of_class: float) -> float:
    return (of_class if own is None else own) * BASIS_POINT


def rows_of(table: pl.DataFrame | None, columns: Mapping[str, Any], holds: str) -> list[dict[str, Any]]:
    """The rows of a table of what it `holds`, as dictionaries. Raises `BarsError` for a column that is missing."""
    if table is None:
        return []
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise BarsError(
            f"a table of {holds} needs the columns {', '.join(columns)}; missing: {', '.join(missing)}; found: "
            f"{', '.join(table.columns)}."
        )
    return table.to_dicts()


def _refuse_unknown_terms(
    symbol: str, name: str, contract: Mapping[str, Any] | None, rolled: bool, last_bar: date | None
) -> None:
    """Raises `BarsError` for a future whose money cannot be counted."""
    if contract is None:
        if "future" in (name, class_by_name(symbol)):
            raise BarsError(
                f"{symbol!r} is a future: its money needs a row in the table of contracts ({', '.join(CONTRACTS)}). "
                "Give the row, or leave the symbol out of the book; forecasts do without it."
            )
        return
    multiplier = contract["multiplier"]
    if multiplier is None or not 1e-9 <= multiplier <= 1e9:
        raise BarsError(f"{symbol!r}: the multiplier of a contract is a number from 1e-9 to 1e9, got {multiplier}.")
    last = contract["last_trade"]
    if contract.get("funding_hours") or rolled or (last is not None and (last_bar is None or last_bar <= last)):
        return
    why = "has no last_trade" if last is None else f"trades until {last}, its bars go on to {last_bar}"
    raise BarsError(
        f"{symbol!r}: the contract {why}, so that its bars are a splice of several, and no roll is dated: their money "
        f"is refused. Give the table of rolls ({', '.join(ROLLS)}), or the bars of one contract."
    )
