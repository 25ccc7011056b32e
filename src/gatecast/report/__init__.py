"""The report: a run -> one HTML page that needs no network.

`report_data(run)` is all that the page shows as one dictionary, `render_data` the page of it, `render(run)` both.
`card(store)` is the page of a store.

>>> from gatecast.report.words import number, percent
>>> percent(0.1234), number(1234567.0)
('12.3 %', '1,234,567')
"""

from gatecast.report.card import Card, card
from gatecast.report.page import render, render_data, report_data

__all__ = ["Card", "card", "render", "render_data", "report_data"]
