"""Figures: the data of `figures` -> plotly figures, one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from gatecast.evaluation.search_worth import setting_named
from gatecast.forecasting.panel import SIZED_BY
from gatecast.report.figures import Data
from gatecast.report.words import named
from gatecast.trading.book import BOUGHT, CASH, TILTED
from gatecast.trading.strategies import FORMER_NAMES

LIGHT = {
    "paper": "#fbfaf7",
    "card": "#ffffff",
    "ink": "#1d2430",
    "quiet": "#667080",
    "line": "#e3e0d8",
    "grey": "#a3a9b3",
    "accent": "#2f5d8c",
    "good": "#1f7a68",
    "bad": "#b0532f",
    "unsure": "#8a6b1a",
}
"""Colours by their role; the page swaps them for `DARK` where the reader prefers a dark screen."""

DARK = {
    "paper": "#14171c",
    "card": "#1b1f26",
    "ink": "#e6e4de",
    "quiet": "#98a1ae",
    "line": "#2c323b",
    "grey": "#6b7481",
    "accent": "#7fb0e0",
    "good": "#5cc2a8",
    "bad": "#e08e66",
    "unsure": "#d1ae56",
}

STRATEGY_COLOURS = {
    "flat": LIGHT["line"],
    "held_long": LIGHT["grey"],
    "trend": "#7d8fb3",
    "mean_reversion": "#b99ac0",
    "model_signal": LIGHT["accent"],
    "consensus_signal": "#4d9aa8",
    "ensemble_signal": LIGHT["good"],
}

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_LEGEND = {
    "orientation": "h",
    "x": 0,
    "y": 1,
    "xanchor": "left",
    "yanchor": "bottom",
    "font": {"color": LIGHT["quiet"], "size": 12},
}


def _axis(**more: Any) -> Data:
    return {
        "showgrid": False,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "tickfont": {"color": LIGHT["quiet"], "size": 12},
        "title": {
            "font": {"color": LIGHT["quiet"], "size": 12},
            "text": more.pop("label", None),
            "standoff": 8,
        },
        "gridcolor": LIGHT["line"],
        "automargin": True,
        "ticklabelstandoff": 6,
        **more,
    }


def _value_axis(**more: Any) -> Data:
    return _axis(**{"showgrid": True, "nticks": 6, **more})


def _wealth_axis(*series: list[float | None], **more: Any) -> Data:
    """A log axis with ticks at round numbers: even steps where wealth moved little, else 1, 2, 5, 10, ..."""
    values = [v for line in series for v in line if v is not None and v > 0] or [1.0]
    low, high = min(values), max(values)
    decades = 10.0 ** np.arange(-8, 9)
    if high / low > 4:
        ticks = np.sort(np.outer([1, 2, 5], decades).ravel())
    else:
        rough = max(high - low, 0.01 * low) / 5
        step = min((n * d for n in (1, 2, 5) for d in decades if n * d >= rough), default=rough)
        ticks = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step
    shown = [float(f"{t:.4g}") for t in ticks if t > 0 and low / 1.02 <= t <= high * 1.02]
    return _value_axis(type="log", side="right", tickvals=shown, ticktext=[f"{t:g}" for t in shown], **more)


def _figure(traces: list[Data], height: int, **layout: Any) -> Any:
    import plotly.graph_objects as go

    return go.Figure(
        data=traces,
        layout={
            "template": "none",
            "height": height,
            "font": {"family": _FONT, "size": 13, "color": LIGHT["ink"]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
            "hovermode": "x unified",
            "hoverlabel": {
                "bgcolor": LIGHT["card"],
                "bordercolor": LIGHT["line"],
                "font": {"color": LIGHT["ink"]},
            },
            "legend": _LEGEND,
            **layout,
        },
    )


def _line(x: list[Any], y: list[Any], name: str, colour: str, width: float = 1.6, **more: Any) -> Data:
    line = {"color": colour, "width": width, **more.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": escape(name), "line": line, **more}


def colour_of(strategy: str) -> str:
    """Of a strategy, in the pictures of which one was in force."""
    return STRATEGY_COLOURS.get(FORMER_NAMES.get(strategy, strategy), LIGHT["unsure"])


def _panel_title(text: str, y: float) -> Data:
    return {
        "text": text,
        "x": 0,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": LIGHT["quiet"]},
    }


_SERIES_COLOURS = (LIGHT["good"], LIGHT["accent"])


def _draw_binned(data: Data, label_x: str, label_y: str, form: str, **layout: Any) -> Any:
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": escape(s["title"]),
            "x": s["forecast"],
            "y": s["actual"],
            "error_y": {"array": s["error"], "thickness": 1.2, "width": 0, "color": colour + "88"},
            "marker": {"size": 8, "color": colour},
            "customdata": s["n"],
            "hovertemplate": f"forecast %{{x:{form}}}, outcome %{{y:{form}}} (%{{customdata}} forecasts)",
        }
        for s, colour in zip(data["series"], _SERIES_COLOURS, strict=False)
    ]
    points = [v for s in data["series"] for v in s["forecast"] if v is not None]
    if points:
        ends = [min(points), max(points)]
        traces.insert(0, _line(ends, ends, "as forecast", LIGHT["grey"], 1, line={"dash": "dot"}, hoverinfo="skip"))
    return _figure(
        traces,
        340,
        hovermode="closest",
        xaxis=_axis(label=label_x, tickformat=form),
        yaxis=_value_axis(label=label_y, tickformat=form, **layout),
    )


def draw_returns(data: Data) -> Any:
    """Bin means of the outcome over bin means of the forecast, with two standard errors."""
    return _draw_binned(data, "forecast, s.d.", "outcome, s.d.", ".2f", zeroline=True, zerolinecolor=LIGHT["line"])


def draw_reliability(data: Data) -> Any:
    """The reliability diagram: the share that rose over the probability that was given."""
    return _draw_binned(data, "P(rise)", "share that rose", ".0%")


def draw_volatility(data: Data) -> Any:
    """Forecast volatility over realised volatility, over time."""
    lines = [_line(data["time"], data["realised"], "realised", LIGHT["grey"], 1)]
    looks = ((LIGHT["accent"], 1.8), (LIGHT["bad"] + "aa", 1))
    for s, (colour, width) in reversed(list(zip(data["series"], looks, strict=False))):
        lines.append(_line(data["time"], s["volatility"], s["title"], colour, width))
    return _figure(
        lines,
        340,
        xaxis=_axis(type="date"),
        yaxis=_value_axis(tickformat=".0%", hoverformat=".1%", rangemode="tozero"),
    )


def draw_coverage(data: Data) -> Any:
    """Coverage by year, a line a level; the level itself dotted, five points around it shaded."""
    traces, colours = [], (LIGHT["accent"], LIGHT["good"], LIGHT["grey"])
    ends = [min(min(one["year"]) for one in data["series"]), max(max(one["year"]) for one in data["series"])]
    for one, colour in zip(data["series"], colours, strict=False):
        level = one["level"]
        low, high = level - 0.05, min(level + 0.05, 1.0)
        around = _line([*ends, *ends[::-1]], [high, high, low, low], "", "#0000", 0, showlegend=False, hoverinfo="skip")
        traces.append({**around, "fill": "toself", "fillcolor": colour + "1a"})
        dots = {"dash": "dot"}
        traces.append(_line(ends, [level] * 2, "", colour, 1, line=dots, showlegend=False, hoverinfo="skip"))
        line = _line(one["year"], one["coverage"], f"{100 * level:g} % interval", colour, 1.8)
        traces.append({**line, "mode": "lines+markers", "marker": {"color": colour, "size": 5}})
    return _figure(traces, 320, xaxis=_year_axis(ends), yaxis=_value_axis(tickformat=".0%", hoverformat=".1%"))


def _year_axis(ends: Sequence[int]) -> Data:
    """An axis with whole years alone, a dozen marks at most."""
    return _axis(tickformat="d", tick0=ends[0], dtick=max(1, -(-(ends[1] - ends[0]) // 12)))


def draw_wealth(data: Data) -> Any:
    """Three panels over one time axis: wealth (log scale), drawdown, costs added up."""
    x = data["time"]
    return _figure(
        [
            _line(x, data["benchmark"], "benchmark, bought and held", LIGHT["grey"]),
            _line(x, data["gross"], "before costs", LIGHT["good"], 1, line={"dash": "dot"}),
            _line(x, data["net"], "net of costs", LIGHT["good"], 2),
            _line(
                x,
                data["benchmark_drawdown"],
                "benchmark drawdown",
                LIGHT["grey"],
                1,
                yaxis="y2",
                showlegend=False,
            ),
            _line(
                x,
                data["drawdown"],
                "drawdown",
                LIGHT["good"],
                1.2,
                yaxis="y2",
                showlegend=False,
                fill="tozeroy",
                fillcolor=LIGHT["good"] + "22",
            ),
            _line(x, data["costs"], "costs so far", LIGHT["bad"], 1.4, yaxis="y3", showlegend=False),
        ],
        560,
        xaxis=_axis(type="date", anchor="y3"),
        yaxis=_wealth_axis(data["net"], data["gross"], data["benchmark"], domain=[0.46, 1], hoverformat=".3f"),
        yaxis2=_value_axis(domain=[0.2, 0.39], side="right", tickformat=".0%", hoverformat=".1%", nticks=4),
        yaxis3=_value_axis(
            domain=[0, 0.13],
            side="right",
            tickformat=".2~%",
            hoverformat=".2%",
            nticks=3,
            rangemode="tozero",
            range=None if any(data["costs"]) else [0, 0.01],  # else plotly shows 0 to 100 % where nothing was paid
        ),
        annotations=[_panel_title("drawdown", 0.39), _panel_title("costs so far, share of wealth", 0.13)],
    )


_SIZED_LOOKS = (
    ("#d17a00", 1.4, "12px,4px"),
    ("#8e6bb0", 1.4, "5px,2px,1px,2px"),
    ("#5b8fd9", 1.6, "6px,2px"),
    (LIGHT["ink"], 1.2, "dot"),
    (LIGHT["good"], 2.4, "solid"),
)
_BOOK_LOOKS = dict(zip(SIZED_BY, _SIZED_LOOKS, strict=True)) | {
    TILTED: (LIGHT["good"], 1.6, "9px,3px,2px,3px,2px,3px"),
    BOUGHT: (LIGHT["grey"], 1.6, "12px,3px,2px,3px"),
    CASH: (LIGHT["unsure"], 1.4, "2px,6px"),
}
"""Line of the book -> its colour, width and dashes: no two dashes are the same, colours differ to the colour-blind."""


def draw_book(data: Data) -> Any:
    """Equity of the lines of the book over time, log scale, gatecast's on top and first in the legend."""
    other = (LIGHT["grey"], 1.0, "dash")
    looks = [(one, *_BOOK_LOOKS.get(one["line"], other)) for one in data["series"]]
    return _figure(
        [
            _line(data["day"], one["equity"], one["title"], colour, width, line={"dash": dash})
            for one, colour, width, dash in looks
        ],
        460,
        xaxis=_axis(type="date"),
        yaxis=_wealth_axis(*(one["equity"] for one in data["series"]), hoverformat=".3f"),
        legend=_LEGEND | {"traceorder": "reversed", "y": -0.1, "yanchor": "top"},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )


