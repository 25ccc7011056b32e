"""Calendar features: the date of a session -> weekday, month and the like; later sessions are not used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatecast.samples.features.rolling import FloatArray


def day_of_week(session: NDArray[np.datetime64]) -> FloatArray:
    """0 for Monday to 6 for Sunday.

    >>> day_of_week(np.array(["2024-01-01", "2024-01-07"], "datetime64[D]")).tolist()
    [0.0, 6.0]
    """
    return ((session.astype(np.int64) + 3) % 7).astype(np.float64)  # day 0, 1970-01-01, was a Thursday


def turn_of_month(session: NDArray[np.datetime64]) -> FloatArray:
    """1 from a month's last weekday to the third of the next, else 0; holidays count, as dates alone decide.

    Lakonishok and Smidt (1988), Review of Financial Studies 1, 403-425.

    >>> days = np.array(["2024-01-30", "2024-01-31", "2024-02-05", "2024-02-06"], "datetime64[D]")
    >>> turn_of_month(days).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    month = session.astype("datetime64[M]")
    so_far = np.busday_count(month.astype("datetime64[D]"), session + 1)
    to_come = np.busday_count(session + 1, (month + 1).astype("datetime64[D]"))
    turning: NDArray[np.bool_] = (so_far <= 3) | (to_come == 0)
    return turning.astype(np.float64)
