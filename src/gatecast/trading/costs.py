"""Trading costs: per side in bps for a share of wealth, and each kind apart for an account that holds units."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator

from gatecast.market.classes import asset_class as find_class
from gatecast.market.given import Currencies
from gatecast.settings import Settings
from gatecast.trading.terms import (
    Contract,
    Currency,
    Funding,
    InterestRate,
    Loan,
    RollDate,
    Row,
    read_rows,
    refuse_contradicting,
)

BASIS_POINT = 1e-4
BasisPoints = Annotated[float, Field(ge=0, le=10_000)]
Money = Annotated[float, Field(ge=0, le=1e9)]
Rate = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Costs(Settings):
    """Costs of every asset class, where None means the class's own default; never 0 unless 0 is asked for.

    Raises `SettingsError` for a number that is negative or not finite.

    >>> Costs().per_side("equity"), Costs(commission_bps=1.0, slippage_bps=1.0).per_side("equity")
    (0.0005, 0.0002)
    """

    commission_bps: BasisPoints | None = Field(default=None, examples=[1.0])
    """basis points of the value traded, a side; left out: 0, as the default slippage covers both"""
    slippage_bps: BasisPoints | None = Field(default=None, examples=[2.0])
    """half the spread and the market's impact, basis points a side; left out: the class's"""
    borrow_bps_per_year: BasisPoints | None = Field(default=None, examples=[50.0])
    """basis points a year of the value held short; left out: the class's"""

    def per_side(self, asset_class: str) -> float:
        """Cost of one purchase or one sale, as a fraction of the value traded."""
        slippage = find_class(asset_class).cost_bps if self.slippage_bps is None else self.slippage_bps
        return (slippage + (self.commission_bps or 0.0)) * BASIS_POINT

    def round_trip(self, asset_class: str) -> float:
        """Cost of a purchase and its sale, as a fraction of the value traded."""
        return 2 * self.per_side(asset_class)

    def borrow_per_bar(self, asset_class: str, periods_per_year: float) -> float:
        """Cost of holding a short for one bar, as a fraction of its value; `periods_per_year` counts bars.

        >>> round(Costs(borrow_bps_per_year=252.0).borrow_per_bar("equity", 252), 9)
        0.0001
        """
        own = self.borrow_bps_per_year
        borrow = find_class(asset_class).borrow_bps_per_year if own is None else own
        return borrow * BASIS_POINT / periods_per_year


class MoneySettings(Settings):
    """What an account of units pays and earns, each kind apart; None means the class's own default.

    >>> MoneySettings(benchmark_rate=5.33)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: MoneySettings: benchmark_rate = 5.33: input should be less than or equal to 1 \
(interest on cash without spread, a fraction a year).
    """

    currency: Currency = "USD"
    """currency of the book, in which all money is counted"""
    commission_bps: BasisPoints | None = Field(default=None, examples=[0.5])
    """basis points of the value traded, a side; left out: the class's"""
    commission_per_unit: Money | None = Field(default=None, examples=[0.005])
    """commission a share, coin or lot in the symbol's currency, in place of basis points; left out: basis points"""
    commission_minimum: Money = 1.0
    """least commission of an order, in the currency of the book"""
    half_spread_bps: BasisPoints | None = Field(default=None, examples=[1.0])
    """half the spread, basis points a side, widened by forecast volatility over its 63-day mean; left out: the
    class's"""
    impact: Annotated[float, Field(ge=0, le=100)] = 1.0
    """b of the market's impact b sigma |x|^1.5 / sqrt(V), x and V in money"""
    unknown_share_of_volume: Fraction = 1e-4
    """share of a session's volume that an order is taken to be where the class has no volumes"""
    unknown_share_of_small: Fraction = 0.01
    """the same for an equity or etf whose volume is not known, which counts as small"""
    benchmark_rate: Rate | None = Field(default=None, examples=[0.03])
    """interest on cash without spread, a fraction a year; left out: of dollars that of one-month bills, as far as it is
    known (November 2018, then its last value), of other currencies .02"""
    debit_spread: Rate = 0.015
    """what negative cash pays above the benchmark rate, a fraction a year"""
    credit_spread: Rate = 0.005
    """what positive cash earns below the benchmark rate, a fraction a year; never less than 0 is earned"""
    borrow_bps_per_year: BasisPoints | None = Field(default=None, examples=[50.0])
    """basis points a year of the value held short, for symbols without a rate of their own; left out: the class's"""
    borrow_collateral: Annotated[float, Field(ge=1, le=2)] = 1.02
    """share of a short position's value on which the lender is paid"""
    least_lent_volume: Annotated[float, Field(ge=0, le=1e15)] = 1e7
    """money traded a session, below which no short is assumed to be lent without a table that says so"""
    unknown_carry: Rate = 0.01
    """what a currency pair costs a year on either side where the difference of rates is not known"""
    unknown_funding: Annotated[float, Field(ge=0, le=0.01)] = 1e-4
    """what the long side of a perpetual contract pays an interval where the funding is not known; the short gets
    nothing"""
    withholding: Fraction = 0.15
    """share of a long holding's dividends that is withheld, for symbols without a share of their own"""
    currencies: dict[str, Currency] = Field(default={}, examples=[{"SIE": "EUR"}])
    """symbol and currency of its prices, GBX for pence, where that is not the book's; a column currency of the symbols
    file says it as well"""
    borrow: str | tuple[Loan, ...] | None = Field(default=None, examples=["borrow.csv"])
    """a table of symbol, date, available, rate and recall: what can be sold short, at which rate a year, and what is
    wanted back; each row holds from the session after its date to the symbol's next; left out: `least_lent_volume`"""
    rates: str | tuple[InterestRate, ...] | None = Field(default=None, examples=["rates.csv"])
    """a table of currency, date and rate: interest rates a year, whose difference a currency pair earns"""
    funding: str | tuple[Funding, ...] | None = Field(default=None, examples=["funding.csv"])
    """a table of symbol, date and rate: what the long side of a perpetual contract pays an interval, from the date to
    the symbol's next row; left out: `unknown_funding`"""
    contracts: str | tuple[Contract, ...] | None = Field(default=None, examples=["contracts.csv"])
    """a table of symbol, multiplier, tick, currency, margin and last_trade, of perpetual contracts funding_hours; a
    future without a row is not in the book"""
    rolls: str | tuple[RollDate, ...] | None = Field(default=None, examples=["rolls.csv"])
    """a table of symbol, date and gap: the first session of each next contract, and its close of the session before
    less that of the old one"""

    @field_validator("borrow", "rates", "funding", "contracts", "rolls", mode="after")
    @classmethod
    def _refuse_contradicting(cls, rows: str | tuple[Row, ...] | None) -> str | tuple[Row, ...] | None:
        if isinstance(rows, tuple):
            refuse_contradicting(rows)
        return rows

    @property
    def prices(self) -> Currencies:
        """The currencies of prices."""
        return Currencies(self.currencies, self.currency)

    def with_files_read(self) -> Self:
        """The same with the rows of the files that settings name, so that settings travel without them."""
        kinds: dict[str, type[Row]] = {
            "borrow": Loan, "rates": InterestRate, "funding": Funding, "contracts": Contract, "rolls": RollDate,
        }  # fmt: skip
        named = {name: getattr(self, name) for name in kinds}
        read = {name: read_rows(path, kinds[name]) for name, path in named.items() if isinstance(path, str)}
        return self.replace(**read) if read else self
