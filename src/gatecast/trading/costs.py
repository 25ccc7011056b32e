"""Trading costs: commission and slippage per side in bps, and the cost of borrowing for short positions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gatecast.market.classes import asset_class as find_class
from gatecast.settings import Settings

BASIS_POINT = 1e-4
BasisPoints = Annotated[float, Field(ge=0, le=10_000)]


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
