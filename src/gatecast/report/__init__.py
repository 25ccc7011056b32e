"""The report: a run -> one HTML page that needs no network.

`report_data(run)` is all that the page shows as one dictionary, `render_data` the page of it, `render(run)` both;
`save_run(run, folder)` writes a run and its page, `render_saved(folder)` is the page of a saved one.
`card(store)` is the page of a store.

>>> from gatecast.report.words import number, percent
>>> percent(0.1234), number(1234567.0)
('12.3 %', '1,234,567')
"""

from gatecast.report.card import Card, card
from gatecast.report.contents import report_data
from gatecast.report.page import render, render_data
from gatecast.report.saving import render_saved, save_run

__all__ = ["Card", "card", "render", "render_data", "render_saved", "report_data", "save_run"]
