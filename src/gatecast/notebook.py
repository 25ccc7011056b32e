"""Results in a notebook: their sentences and tables as HTML, their numbers as Plotly figures.

>>> page = html("Result", "One < two.", {"rows": [{"head": "return", "gain": 0.01234567}]})
>>> "One &lt; two." in page, "<td>0.01235</td>" in page
(True, True)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

Rows = Sequence[Mapping[str, Any]]

MOST_ROWS = 30
"""Rows of a table that are shown; a line says how many there are."""
COLOURS = ("#1f5fa8", "#c4622d", "#4b8b3b", "#8a5aa5", "#7a7a7a", "#b5922a")
DASHES = ("solid", "dash", "dot", "dashdot")
"""Of lines beyond the number of colours, the next for each time through them."""
HIGH_ROW, LEAST_HEIGHT = 26, 280
"""Pixels of a row of a figure with one row a thing, and of a whole figure."""


class Shown:
    """A result that a notebook shows by its own sentences and tables.

    Sentences are those of `summary()`, else of `sentences` or `sentence`; tables are what in `to_dict()` is a list of
    flat rows. Results that have numbers to draw also have `plot()`, which returns a Plotly figure.
    """

    def _repr_html_(self) -> str:
        summary = getattr(self, "summary", None)
        said: Any = summary() if callable(summary) else getattr(self, "sentences", getattr(self, "sentence", ""))
        tables: dict[str, Rows] = {}
        if isinstance(said, Mapping):
            tables[""] = [{"what": name, "value": value} for name, value in said.items()]
            said = ""
        to_dict = getattr(self, "to_dict", None)
        for name, value in (to_dict() if callable(to_dict) else {}).items():
            if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
                tables[name] = value
        return html(type(self).__name__, said if isinstance(said, str) else "\n".join(said), tables)


def html(title: str, text: str = "", tables: Mapping[str, Rows] | None = None) -> str:
    """A heading, a text whose lines stay as they are, and tables by their names, without styles of its own."""
    parts = [f"<h3>{escape(title)}</h3>"]
    if text:
        parts.append(f"<pre style='white-space:pre-wrap'>{escape(text)}</pre>")
    for name, rows in (tables or {}).items():
        parts += [f"<h4>{escape(name.replace('_', ' '))}</h4>"] if name else []
        parts.append(_table(rows))
    return "".join(parts)


def _table(rows: Rows) -> str:
    nested = {name for row in rows for name, value in row.items() if isinstance(value, Mapping | list | tuple)}
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in nested]
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(row.get(name)))}</td>' for name in columns)}</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = f"<p>{MOST_ROWS} of {len(rows)} rows.</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    return number_text(value, ".4g", "-") if value is None or isinstance(value, float) else str(value)


NOT_KNOWN = "not known"


def number_text(value: float | None, form: str, missing: str = NOT_KNOWN) -> str:
    """A number in a format for a reader; `missing` where there is none, or none that is finite.

    >>> number_text(0.0312, "+.1%"), number_text(float("nan"), ".2f"), number_text(None, ".2f", "-")
    ('+3.1%', 'not known', '-')
    """
    return missing if value is None or not math.isfinite(value) else format(value, form)


def share_text(value: float | None, form: str) -> str:
    """A number in a format, a dash for none; what rounds to 0 has no sign.

    >>> share_text(-0.00002, "+.2%"), share_text(0.0, "+.1%"), share_text(0.0312, "+.1%"), share_text(None, ".2f")
    ('0.00%', '0.0%', '+3.1%', '-')
    >>> share_text(float("nan"), ".2f")
    '-'
    """
    text = number_text(value, form, "-")
    if text == "-":
        return text
    return text.lstrip("+-") if not any(one in text for one in "123456789") else text


def moment_text(moment: datetime | str | None) -> str:
    """A moment to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}" if isinstance(moment, datetime) else moment or ""


