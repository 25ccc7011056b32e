"""The page of a cadence study: loss against cost in a figure, and the tables as text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gatecast.report.drawing import draw_cadences
from gatecast.report.figures import Data
from gatecast.report.offline import offline_page
from gatecast.report.words import named

if TYPE_CHECKING:
    from gatecast.studies.cadence import Cadences


TITLE = "How often to refit"
STYLE = "h1{margin-top:40px}figure,pre{overflow-x:auto}.plot{min-width:600px}pre{font-size:13px;margin-top:24px}"


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
    figure = draw_cadences(cadences_data(study)).to_plotly_json()
    said = "".join(f"<p><b>{escape(named(head))}</b>. {escape(text)}</p>" for head, text in study.sentences.items())
    body = (
        f"<main><h1>{TITLE}</h1><p>{escape(study.rests)}</p>{said}"
        '<figure tabindex="0"><div class="plot" data-figure="cadences" role="img" aria-label="Gain of each cadence '
        'over a fit that is never renewed, by its cost in epochs; the numbers are below."></div></figure>'
        f'<pre tabindex="0">{escape(study.summary())}</pre></main>'
    )
    return offline_page(TITLE, body, rules=STYLE, drawings={"figures": {"cadences": figure}, "candles": {}})
