"""The page of a cadence study: loss against cost in a figure, and the tables as text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gatecast.report.drawing import LIGHT, draw_cadences
from gatecast.report.figures import Data
from gatecast.report.scripts import plotly_script
from gatecast.report.words import named

if TYPE_CHECKING:
    from gatecast.studies.cadence import Cadences


def cadences_data(study: Cadences) -> Data:
    """Head -> what its panel shows: cadence, cost in epochs of the single fit, gain over it with its interval."""
    first = study.costs["never"].epochs
    single = {"cadence": named("never"), "cost": 1.0, "gain": 0.0, "low": 0.0, "high": 0.0}
    panels: Data = {head: [single] for head in study.heads}
    for one in study.differences:
        if one.against == "never":
            gain, low, high = (0.0, 0.0, 0.0) if one.reason else (one.gain, one.low, one.high)
            panels[one.head].append(
                {
                    "cadence": named(one.cadence), "cost": study.costs[one.cadence].epochs / first,
                    "gain": gain, "low": low, "high": high,
                }
            )  # fmt: skip
    return panels


def render_cadences(study: Cadences) -> str:
    """The page as one HTML text that needs no network; nothing in it but the figure's script runs."""
    figure = draw_cadences(cadences_data(study)).to_html(full_html=False, include_plotlyjs=False)
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    style = (
        f"body{{background:{LIGHT['paper']};color:{LIGHT['ink']};font:15px/1.5 system-ui,sans-serif;"
        "max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow-x:auto;font-size:13px}"
    )
    said = "".join(f"<p><b>{escape(named(head))}</b>. {escape(text)}</p>" for head, text in study.sentences.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>How often to refit</title><style>{style}</style></head><body>"
        f"<h1>How often to refit</h1><p>{escape(study.rests)}</p>{said}<script>{plotly_script()}</script>{figure}"
        f"<pre>{escape(study.summary())}</pre></body></html>\n"
    )