def draw_rolling(data: Data) -> Any:
    """The rolling Sharpe ratio of a record, and of what it is compared with."""
    names = data["names"]
    own = _line(data["day"], data["own"], names["own"], LIGHT["good"], 2)
    beside = [_line(data["day"], data["beside"], names["beside"], LIGHT["grey"], 1.2)] if data["beside"] else []
    axis = _value_axis(hoverformat=".2f", zeroline=True, zerolinecolor=LIGHT["grey"])
    return _figure([*beside, own], 300, xaxis=_axis(type="date"), yaxis=axis)


def draw_years(data: Data) -> Any:
    """Returns by calendar year, of a record and of what it is compared with."""
    bars = [
        {"type": "bar", "x": data["year"], "y": data[one], "name": escape(data["names"][one]),
         "marker": {"color": colour, "line": {"width": 0}}}
        for one, colour in (("own", LIGHT["good"]), ("beside", LIGHT["grey"])) if data[one]
    ]  # fmt: skip
    axis = _value_axis(tickformat=".0%", hoverformat=".1%", zeroline=True, zerolinecolor=LIGHT["grey"])
    return _figure(bars, 300, bargap=0.3, xaxis=_year_axis([data["year"][0], data["year"][-1]]), yaxis=axis)


def draw_strategies(data: Data) -> Any:
    """Stacked shares by year, in the ribbon's colours, flat at the bottom."""
    order = list(STRATEGY_COLOURS)
    return _figure(
        [
            {
                "type": "bar",
                "x": data["year"],
                "y": s["share"],
                "name": escape(data["titles"].get(s["strategy"], named(s["strategy"]))),
                "marker": {
                    "color": colour_of(s["strategy"]),
                    "line": {"width": 0},
                },
            }
            for s in sorted(
                data["series"],
                key=lambda s: order.index(s["strategy"]) if s["strategy"] in order else len(order),
            )
        ],
        420,
        barmode="stack",
        bargap=0.25,
        xaxis=_year_axis([min(data["year"]), max(data["year"])]),
        yaxis=_value_axis(tickformat=".0%", hoverformat=".0%", range=[0, 1]),
    )


