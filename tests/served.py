"""The store that the tests of the service are of: its symbols and closes."""

from __future__ import annotations

from datetime import timedelta

HOUR = timedelta(hours=1)
FIRST = 480
"""Place of the close of the store's newest decision."""
SYMBOLS = ("A/B", "<b>&'\"C")
"""As crypto exchanges write pairs, and as somebody writes who wants to be markup."""
