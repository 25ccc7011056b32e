"""The frame of a page that is one file: it needs no network, and its policy allows nothing but its own text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from gatecast.report.drawing import DARK, LIGHT
from gatecast.report.figures import Data
from gatecast.report.scripts import MAP_STYLE, allowed, own_script, packed, plotly_script, source

FOOT = "Made by gatecast. Research, not advice: past performance does not predict future results."


class Classes:
    """Declarations of single elements -> classes of the page's style sheet, as its policy allows no style attribute.

    >>> classes = Classes()
    >>> classes("left:30%"), classes("left:5%"), classes("left:30%"), classes.rules
    ('s0', 's1', 's0', '.s0{left:30%}\\n.s1{left:5%}')
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, declarations: str) -> str:
        """The class of the declarations."""
        return self._names.setdefault(declarations, f"s{len(self._names)}")

    @property
    def rules(self) -> str:
        """The style sheet of all classes."""
        return "\n".join(f".{name}{{{declarations}}}" for declarations, name in self._names.items())


def style_sheet(more: str = "") -> str:
    """The style sheet of every page: its colours, light and dark, the report's rules, and `more`."""
    light, dark = ("".join(f"--{role}: {one}; " for role, one in roles.items()) for roles in (LIGHT, DARK))
    colours = f":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"
    return f"{colours}\n{source('report.css')}\n{more}"


def offline_page(
    title: str, body: str, *, rules: str = "", inside: Sequence[str] = (), drawings: Data | None = None,
    body_class: str = "",
) -> str:  # fmt: skip
    """The page of a body, which is markup.

    `rules`: of the style sheet, after those of every page. `inside`: style sheets that stand in the body. `drawings`:
    name -> plotly's JSON of `figures`, symbol -> data of `candles`, where there are any; without them nothing runs.
    """
    style = style_sheet(rules)
    scripts = [plotly_script(), own_script()] if drawings else []
    styles = [allowed(one) for one in (style, *inside, *[""] * bool(drawings))]
    run = " ".join(map(allowed, scripts)) or "'none'"
    policy = (
        f"default-src 'none'; script-src {run}; style-src {' '.join(styles)}; "
        "img-src data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    of_body = f' class="{body_class}"' if body_class else ""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body{of_body}>\n{body.strip()}\n<footer>{FOOT}</footer>\n"
    ]
    if drawings:
        colours = json.dumps({"light": LIGHT, "dark": DARK}, separators=(",", ":"))
        parts += [
            '<noscript><p class="lead">The figures need JavaScript; everything else on this page does not.</p>'
            "</noscript>\n"
            f'<script type="application/json" id="colours">{colours}</script>\n'
            f'<script type="application/json" id="drawings">"{packed(drawings)}"</script>\n',
            f'<script id="{MAP_STYLE}">{scripts[0]}</script>\n<script>{scripts[1]}</script>\n',
        ]
    return f"{''.join(parts)}</body>\n</html>\n"