def draw_bunching(data: Data) -> Any:
    """Shares by bar number with their mean: level bars mean that signals do not bunch on refits."""
    mean = sum(data["share"]) / len(data["share"])
    ends = [data["bar"][0] - 0.5, data["bar"][-1] + 0.5]
    return _figure(
        [
            {
                "type": "bar",
                "x": data["bar"],
                "y": data["share"],
                "name": "bars with a signal",
                "showlegend": False,
                "marker": {"color": LIGHT["accent"] + "99"},
            },
            _line(ends, [mean, mean], "average", LIGHT["quiet"], 1, line={"dash": "dot"}, hoverinfo="skip"),
        ],
        280,
        bargap=0.3,
        xaxis=_axis(label="bars since the refit", dtick=2 if len(data["bar"]) < 40 else None),
        yaxis=_value_axis(tickformat=".0%", hoverformat=".1%", rangemode="tozero"),
    )


def draw_control(data: Data) -> Any:
    """Wealth on the planted market, small."""
    return _figure(
        [
            _line(data["time"], data["benchmark"], "benchmark, bought and held", LIGHT["grey"]),
            _line(data["time"], data["net"], "net of costs", LIGHT["good"], 2),
        ],
        230,
        xaxis=_axis(nticks=5),
        yaxis=_wealth_axis(data["net"], data["benchmark"], hoverformat=".3f"),
    )


