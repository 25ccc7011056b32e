"""A run as one offline page: the verdict first, then what follows from it.

`report_data(run)` is all that the page shows as one dictionary, `render_data` the page of it, `render(run)` both.

>>> from gatecast.report.words import number, percent
>>> percent(0.1234), number(1234567.0)
('12.3 %', '1,234,567')
"""

from gatecast.report.page import render, render_data, report_data

__all__ = ["render", "render_data", "report_data"]
