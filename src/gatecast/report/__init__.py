"""A run as one offline page: the verdict first, then what follows from it."""

from __future__ import annotations

from gatecast.report.page import render, render_data, report_data

__all__ = ["render", "render_data", "report_data"]