def draw_selection(data: Data) -> Any:
    """A bar a feature, the largest on top, and a whisker over the refits; one colour an asset class."""
    whiskers = [
        {
            "type": "data",
            "symmetric": False,
            "array": [high - mean for high, mean in zip(one["high"], one["mean"], strict=True)],
            "arrayminus": [mean - low for low, mean in zip(one["low"], one["mean"], strict=True)],
            "color": LIGHT["quiet"],
            "thickness": 1,
            "width": 3,
        }
        for one in data["series"]
    ]
    return _draw_shares(data, "feature", "mean", named, [{"error_x": whisker} for whisker in whiskers])


def draw_tuning(data: Data) -> Any:
    """A bar a setting that was searched for, the one that mattered most on top; one colour an asset class."""
    return _draw_shares(data, "setting", "share", setting_named, [{} for _ in data["series"]])


def _draw_shares(data: Data, what: str, share: str, word: Callable[[str], str], more: list[Data]) -> Any:
    colours = (LIGHT["accent"], LIGHT["good"], LIGHT["unsure"], LIGHT["bad"])
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [escape(word(name)) for name in one[what]],
            "x": one[share],
            "name": escape(named(one["asset_class"])),
            "showlegend": len(data["series"]) > 1,
            "marker": {"color": colours[place % len(colours)] + "99"},
            **own,
        }
        for place, (one, own) in enumerate(zip(data["series"], more, strict=True))
    ]
    return _figure(
        traces,
        80 + 28 * sum(len(one[what]) for one in data["series"]),
        hovermode="closest",
        bargap=0.35,
        xaxis=_axis(tickformat=".0%", hoverformat=".1%", rangemode="tozero"),
        yaxis=_axis(autorange="reversed"),
    )


def draw_cadences(data: Data) -> Any:
    """A panel a head: what each cadence saves of the loss of a fit that is never renewed, over what it costs."""
    traces: list[Data] = []
    layout: Data = {}
    colours = (LIGHT["accent"], LIGHT["good"], LIGHT["unsure"], LIGHT["grey"], LIGHT["bad"])
    rows = -(-len(data) // 2)
    for place, (head, points) in enumerate(data.items()):
        axis = "" if place == 0 else str(place + 1)
        left, top = place % 2 * 0.55, 1 - place // 2 / rows
        below = top - 0.72 / rows
        for point, colour in zip(points, colours, strict=True):
            gain = 100 * point["gain"]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [point["cost"]],
                    "y": [gain],
                    "name": escape(point["cadence"]),
                    "legendgroup": point["cadence"],
                    "showlegend": place == 0,
                    "xaxis": f"x{axis}",
                    "yaxis": f"y{axis}",
                    "marker": {"color": colour, "size": 9},
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [100 * point["high"] - gain],
                        "arrayminus": [gain - 100 * point["low"]],
                        "color": colour,
                        "thickness": 1.4,
                    },
                    "hovertemplate": "cost %{x:.1f}, gain %{y:.2f} %<extra>%{fullData.name}</extra>",
                }
            )
        label = f"{escape(named(head))}: gain, % of the loss"
        layout[f"xaxis{axis}"] = _axis(
            label="epochs, times those of one fit", type="log", domain=[left, left + 0.45], anchor=f"y{axis}"
        )
        layout[f"yaxis{axis}"] = _value_axis(label=label, zeroline=True, domain=[below, top], anchor=f"x{axis}")
    return _figure(traces, 340 * rows, hovermode="closest", **layout)


_OF_COURSE: dict[str, Callable[[Data], Any]] = {"years": draw_years, "rolling": draw_rolling}
DRAWINGS: dict[str, Callable[[Data], Any]] = {
    "control": draw_control,
    "returns": draw_returns,
    "reliability": draw_reliability,
    "volatility": draw_volatility,
    "coverage": draw_coverage,
    "book": draw_book,
    "wealth": draw_wealth,
    **{f"{what}_{name}": draw for name in ("book", "strategies") for what, draw in _OF_COURSE.items()},
    "strategies": draw_strategies,
    "bunching": draw_bunching,
    "selection": draw_selection,
    "tuning": draw_tuning,
}
"""Name -> data to plotly figure, in the order of the page; the charts of symbols are drawn by `report.js`."""
