"""The settings of a book: what it holds, how large it is, and what it pays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from gatecast.errors import SettingsError, did_you_mean
from gatecast.settings import Settings
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.sizing import BookSettings

if TYPE_CHECKING:
    pass


class Book(Settings):
    """What the book holds, how large it is, and what it pays."""

    core: Core = Core()
    """What is held whatever is forecast of returns."""
    size: BookSettings = BookSettings()
    """How large the book is, and what it may not exceed."""
    money: MoneySettings = MoneySettings()
    """What an account of units pays and earns."""
    benchmark: str | None = Field(default=None, examples=["SPY"])
    """symbol whose price stands beside the lines, bought and held at no cost; left out: none. It decides nothing"""

    def refuse_unknown(self, symbols: Collection[str]) -> None:
        """Raises `SettingsError` where the bars do not have the benchmark."""
        if self.benchmark is not None and self.benchmark not in symbols:
            advice = did_you_mean(self.benchmark, list(symbols))
            raise SettingsError(f"book.benchmark: the bars have no symbol {self.benchmark!r}. {advice}")

    def with_file_read(self) -> Book:
        """The same with weights and tables in place of the files that have them, so that settings travel without."""
        read: Book = self.replace(core=self.core.with_file_read(), money=self.money.with_files_read())
        return read

    def priced_in(self, currencies: Mapping[str, str]) -> Book:
        """The same with the currencies of symbols that the settings do not name."""
        own = {**currencies, **self.money.currencies}
        if own == self.money.currencies:
            return self
        named: Book = self.replace(money=self.money.replace(currencies=own))
        return named
