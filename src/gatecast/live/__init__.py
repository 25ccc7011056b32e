"""A new bar in, a forecast out: of a run that is finished, and of a store that is kept for years."""

from gatecast.live.actions import Actions, add_action, list_actions, remove_action, resolve
from gatecast.live.fetch import Fetched, fetch
from gatecast.live.health import Health, health
from gatecast.live.newest import Newest, NewestBars, forecast, forecast_newest, read_newest, without_broken
from gatecast.live.ordered import Orders
from gatecast.live.orders import approve, export, proposed_orders, withdraw
from gatecast.live.proposing import propose
from gatecast.live.replay import Replayed, parity, replay, replay_store
from gatecast.live.retrain import Retrained, RolledBack, retrain, rollback
from gatecast.live.settling import Filled, Reconciled, fills, halt, reconcile
from gatecast.live.today import Today, today
from gatecast.live.update import Updated, update
from gatecast.live.watch import Round, watch

__all__ = [
    "Actions", "Fetched", "Filled", "Health", "Newest", "NewestBars", "Orders", "Reconciled", "Replayed", "Retrained",
    "RolledBack", "Round", "Today", "Updated", "add_action", "approve", "export", "fetch", "fills", "forecast",
    "forecast_newest", "halt", "health", "list_actions", "parity", "propose", "proposed_orders", "read_newest",
    "reconcile", "remove_action", "replay", "replay_store", "resolve", "retrain", "rollback", "today", "update",
    "watch", "withdraw", "without_broken",
]  # fmt: skip
