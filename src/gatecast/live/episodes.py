"""Alarms of a store: one record and one alert when something begins, one when it is over, silence between."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from gatecast.errors import cut

if TYPE_CHECKING:
    from gatecast.live.alerts import Alert
    from gatecast.live.health import Health
    from gatecast.live.update import Updated
    from gatecast.store.store import Store

MISSING = ("no forecast", "not finite", "stale", "old model")
"""Gates at which a forecast that should be there is not."""


def episodes(store: Store, found: Mapping[str, str], now: datetime, alert: Alert | None = None) -> list[str]:
    """Name -> sentence of all that is wrong now; what has begun and what is over is recorded and alerted, each once.

    Returns the sentences that were alerted. An alert that cannot be sent is a record of its own and ends nothing.
    """
    open_ones = open_episodes(store)
    begun = {name: text for name, text in found.items() if name not in open_ones}
    over = {name: text for name, text in open_ones.items() if name not in found}
    said = []
    for begins, those in ((True, begun), (False, over)):
        for name, text in those.items():
            sentence = text if begins else f"over: {text}"
            store.append("alarm", {"name": name, "text": sentence, "open": begins}, now)
            said.append(sentence)
            if alert is None:
                continue
            try:
                alert(name, sentence, begins)
            except OSError as error:
                failed = {"name": "alert", "text": f"the alert {name!r} could not be sent: {cut(str(error))}"}
                store.append("alarm", {**failed, "open": None}, now)
    return said


def open_episodes(store: Store) -> dict[str, str]:
    """Name -> sentence of the alarms that have begun and are not over."""
    found: dict[str, str] = {}
    for one in store.state.alarms:
        if one.get("open") is True:
            found[str(one["name"])] = str(one.get("text", ""))
        elif one.get("open") is False:
            found.pop(str(one["name"]), None)
    return found


def conditions(health: Health, done: Updated | None, refused_file: str = "") -> dict[str, str]:
    """What is wrong now: of the store's health, of the newest decisions, and of a file that was refused."""
    found = {one.name: one.sentence for one in health.checks if one.level != "ok" and one.name != "heartbeat"}
    for row in done.decisions if done is not None else ():
        if row.get("gate") in MISSING:
            found[f"no forecast of {row['symbol']}"] = f"{row['symbol']!r} has no forecast: {row['gate_sentence']}."
    if refused_file:
        found["refused file"] = refused_file
    return found
