"""Alarms of a store: one record and one alert when something begins, one when it is over, silence between."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from gatecast.errors import cut
from gatecast.live.gates import MISSING
from gatecast.live.newest import OTHER_VERSIONS

if TYPE_CHECKING:
    from gatecast.live.alerts import Alert
    from gatecast.live.health import Health
    from gatecast.live.update import Updated
    from gatecast.store.store import Store

NO_FORECAST = "no forecast of"
TOLD_ELSEWHERE = ("heartbeat", "forecasts")
"""Checks of health that are no alarms: who is told is there, and each symbol without a forecast is an alarm itself."""
OF_DECISIONS = (NO_FORECAST, OTHER_VERSIONS)
"""What the names of alarms begin with that the newest decisions began, and the next ones can end."""


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


def conditions(
    health: Health, done: Updated | None, refused_file: str = "", begun: Mapping[str, str] | None = None
) -> dict[str, str]:  # fmt: skip
    """What is wrong now: of the store's health, of the newest decisions, and of a file that was refused.

    `done`: the update that made these decisions; None: there was none since, and what had `begun` of them goes on.
    """
    found = {one.name: one.sentence for one in health.checks if one.level != "ok" and one.name not in TOLD_ELSEWHERE}
    if done is None:
        found |= {name: text for name, text in (begun or {}).items() if name.startswith(OF_DECISIONS)}
    else:
        for row in done.decisions:
            if row.get("gate") in MISSING:
                found[f"{NO_FORECAST} {row['symbol']}"] = f"{row['symbol']!r} has no forecast: {row['gate_sentence']}."
        found |= {one.kind: one.sentence for one in done.problems if one.kind == OTHER_VERSIONS}
    if refused_file:
        found["refused file"] = refused_file
    return found
