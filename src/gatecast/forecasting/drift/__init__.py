"""Drift: has the world changed that the models learned from? Alarms, each with its statistic and a sentence.

`watch_inputs` reads samples alone, before any fold: its alarms may add a refit. `watch_losses` reads answered
forecasts: its alarms may make positions smaller. An alarm at a close is made from what was known at that close.
"""

from gatecast.forecasting.drift.alarms import Alarm, Alarms, Drift, alarms_on, position_factor
from gatecast.forecasting.drift.inputs import watch_inputs
from gatecast.forecasting.drift.losses import watch_losses

__all__ = ["Alarm", "Alarms", "Drift", "alarms_on", "position_factor", "watch_inputs", "watch_losses"]
