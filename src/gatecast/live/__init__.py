"""A new bar in, a forecast out: of a run that is finished, and of a store that is kept for years."""

from gatecast.live.newest import Newest, NewestBars, forecast, forecast_newest, read_newest, without_broken

__all__ = ["Newest", "NewestBars", "forecast", "forecast_newest", "read_newest", "without_broken"]
