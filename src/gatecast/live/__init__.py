"""A new bar in, a forecast out: of a run that is finished, and of a store that is kept for years."""

from gatecast.live.actions import Actions, add_action, list_actions, remove_action, resolve
from gatecast.live.fetch import Fetched, fetch
from gatecast.live.health import Health, health
from gatecast.live.newest import Newest, NewestBars, forecast, forecast_newest, read_newest, without_broken
from gatecast.live.replay import Replayed, parity, replay, replay_store
from gatecast.live.retrain import Retrained, RolledBack, retrain, rollback
from gatecast.live.today import Today, today
from gatecast.live.update import Updated, update
from gatecast.live.watch import Round, watch

__all__ = [
    "Actions", "Fetched", "Health", "Newest", "NewestBars", "Replayed", "Retrained", "RolledBack", "Round", "Today",
    "Updated", "add_action", "fetch", "forecast", "forecast_newest", "health", "list_actions", "parity", "read_newest",
    "remove_action", "replay", "replay_store", "resolve", "retrain", "rollback", "today", "update", "watch",
    "without_broken",
]  # fmt: skip
