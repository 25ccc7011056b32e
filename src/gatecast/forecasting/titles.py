"""Models as a reader meets them, see `panel`."""

from gatecast.forecasting.panel import model_title

__all__ = ["model_title"]
