"""The page: the contents of the report -> HTML. The page uses the dictionary alone, so that JSON and page agree."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from gatecast.report import drawing, words
from gatecast.report.contents import METRICS, report_data
from gatecast.report.described import described
from gatecast.report.figures import Data
from gatecast.report.offline import Classes, offline_page
from gatecast.report.scorecard import dumbbell, interval_plot, placed, rival_of, width_of

if TYPE_CHECKING:
    import jinja2

    from gatecast.runs import Run

FORMATS = (
    "begun",
    "number",
    "trade",
    "units",
    "between",
    "price",
    "decimals",
    "percent",
    "measured",
    "typeset",
    "gain",
    "p_value",
    "decided_by",
    "moment",
    "tone",
)
"""Functions of `words` that the templates use, beside those that the run's names of models go into."""


def drawn(figures: Data) -> Data:
    """Figures of data, drawn: name -> plotly's JSON. `looks`: strategy -> its colour in the charts of symbols."""
    strategies = {one for data in figures.get("candles", {}).values() for one in data["strategy"] if one is not None}
    found = {
        name: draw(figures[name]).to_plotly_json()
        for name, draw in drawing.DRAWINGS.items()
        if figures.get(name) is not None
    }
    return {"looks": {one: drawing.colour_of(one) for one in sorted(strategies)}, **found} if strategies else found


@lru_cache(maxsize=8)
def environment_of(names: str, *packages: str) -> jinja2.Environment:
    """The templates of the report, compiled once, with filters that know the models' names (as JSON).

    `packages`: further ones that have templates.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(one) for one in (*packages, "gatecast.report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    titles = json.loads(names)
    environment.filters |= {
        **{name: getattr(words, name) for name in FORMATS},
        **{name: partial(getattr(words, name), names=titles) for name in ("named", "titled", "phrased")},
        "whole": lambda sentence: Markup(words.whole(str(sentence))),
        "coded": lambda sentence: Markup(words.coded(str(sentence))),
        "rival": partial(rival_of, names=titles),
        "interval_plot": interval_plot,
        "dumbbell": dumbbell,
        "placed": placed,
        "width": width_of,
    }
    return environment


def render_data(data: Data) -> str:
    """The page of a report's dictionary, as one HTML text that needs no network.

    Everything in the dictionary is text to show, never markup; the page's policy allows its own scripts and styles by
    their hashes, and no connection at all.
    """
    environment = environment_of(json.dumps(data.get("names"), default=str))
    figures, classes = drawn(data["figures"]), Classes()
    body = environment.get_template("report.html.j2").render(
        report=data, figures=figures, described=described(data["figures"]), metrics=METRICS, styled=classes
    )
    return offline_page(
        f"{data['name']} · gatecast", body, rules=classes.rules,
        drawings={"figures": figures, "candles": data["figures"]["candles"]},
        body_class="leaky" if (data["scorecard"].get("audit") or {}).get("banner") else "",
    )  # fmt: skip


def render(run: Run) -> str:
    """The report of a run as one offline HTML text (see `report_data` for its content)."""
    return render_data(report_data(run))
