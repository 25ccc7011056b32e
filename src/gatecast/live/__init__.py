"""A new bar in, a forecast out: of a run that is finished, and of a store that is kept for years."""

from gatecast.live.newest import Newest, NewestBars, forecast, forecast_newest, read_newest, without_broken
from gatecast.live.replay import Replayed, replay
from gatecast.live.retrain import Retrained, RolledBack, retrain, rollback
from gatecast.live.update import Updated, update

__all__ = [
    "Newest", "NewestBars", "Replayed", "Retrained", "RolledBack", "Updated", "forecast", "forecast_newest",
    "read_newest", "replay", "retrain", "rollback", "update", "without_broken",
]  # fmt: skip
