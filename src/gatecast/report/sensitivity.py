"""The map of a sensitivity study: a heat map as one SVG, and a page around it that needs no network and no script."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from gatecast.report.drawing import LIGHT
from gatecast.report.offline import offline_page
from gatecast.studies.sensitivity import METRICS

if TYPE_CHECKING:
    from gatecast.studies.sensitivity import Sensitivity

WIDE, HIGH = 92, 52
"""A cell, in units of the picture."""
LABEL, TOP = 96, 76
"""What stands left of the cells, and above them."""
CHARACTER = 7.6
"""Width of a character of a label."""
PALE, DEEP = (243, 239, 230), (47, 93, 140)
"""Colours of the least and of the largest value."""
UNKNOWN = (225, 225, 225)
WHITE_FROM = 0.72
"""Share of the way from pale to deep from which a number is written in white."""
FORMS = {"sharpe": ".2f", "certainty_equivalent": ".2%", "turnover": ".2f"}
"""Metric -> how its numbers are written."""
SVG_STYLE = (
    f"svg.map text{{font:13px ui-sans-serif,system-ui,sans-serif;fill:{LIGHT['ink']};"
    "font-variant-numeric:tabular-nums}"
    f"svg.map .title{{font-weight:600}}svg.map .white{{fill:#fff}}svg.map .none{{fill:{LIGHT['quiet']}}}"
)


def sensitivity_svg(study: Sensitivity) -> str:
    """The heat map: a row a value of the first setting, a column a value of the second, the chosen cell framed."""
    rows, columns = study.axes
    labels = [value_text(value) for value in rows]
    left = max(LABEL, CHARACTER * max(map(len, labels)) + 24)
    ahead = f"{study.settings[0]} (down) and {study.settings[1]} (across)"
    width = max(left + WIDE * len(columns) + 8, CHARACTER * len(ahead) + 16)
    height = TOP + HIGH * len(rows) + 12
    known = study.values[np.isfinite(study.values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    parts = [
        f'<text x="8" y="20" class="title">{escape(METRICS[study.metric])}</text>',
        f'<text x="8" y="40">{escape(ahead)}</text>',
    ]
    for place, value in enumerate(columns):
        x = left + WIDE * (place + 0.5)
        parts.append(f'<text x="{x:g}" y="{TOP - 12}" text-anchor="middle">{escape(value_text(value))}</text>')
    for row, label in enumerate(labels):
        y = TOP + HIGH * row
        parts.append(f'<text x="{left - 12:g}" y="{y + HIGH / 2 + 5:g}" text-anchor="end">{escape(label)}</text>')
        for column in range(len(columns)):
            value, error = float(study.values[row, column]), float(study.errors[row, column])
            fill, ink = UNKNOWN, "none"
            if math.isfinite(value):
                share = (value - low) / (high - low) if high > low else 0.5
                red, green, blue = (round(a + (b - a) * share) for a, b in zip(PALE, DEEP, strict=True))
                fill, ink = (red, green, blue), "white" if share > WHITE_FROM else "value"
            x = left + WIDE * column
            said = (
                f"{study.settings[0]} {labels[row]}, {study.settings[1]} {value_text(columns[column])}: "
                f"{number(value, study.metric)}, standard error {number(error, study.metric)}"
            )
            parts.append(
                f'<g><title>{escape(said)}</title><rect x="{x + 1:g}" y="{y + 1:g}" width="{WIDE - 2}" '
                f'height="{HIGH - 2}" rx="3" fill="rgb{fill}"/><text x="{x + WIDE / 2:g}" y="{y + HIGH / 2 + 5:g}" '
                f'text-anchor="middle" class="{ink}">{number(value, study.metric)}</text></g>'
            )
    row, column = study.chosen
    frame = LIGHT["bad"] if study.cliff else LIGHT["ink"]
    parts.append(
        f'<rect x="{left + WIDE * column + 2:g}" y="{TOP + HIGH * row + 2}" width="{WIDE - 4}" height="{HIGH - 4}" '
        f'rx="3" fill="none" stroke="{frame}" stroke-width="3"/>'
    )
    alone = f"{escape(study.metric)} over {escape(study.settings[0])} and {escape(study.settings[1])}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="map" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{alone}"><style>{SVG_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="{LIGHT["card"]}"/>{"".join(parts)}</svg>\n'
    )


STYLE = (
    f"h1{{margin-top:40px;overflow-wrap:anywhere}}figure.map{{overflow-x:auto;background:{LIGHT['card']}}}"
    "figure.map svg{display:block;margin:auto}figure.map+p{margin-top:16px}"
)


def render_sensitivity(study: Sensitivity) -> str:
    """The page as one HTML text; nothing in it runs."""
    cliff, *others = study.sentences
    frame = "The frame is the setting of the run. Each number is of a year; hover over a cell for its standard error."
    title = f"{study.run}: {study.settings[0]} and {study.settings[1]}"
    body = (
        f"<main><h1>{escape(title)}</h1><p>{escape(cliff)}</p>"
        f'<figure class="map" tabindex="0" aria-label="Map">{sensitivity_svg(study)}</figure>'
        f'<p class="small quiet">{escape(frame)} Money of the {escape(study.own)}, net of all costs. '
        f"{escape(' '.join(others))}</p></main>"
    )
    return offline_page(f"Sensitivity of {study.run}", body, rules=STYLE, inside=[SVG_STYLE])


def value_text(value: object) -> str:
    """A value of a setting, as an axis shows it.

    >>> value_text(0.05), value_text(None), value_text(True)
    ('0.05', 'left out', 'true')
    """
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, int | float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def number(value: float, metric: str) -> str:
    """A number of a metric, as a cell shows it.

    >>> number(0.12345, "sharpe"), number(0.012345, "certainty_equivalent"), number(float("nan"), "sharpe")
    ('0.12', '1.23%', '–')
    """
    return f"{value:{FORMS[metric]}}" if math.isfinite(value) else "–"