def interval_text(low: float | None, high: float | None) -> str:
    """The ends of an interval of a log return.

    >>> interval_text(-0.0429, 0.0552), interval_text(None, None)
    ('-4.29% to +5.52%', '-')
    """
    if low is None or high is None:
        return "-"
    return f"{share_text(low, '+.2%')} to {share_text(high, '+.2%')}"


def trade_text(value: float | None, missing: str = "-") -> str:
    """A trade in units, with its side.

    >>> trade_text(2253.0), trade_text(-0.5), trade_text(123.4), trade_text(0.0), trade_text(None)
    ('buy 2,253', 'sell 0.500', 'buy 123', '-', '-')
    """
    if not value or not math.isfinite(value):
        return missing
    size = abs(value)
    whole = size >= 100 or float(size).is_integer()
    return f"{'buy' if value > 0 else 'sell'} {format(size, ',.0f' if whole else '#.3g')}"


# ── figures ───────────────────────────────────────────────────────────────────────────────────────


def draw_intervals(rows: Iterable[tuple[str, float | None, float | None, float | None]], title: str, unit: str) -> Any:
    """One row a label, its value and the bounds of its interval, beside a line at 0; None and NaN are left out.

    >>> figure = draw_intervals([("return", 0.01, -0.02, 0.04), ("volatility", None, None, None)], "Gains", "share")
    >>> figure.data[0].y, [round(float(value), 3) for value in figure.data[0].error_x.array]
    (('return',), [0.03])
    """
    there = [(label, value, low, high) for label, value, low, high in rows if value is not None and value == value]
    values = [value for _, value, _, _ in there]
    above = [(high if high is not None else value) - value for _, value, _, high in there]
    below = [value - (low if low is not None else value) for _, value, low, _ in there]
    error = {"type": "data", "array": above, "arrayminus": below, "symmetric": False}
    trace = {
        "type": "scatter", "mode": "markers", "x": values, "y": [label for label, *_ in there], "error_x": error,
        "marker": {"size": 9, "color": COLOURS[0]}, "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }  # fmt: skip
    figure = _figure([trace], title, len(there), xaxis_title=unit, yaxis={"autorange": "reversed", "automargin": True})
    figure.add_vline(x=0, line={"width": 1, "color": COLOURS[4]})
    return figure


def draw_bars(values: Mapping[str, float | None], title: str, unit: str, line: float | None = None) -> Any:
    """One bar a label; `line` is a value to compare them with."""
    there = {label: value for label, value in values.items() if value is not None and value == value}
    trace = {
        "type": "bar", "orientation": "h", "x": list(there.values()), "y": list(there), "marker": {"color": COLOURS[0]},
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }  # fmt: skip
    figure = _figure([trace], title, len(there), xaxis_title=unit, yaxis={"autorange": "reversed", "automargin": True})
    if line is not None:
        figure.add_vline(x=line, line={"width": 1, "color": COLOURS[4]})
    return figure


def draw_steps(steps: Sequence[tuple[str, float | None, float]], title: str, unit: str) -> Any:
    """One bar a step (label, change, share after it), from what was there before it; from 0 where it is no change.

    >>> figure = draw_steps([("core", 0.2, 0.2), ("caps", -0.05, 0.15), ("held", None, 0.15)], "SPY", "weight")
    >>> [round(base, 9) for base in figure.data[0].base], figure.data[0].text
    ([0.0, 0.2, 0.0], ('+20.00%, then 20.00%', '-5.00%, then 15.00%', '15.00%'))
    """
    changes = [after if change is None else change for _, change, after in steps]
    colours = [COLOURS[4 if change is None else 0 if change >= 0 else 1] for _, change, _ in steps]
    said = [
        share_text(after, ".2%") if change is None else f"{share_text(change, '+.2%')}, then {share_text(after, '.2%')}"
        for _, change, after in steps
    ]
    trace = {
        "type": "bar", "orientation": "h", "x": changes, "y": [label for label, *_ in steps],
        "base": [after - change for change, (*_, after) in zip(changes, steps, strict=True)], "text": said,
        "textposition": "none", "marker": {"color": colours}, "hovertemplate": "%{y}: %{text}<extra></extra>",
    }  # fmt: skip
    rows = {
        "autorange": "reversed", "automargin": True, "type": "category", "tickmode": "array",
        "tickvals": list(range(len(steps))),
        "ticktext": [f"{escape(label)}: {text}" for (label, *_), text in zip(steps, said, strict=True)],
    }  # fmt: skip
    return _figure([trace], title, len(steps), xaxis={"title": unit, "tickformat": ".1%"}, yaxis=rows)


def draw_lines(x: Sequence[Any], lines: Mapping[str, Sequence[Any]], title: str, unit: str, **layout: Any) -> Any:
    """Lines over one axis, by name; `layout`: more of the figure's layout, such as `yaxis_type="log"`."""
    traces = [
        {
            "type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": escape(name),
            "line": {
                "color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)],
                "width": 1.6,
            },
        }
        for number, (name, y) in enumerate(lines.items())
    ]  # fmt: skip
    return _figure(traces, title, 0, **{"yaxis_title": unit, "hovermode": "x unified", **layout})


def draw_wealth(equity: Any, title: str) -> Any:
    """Wealth of the strategies and of their benchmark: a frame with time, equity and benchmark, levels from 1."""
    lines = {name: equity[name].to_list() for name in ("equity", "benchmark")}
    return draw_lines(equity["time"].to_list(), lines, title, "wealth, 1 at the start", yaxis_type="log")


def draw_boxes(samples: Mapping[str, Sequence[float]], own: Mapping[str, float], title: str, unit: str) -> Any:
    """One box a label, of its samples, and one mark for its own value."""
    boxes = [
        {"type": "box", "x": list(values), "name": label, "marker": {"color": COLOURS[4]}, "showlegend": False}
        for label, values in samples.items()
    ]
    marks = {
        "type": "scatter", "mode": "markers", "x": list(own.values()), "y": list(own), "showlegend": False,
        "marker": {"size": 11, "symbol": "diamond", "color": COLOURS[1]},
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }  # fmt: skip
    return _figure([*boxes, marks], title, 2 * len(boxes), xaxis_title=unit, yaxis={"automargin": True})


def draw_grid(values: Any, axes: Sequence[Sequence[Any]], names: Sequence[str], title: str, marked: Any = None) -> Any:
    """A heat map of (rows, columns); `axes` and `names` are those of rows, then columns; `marked` is a cell."""
    rows, columns = ([str(value) for value in axis] for axis in axes)
    heat = {
        "type": "heatmap", "z": values, "x": columns, "y": rows, "colorscale": "Viridis", "texttemplate": "%{z:.3g}",
        "hovertemplate": "%{y}, %{x}: %{z:.4g}<extra></extra>",
    }  # fmt: skip
    kinds = {"xaxis": {"type": "category", "title": names[1]}, "yaxis": {"type": "category", "title": names[0]}}
    figure = _figure([heat], title, 2 * len(rows), **kinds)
    if marked is not None:
        row, column = marked
        edge = {"color": COLOURS[1], "width": 3}
        figure.add_shape(
            type="rect", x0=column - 0.5, x1=column + 0.5, y0=row - 0.5, y1=row + 0.5, line=edge, fillcolor=None
        )
    return figure


def _figure(traces: Sequence[Mapping[str, Any]], title: str, rows: int, **layout: Any) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure(data=list(traces))
    figure.update_layout(
        template="plotly_white", title=title, height=max(LEAST_HEIGHT, 120 + HIGH_ROW * rows), colorway=COLOURS,
        margin={"l": 60, "r": 20, "t": 50, "b": 50}, **layout,
    )  # fmt: skip
    return figure
