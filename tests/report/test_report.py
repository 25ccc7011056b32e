"""The report: what it says, that it says it offline, and that hostile or missing parts do no harm."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.files import jsonable
from gatecast.metrics.returns import max_drawdown
from gatecast.report import candles, drawing, figures, render, render_data, report_data, scripts
from gatecast.report.course import DEEPEST
from gatecast.report.scorecard import (
    as_good,
    dumbbell,
    evidence_rows,
    interval_plot,
    placed,
    scorecard,
    shrinkage_words,
    trial_rows,
)
from gatecast.report.scripts import plotly_script
from gatecast.report.words import number, percent
from gatecast.trading.signals import SignalSettings
from tests.report.fakes import FakeExperiment, FakeRun

HORIZON = 5


def market(symbols: list[str], n: int, seed: int) -> pl.DataFrame:
    """Weekday bars of a GARCH-like walk."""
    random = np.random.default_rng(seed)
    days = [datetime(2008, 1, 1, 21, tzinfo=UTC) + timedelta(days=d) for d in range(int(n * 1.5))]
    days = [day for day in days if day.weekday() < 5][:n]
    frames = []
    for symbol in symbols:
        volatility = 0.01 * np.exp(np.convolve(random.normal(0, 0.12, n), 0.985 ** np.arange(200))[:n])
        ret = volatility * random.standard_normal(n) + 0.0002
        close = 1000 * np.exp(np.cumsum(ret))
        opens = np.r_[1000, close[:-1]] * np.exp(0.2 * volatility * random.standard_normal(n))
        high, low = (np.abs(0.5 * volatility * random.standard_normal(n)) for _ in range(2))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": symbol,
                    "asset_class": "index",
                    "time": days,
                    "open": opens,
                    "high": np.maximum(opens, close) * np.exp(high),
                    "low": np.minimum(opens, close) * np.exp(-low),
                    "close": close,
                    "volume": random.lognormal(14, 0.3, n),
                    "known_at": days,
                    "segment": 0,
                    "true_volatility": volatility,
                },
                schema_overrides={
                    "time": pl.Datetime("us", "UTC"),
                    "known_at": pl.Datetime("us", "UTC"),
                    "segment": pl.Int32,
                },
            )
        )
    return pl.concat(frames)


def fake_forecasts(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    n = bars.height
    after = figures.outcomes(bars, HORIZON)["ret_log"].fill_null(0).to_numpy()
    variance = HORIZON * bars["true_volatility"].to_numpy() ** 2
    keys = bars.select("symbol", "time", known_at="time")
    frames = []

    def add(model: str, head: str, step: int, value: np.ndarray) -> None:
        frames.append(
            keys.with_columns(
                model=pl.lit(model), head=pl.lit(head), step=pl.lit(step, pl.Int32), value=pl.Series(value)
            )
        )

    for model in ("lstm", "forest", "ridge", "ensemble"):
        size = 0.004 * random.standard_normal(n) + 0.05 * after
        for step in range(1, HORIZON + 1):
            add(model, "return", step, size * step / HORIZON)
    add("ensemble", "return_simple", HORIZON, np.expm1(size + variance / 2))
    for model in ("lstm", "logistic", "ensemble", "base_rate"):
        score = 4 * after + random.normal(0, 0.2, n)
        add(model, "direction", HORIZON, 1 / (1 + np.exp(-score - 0.2)))
    for model in ("lstm", "har", "ensemble"):
        add(model, "volatility", HORIZON, variance * random.lognormal(0, 0.2, n))
    for model in ("lstm", "logistic"):
        add(model, "regime", HORIZON, random.uniform(0, 1, n))
    return pl.concat(frames).select("symbol", "time", "model", "head", "step", "value", "known_at")


VERDICTS: dict[str, dict[str, Any]] = {
    "return": {
        "verdict": "cannot tell",
        "effect": 0.0004,
        "low": -0.0021,
        "high": 0.0029,
        "test": "Clark-West",
        "pvalue": 0.31,
        "pvalue_holm": 0.93,
        "rival": "mean",
        "sentence": "The LSTM's return forecasts are no better than the historical mean as far as 2,400 "
        "days can show; about 31,000 days would be needed.",
    },
    "direction": {
        "verdict": "nothing worth trading",
        "effect": -0.0003,
        "low": -0.0011,
        "high": 0.0005,
        "test": "Pesaran-Timmermann",
        "pvalue": 0.64,
        "pvalue_holm": 1.0,
        "rival": "base_rate",
        "sentence": "Even at the upper end of the interval the gain would not pay the costs.",
    },
    "volatility": {
        "verdict": "evidence of skill",
        "effect": 0.0214,
        "low": 0.0083,
        "high": 0.0345,
        "test": "Diebold-Mariano",
        "pvalue": 0.0007,
        "pvalue_holm": 0.0035,
        "rival": "har",
        "sentence": "Volatility forecasts beat the log-HAR, refitted monthly on the same bars.",
    },
    "regime": {
        "verdict": "cannot tell",
        "effect": 0.0011,
        "low": -0.0049,
        "high": 0.0071,
        "test": "Diebold-Mariano",
        "pvalue": 0.36,
        "pvalue_holm": 0.93,
        "rival": "threshold",
        "sentence": "No better than the distance to the threshold alone.",
    },
    "strategy": {
        "verdict": "cannot tell",
        "effect": 0.11,
        "low": -0.32,
        "high": 0.54,
        "test": "deflated Sharpe",
        "pvalue": 0.4,
        "pvalue_holm": 0.93,
        "rival": "buy and hold at the same average exposure",
        "sentence": "Net of costs the book did no better than holding at the same average exposure.",
    },
}
for _verdict in VERDICTS.values():
    _verdict |= {
        "n": 2400,
        "trials": 3,
        "horizon": HORIZON,
        "unit": "share of the rival's loss",
        "n_needed": None,
    }

VERDICTS["volatility"] |= {
    "pvalue_trials": 0.0049,
    "effective_trials": 1.4,
    "n_effective": 812.4,
    "detectable": 0.0123,
    "n_needed": 611,
    "break_even": 0.0,
    "diebold_mariano": 0.0011,
    "non_overlapping": 0.0303,
    "best_days": 0.37,
    "best_year": 2010,
    "without_best_year": 0.0067,
    "survives": False,
    "seed_spread": 0.0031,
    "simpler": "ridge",
    "pvalue_watched": 0.0213,
}
VERDICTS["return"] |= {"detectable": 0.0026, "break_even": 0.0012, "n_break_even": 54_836_103, "n_needed": 31_000}

LEAK = "features: the column 'peek' explains 96% of the next bar's return: is it joined one row early?"
AUDIT: dict[str, Any] = {
    "clean": True,
    "guilty": [],
    "findings": [],
    "consequences": [],
    "checked": ["features at 2 cuts, with the future removed"],
    "not_checked": ["survivorship"],
}
SEALED: dict[str, Any] = {
    "first": "2017-01-01",
    "opened": [],
    "seen": 0,
    "heads": [],
    "sentence": "Sessions from 2017-01-01 on are sealed: this run has not read them.",
}
OPENED: dict[str, Any] = {
    "first": "2017-01-01",
    "last": "2018-12-31",
    "years": 2.0,
    "heads": [
        {
            "head": "volatility",
            "rival": "har",
            "unit": "share of the rival's loss",
            "before": 0.05,
            "before_low": 0.02,
            "before_high": 0.08,
            "n_before": 2400,
            "after": 0.031,
            "after_low": -0.012,
            "after_high": 0.074,
            "n_after": 500,
            "shrinkage": 0.38,
            "sentence": "38 % of it is gone; the hold-out is too short to tell.",
        }
    ],
    "sharpe": {"before": 0.61, "after": 0.24, "error": 0.71},
    "opened": ["2026-01-02T03:04:05+00:00"],
    "seen": 2,
    "same_past": 1.0,
    "sentence": "2.0 years are weak evidence: an annual Sharpe ratio measured over them has a standard error of 0.71.",
}
HONEST: dict[str, Any] = {
    "trials": {
        "count": 12,
        "effective": 4.26,
        "with_profit": 12,
        "best_of": {"statistic": 1.9, "pvalue": 0.27, "reason": ""},
    },
    "illusions": {
        "best_of": {
            "model": "forest",
            "hit_rate": 0.531,
            "models": 5,
            "tries": 4.26,
            "independent": 480,
            "coins": 0.546,
            "always_up": 0.537,
        },
        "overlap": {"sessions": 5, "naive": 0.0021, "diebold_mariano": 0.182, "non_overlapping": 0.244},
        "levels": {"forecast_price": 0.9982, "todays_price": 0.9979, "change": 0.0312},
    },
    "holdout": SEALED,
    "audit": AUDIT,
    "many": {
        "volatility": {
            "models": [
                {"model": "har", "gain": 0.0, "pvalue_best": 0.31, "can_be_best": True, "beats_rival": False},
                {"model": "lstm", "gain": 0.0214, "pvalue_best": 1.0, "can_be_best": True, "beats_rival": True},
                {"model": "ewma", "gain": -0.21, "pvalue_best": 0.01, "can_be_best": False, "beats_rival": False},
            ],
            "rival": "har",
            "pvalue_spa": 0.021,
            "sentence": "The LSTM and the log-HAR can be the best.",
        }
    },
}
DEFLATION = {"probabilistic_sharpe": 0.914, "deflated_sharpe": 0.442, "min_track_record_bars": 4321.4}


def fake_run(symbols: list[str] | None = None, n: int = 900, seed: int = 7) -> FakeRun:
    symbols = ["NASDAQ", "SP500"] if symbols is None else symbols
    random = np.random.default_rng(seed)
    bars = market(symbols, n, seed)
    forecasts = fake_forecasts(bars, seed)
    rows = bars.height
    z = random.standard_normal(rows)
    names = ["flat", "held_long", "trend", "model_signal", "ensemble_signal"]
    signal = np.sign(z) * (np.abs(z) > 1)
    evidence = np.clip(np.linspace(0, 0.5, rows), 0, 1)
    block = np.random.default_rng(seed + 1).choice(len(names), rows // 20 + 1, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    strategy = np.array(names)[np.repeat(block, 20)[:rows]]
    weight = np.where(strategy == "flat", 0.0, np.where(strategy == "held_long", 0.3, 0.4 * signal))
    keys = bars.select("symbol", "time")
    signals = keys.with_columns(
        z=pl.Series(z),
        signal=pl.Series(signal.astype(np.int8)),
        consensus=pl.Series(np.abs(z) > 1.6),
        strategy=pl.Series(strategy),
        evidence=pl.Series(evidence),
        reason=pl.lit("expected move 0.04 % is below the round trip's 0.10 %"),
    )
    days = bars.filter(pl.col("symbol") == symbols[0])
    simple = days["close"].pct_change().fill_null(0).to_numpy()
    gross = 0.3 * simple + 0.00005
    net = gross - 0.00004 * random.uniform(0, 2, len(gross))
    equity = days.select(
        "time",
        gross=pl.Series(gross),
        net=pl.Series(net),
        equity=pl.Series(np.cumprod(1 + net)),
        benchmark=pl.Series(np.cumprod(1 + simple)),
    )
    control = equity.select(
        "time", equity=pl.Series(np.cumprod(1.0006 + 0.3 * net)), benchmark=pl.Series(np.cumprod(1 + simple))
    )
    scores = {
        **HONEST,
        "verdicts": VERDICTS,
        "summary": {
            "headline": "Volatility can be forecast; direction cannot be traded",
            "subline": "Over nine years the volatility forecasts beat the log-HAR. Returns and direction "
            "show nothing that would pay its costs, so the book stays small.",
        },
        "models": [
            {
                "model": m,
                "head": "return",
                "step": HORIZON,
                "r2_zero": a,
                "r2_mean": a - 0.001,
                "hit_rate": 0.5 + a,
                "information_coefficient": 3 * a,
                "n": 4800,
            }
            for m, a in (
                ("lstm", -0.004),
                ("forest", 0.0012),
                ("ridge", -0.001),
                ("mean", 0.002),
                ("zero", 0.0),
            )
        ]
        + [
            {
                "model": m,
                "head": "direction",
                "step": HORIZON,
                "brier": b,
                "log_loss": b + 0.44,
                "hit_rate": 0.54,
                "n": 4800,
            }
            for m, b in (("ensemble", 0.2478), ("lstm", 0.2491), ("base_rate", 0.2476))
        ]
        + [
            {"model": m, "head": "volatility", "step": HORIZON, "qlike": q, "log_mse": 2.2 * q, "n": 4800}
            for m, q in (("lstm", 0.281), ("har", 0.302), ("ewma", 0.331))
        ],
        "years": [
            {
                "year": y,
                "head": "return",
                "model": m,
                "metric": "r2_zero",
                "value": float(random.normal(0, 0.01)),
            }
            for y in range(2009, 2012)
            for m in ("lstm", "forest", "mean")
        ],
        "backtest": {
            "tear_sheet": {
                "strategy": {"cagr": 0.021, "sharpe": 0.42, "max_drawdown": -0.083, "volatility": 0.051},
                "benchmark": {"cagr": 0.058, "sharpe": 0.39, "max_drawdown": -0.41, "volatility": 0.16},
            },
            "turnover_per_year": 11.4,
            "periods_per_year": 252.0,
            "break_even_cost_bps": 7.2,
            "cost_total": 0.036,
            "average_exposure": 0.24,
            **DEFLATION,
        },
        "strategies": [
            {
                "strategy": s,
                "share_of_bars": 0.2,
                "sharpe_net": float(random.normal(0.3, 0.2)),
                "total_net": 0.1,
            }
            for s in [*names, "equal weight of all strategies", "volatility-targeted long"]
        ],
        "signals": {
            "by_day_of_month_bar": {k: 0.3 + float(random.normal(0, 0.012)) for k in range(1, 24)},
            "consensus_share": 0.11,
        },
        "folds": [
            {
                "asset_class": "index",
                "refit": f"2010-{month:02}-01",
                "train rows": 504,
                "validation rows": 126,
                "test rows": 21,
            }
            for month in range(1, 13)
        ],
        "warnings": ["Out of sample for 3.4 years: under five years nothing can be said about rare events."],
        "fills": {s: {"fill": "close", "reason": "opens repeat the previous close"} for s in symbols},
        "features_left_out": {"index": [], "fx": ["volume_ratio_20"]},
        "control": {
            "name": "b1",
            "truth": "One feature explains 5 % of the next return's variance; attainable R² 0.050.",
            "verdicts": {
                "return": {"verdict": "evidence of skill"},
                "direction": {"verdict": "evidence of skill"},
                "volatility": {"verdict": "nothing worth trading"},
                "strategy": {"verdict": "evidence of skill"},
            },
            "sentence": "Where there is something to find, the same program finds it and trades it.",
            "equity": control.with_columns(pl.col("time").dt.to_string("iso")).to_dict(as_series=False),
        },
    }
    return FakeRun(
        experiment=FakeExperiment(
            settings={
                "bars": {"source": "embedded", "fill": "close"},
                "lstm": {"layers": 2, "units": 64, "lookback": 30, "dropout": 0.2, "seeds": 3},
                "schedule": {"train": "2Y", "refit": "1M", "expanding": False, "validation": 0.2},
                "costs": {"commission_bps": 1.0, "slippage_bps": 1.0, "borrow_rate": 0.005},
            }
        ),
        bars=bars.drop("true_volatility"),
        forecasts=forecasts,
        signals=signals,
        weights=keys.with_columns(weight=pl.Series(weight), book=pl.Series(weight / len(symbols))),
        equity=equity,
        scores=scores,
        provenance={
            "version": "0.1.0",
            "data_hash": "9f2c" * 16,
            "seed": 1,
            "libraries": {"torch": "2.13.0"},
        },
    )


class Tags(HTMLParser):
    """Every tag with its attributes, the text, and the scripts that would run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.data_blocks: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and attributes.get("type") == "application/json" and data.strip():
            self.data_blocks[str(attributes["id"])] = data
        elif tag == "script" and data.strip():
            self.scripts.append(data)
        elif tag != "style":
            self.texts.append(data)

    @property
    def drawings(self) -> dict[str, Any]:
        """What the page's script draws: figures, and the data of the charts of symbols."""
        found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(json.loads(self.data_blocks["drawings"]))))
        return found

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def run() -> FakeRun:
    return fake_run()


@pytest.fixture(scope="module")
def html(run: FakeRun) -> str:
    return render(run)


@pytest.fixture(scope="module")
def page(html: str) -> Tags:
    return Tags(html)


def test_page_says_the_verdict_first_and_in_words(run: FakeRun, page: Tags) -> None:
    assert page.text.index(run.scores["summary"]["headline"]) < page.text.index("Newest forecast of each")
    for verdict in VERDICTS.values():
        assert verdict["sentence"] in page.text
        assert verdict["verdict"].capitalize() in page.text
    control = run.scores["control"]
    places = [page.text.index(one) for one in ("Planted market b1", control["sentence"], control["truth"])]
    assert places == sorted(places)
    assert run.scores["warnings"][0] in page.text
    assert "9f2c" * 16 in page.text


def test_headline_without_a_summary_names_the_heads_with_skill(run: FakeRun) -> None:
    assert report_data(replace(run, scores={"verdicts": VERDICTS}))["headline"] == "Evidence of skill in volatility"
    none = {"return": VERDICTS["return"]}
    assert report_data(replace(run, scores={"verdicts": none}))["headline"] == "No evidence of skill"
    assert report_data(FakeRun())["headline"] == "No verdict"


def test_the_tab_is_named_for_the_run_first(run: FakeRun, html: str) -> None:
    assert f"<title>{escape(report_data(run)['name'])} · gatecast</title>" in html


def test_page_is_offline(html: str, page: Tags) -> None:
    assert html.count(plotly_script()) == 1
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    own = html.replace(plotly_script(), "")
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", own)
    assert "showSendToCloud: false" in own


def test_policy_forbids_connections_and_allows_exactly_the_pages_scripts(page: Tags) -> None:
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a) or ""
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    allowed = re.search(r"script-src ([^;]*);", policy)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in page.scripts
    ]
    assert allowed is not None
    assert len(hashes) == 2
    assert allowed[1].split() == hashes


def test_policy_allows_exactly_the_pages_style_sheet_and_the_empty_one_of_plotly(html: str, page: Tags) -> None:
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a) or ""
    sheets = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (*sheets, "")]
    found = re.search(r"style-src ([^;]*);", policy)
    assert found is not None
    assert len(sheets) == 1
    assert found[1].split() == hashes
    assert not any("style" in attributes for _, attributes in page.tags)


def test_plotly_is_as_it_was_published_with_its_license() -> None:
    folder = files("gatecast.report") / "templates"
    assert hashlib.sha256((folder / scripts.PLOTLY).read_bytes()).hexdigest() == scripts.PLOTLY_SHA256
    assert f"plotly.js (finance - minified) v{scripts.PLOTLY_VERSION}" in plotly_script()[:200]
    assert (folder / scripts.PLOTLY_LICENSE).read_text(encoding="utf-8").startswith("MIT License")


def lightness(colour: Sequence[float]) -> float:
    """The relative luminance of a colour (WCAG 2.1), channels from 0 to 1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    dark, light = sorted((lightness(one), lightness(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [drawing.LIGHT, drawing.DARK], ids=["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(colours: dict[str, str]) -> None:
    shown = {name: [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)] for name, text in colours.items()}
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)
    for role in ("ink", "quiet", "good", "bad", "unsure", "accent"):
        for ground in ("paper", "card"):
            assert contrast(shown[role], shown[ground]) >= 4.5, (role, ground)
    for role in ("good", "bad"):
        deepest = [DEEPEST / 100 * a + (1 - DEEPEST / 100) * b for a, b in zip(shown[role], shown["card"], strict=True)]
        assert contrast(shown["ink"], deepest) >= 4.5, role


def test_months_years_and_drawdowns_are_those_of_the_strategies(run: FakeRun, page: Tags) -> None:
    data = report_data(run)
    net, days = run.equity["net"].to_numpy(), run.equity["time"].dt.date()
    rows = data["course"]["strategies"]["months"]
    for row in rows:
        inside = (days.dt.year() == row["year"]).to_numpy()
        assert row["whole"] == pytest.approx(np.prod(1 + net[inside]) - 1, abs=1e-6)
        assert f"{100 * row['whole']:.1f}".replace("-", "−") in page.text
    assert data["figures"]["years_strategies"]["own"] == [
        one["whole"] for one in data["course"]["strategies"]["months"]
    ]
    worst = data["course"]["strategies"]["drawdowns"][0]
    assert worst["depth"] == pytest.approx(max_drawdown(net), abs=1e-6)
    assert worst["first"] in page.text
    still = replace(run, equity=run.equity.with_columns(net=pl.lit(0.0)))
    assert "strategies" not in report_data(still)["course"]  # nothing moved: nothing to show


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def test_hostile_text_stays_text(run: FakeRun, page: Tags) -> None:
    symbol = HOSTILE + "A"
    bad = fake_run([symbol, "__proto__"], n=120)
    bad = replace(
        bad,
        experiment=FakeExperiment(HOSTILE, settings={HOSTILE: {HOSTILE: [HOSTILE]}, "name": HOSTILE}),
        signals=bad.signals.with_columns(reason=pl.lit(HOSTILE), strategy=pl.lit(HOSTILE)),
        scores={
            **bad.scores,
            "verdicts": {HOSTILE: dict.fromkeys(VERDICTS["return"], HOSTILE)},
            "warnings": [HOSTILE],
            "summary": {"headline": HOSTILE, "subline": HOSTILE},
            "control": {**bad.scores["control"], "name": HOSTILE, "truth": {HOSTILE: HOSTILE}},
            "illusions": {"best_of": {**HONEST["illusions"]["best_of"], "model": HOSTILE}},
            "trials": {"count": 1, "effective": 1.0, "best_of": {"pvalue": None, "reason": HOSTILE}},
            "holdout": {**OPENED, "sentence": HOSTILE, "heads": [{**OPENED["heads"][0], "head": HOSTILE}]},
            "many": {HOSTILE: {"models": [{"model": HOSTILE, "gain": 0.1}], "rival": HOSTILE, "sentence": HOSTILE}},
        },
        provenance={HOSTILE: HOSTILE},
    )
    parsed = Tags(render(bad))
    assert [t for t, _ in parsed.tags].count("script") == [t for t, _ in page.tags].count("script")
    assert "img" not in {t for t, _ in parsed.tags}
    assert not [a for _, a in parsed.tags if any(name.startswith("on") for name in a)]
    drawn = parsed.drawings
    assert sorted(drawn["candles"]) == sorted([symbol, "__proto__"])
    names = [t.get("name", "") for figure in drawn["figures"].values() for t in figure.get("data", [])]
    assert names
    assert not [name for name in names if "<" in name]


def parts_missing() -> list[Any]:
    whole = fake_run(n=80)
    cases = [
        pytest.param(replace(whole, **{name: getattr(FakeRun(), name)}), id=f"no {name}")
        for name in ("bars", "forecasts", "signals", "weights", "equity", "scores", "provenance")
    ]
    cases += [
        pytest.param(replace(whole, scores={k: v for k, v in whole.scores.items() if k != key}), id=f"scores.{key}")
        for key in whole.scores
    ]
    bare = {"return": {"verdict": "cannot tell"}}
    return [
        *cases,
        pytest.param(replace(whole, scores={"verdicts": bare}), id="bare verdict"),
        pytest.param(replace(whole, forecasts=whole.forecasts.with_columns(value=pl.lit(float("nan")))), id="NaN"),
        pytest.param(replace(whole, forecasts=whole.forecasts.filter(pl.col("head") == "regime")), id="one head"),
        pytest.param(replace(whole, bars=whole.bars.head(1)), id="one bar"),
        pytest.param(FakeRun(), id="nothing"),
    ]


@pytest.mark.parametrize("run", parts_missing())
def test_missing_parts_show_nothing_and_harm_nothing(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatecast.report.offline.plotly_script", lambda: "/* plotly */")
    text = Tags(render(run)).text
    assert report_data(run)["headline"] in text
    assert not re.search(r"\b(nan|None|undefined|Undefined)\b", text)


def test_page_and_json_come_from_the_same_dictionary(run: FakeRun, html: str) -> None:
    line = json.dumps(report_data(run), allow_nan=False)
    assert render_data(json.loads(line)) == html


def test_of_many_refits_the_newest_of_each_class_are_shown_and_it_is_said(run: FakeRun, html: str) -> None:
    assert "All refits (12)" in html
    folds = [
        {"asset_class": name, "refit": f"{year}-{month:02}-01", "train": 504}
        for name in ("index", "fx")
        for year in range(2001, 2004)
        for month in range(1, 13)
    ]
    few = report_data(replace(run, scores=run.scores | {"folds": folds}))
    assert [fold for fold in few["folds"] if fold["asset_class"] == "fx"] == folds[-24:]
    assert "The newest refits of each asset class (48 of 72, which scores.json has)" in render_data(few)


def test_every_symbol_has_a_chart_and_the_page_stays_below_two_megabytes() -> None:
    many = fake_run([f"S{i:02}" for i in range(30)], n=700)
    html = render(many)
    assert len(html.encode()) < 2_000_000
    drawn = Tags(html).drawings["candles"]
    assert sorted(drawn) == sorted(many.bars["symbol"].unique())
    picks = [a["data-pick"] for t, a in Tags(html).tags if t == "button" and "data-pick" in a]
    assert picks == list(drawn)  # in one order, the strongest signal first
    newest = many.signals.sort("time").group_by("symbol").last()
    size = dict(newest.select("symbol", pl.col("z").abs()).iter_rows())
    assert [size[one] for one in picks] == sorted(size.values(), reverse=True)
    assert {len(one["time"]) for one in drawn.values()} == {candles.ALL_BARS // 30}


def test_outcomes_equal_numpy_and_never_cross_a_gap() -> None:
    bars = market(["A", "B"], 200, seed=3).with_columns(
        segment=(pl.int_range(pl.len()).over("symbol") >= 90).cast(pl.Int32)
    )
    after = figures.outcomes(bars, 4)
    first = bars.filter(pl.col("symbol") == "A", pl.col("segment") == 0)["close"].log().to_numpy()
    found = after.filter(pl.col("symbol") == "A").head(90)
    np.testing.assert_allclose(found["ret_log"][:86], first[4:] - first[:-4], rtol=1e-10)
    squares = np.diff(first) ** 2
    sums = np.array([squares[i : i + 4].sum() for i in range(86)])
    np.testing.assert_allclose(found["variance"][:86], sums, rtol=1e-9)
    assert found["ret_log"][86:].null_count() == 4
    assert found["variance"][86:].null_count() == 4
    spread = np.std(np.diff(first)[20:80], ddof=1) * 2
    np.testing.assert_allclose(found["scale"][80], spread, rtol=1e-9)


def test_binned_means_equal_pandas() -> None:
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(1)
    forecast = random.standard_normal(1000)
    actual = 0.3 * forecast + random.standard_normal(1000)
    means = figures.binned_means(pl.DataFrame({"time": range(1000), "forecast": forecast, "actual": actual}), step=5)
    bins = pd.DataFrame({"f": forecast, "a": actual}).groupby(pd.qcut(forecast, 10), observed=True)
    np.testing.assert_allclose(means["forecast"], bins["f"].mean(), rtol=1e-10)
    np.testing.assert_allclose(means["actual"], bins["a"].mean(), rtol=1e-10)
    np.testing.assert_allclose(means["error"], 2 * np.sqrt(5) * bins["a"].sem(), rtol=1e-10)


def test_a_days_symbols_count_once_in_the_error() -> None:
    random = np.random.default_rng(2)
    one = pl.DataFrame({"time": range(400), "forecast": 0.0, "actual": random.standard_normal(400)})
    copies = pl.concat([one] * 5)
    np.testing.assert_allclose(figures.binned_means(copies, 1)["error"], figures.binned_means(one, 1)["error"])


def test_wealth_equals_numpy_and_ends_on_the_last_bar(run: FakeRun) -> None:
    data = figures.wealth_data(run, most=100)
    assert data is not None
    assert len(data["time"]) <= 100
    equity = run.equity["equity"].to_numpy()
    top = np.maximum(np.maximum.accumulate(equity), 1.0)
    assert data["time"][-1] == f"{run.equity['time'][-1]:%Y-%m-%d}"
    assert data["net"][-1] == pytest.approx(equity[-1], rel=1e-4)
    assert data["gross"][-1] == pytest.approx(np.prod(1 + run.equity["gross"].to_numpy()), rel=1e-4)
    assert data["drawdown"][-1] == pytest.approx((equity / top - 1)[-1], rel=1e-3)
    assert data["costs"][-1] == pytest.approx((run.equity["gross"] - run.equity["net"]).sum(), rel=1e-3)


def test_fan_starts_at_the_newest_close_and_widens_with_the_root_of_time(run: FakeRun) -> None:
    data = candles.candles_data(run, "SP500")
    assert data is not None
    fan = data["fan"]
    assert fan["origin"] == len(data["time"]) - 1
    assert [one is None for one in data["z"]] == [one == 0 for one in data["signal"]]
    assert set(data["past"]["turbulent"]) <= {True, False, None}
    assert fan["step"] == list(range(HORIZON + 1))
    assert fan["path"][0] == fan["low_2"][0] == fan["high_2"][0] == data["close"][-1]
    newest = run.forecasts.filter(
        pl.col("symbol") == "SP500", pl.col("time") == pl.col("time").max(), pl.col("model") == "ensemble"
    )
    simple = newest.filter(pl.col("head") == "return_simple")["value"].item()
    path = newest.filter(pl.col("head") == "return").sort("step")["value"].to_numpy()
    close = run.bars.filter(pl.col("symbol") == "SP500")["close"][-1]
    variance = 2 * (np.log1p(simple) - path[-1])  # close to close: the simple return has half of it
    width = np.sqrt(variance * np.arange(1, HORIZON + 1) / HORIZON)
    assert fan["bands"] == ["± 1 s.d., close to close", "± 2 s.d., close to close"]
    np.testing.assert_allclose(fan["path"][1:], close * np.exp(path), rtol=1e-5)
    np.testing.assert_allclose(fan["low_2"][1:], close * np.exp(path - 2 * width), rtol=1e-5)
    np.testing.assert_allclose(fan["high_1"][1:], close * np.exp(path + width), rtol=1e-5)


def test_the_deviation_of_page_chart_and_row_is_one_close_to_close(run: FakeRun, page: Tags) -> None:
    ratio = 1.44  # of squared returns over the range proxy
    narrow = pl.when(pl.col("head") == "volatility").then(pl.col("value") / ratio).otherwise("value")
    proxied = replace(run, forecasts=run.forecasts.with_columns(value=narrow))
    assert candles.candles_data(proxied, "SP500") == candles.candles_data(run, "SP500")
    assert figures.volatility_data(proxied) == figures.volatility_data(run)
    rows, before = report_data(proxied)["newest"], report_data(run)["newest"]
    for row, same in zip(rows, before, strict=True):
        assert row["standard_deviation"] == same["standard_deviation"]
        newest = run.forecasts.filter(
            pl.col("symbol") == row["symbol"], pl.col("time") == pl.col("time").max(), pl.col("model") == "ensemble"
        )
        heads = dict(newest.sort("step").select("head", "value").iter_rows())
        expected = np.sqrt(2 * (np.log1p(heads["return_simple"]) - heads["return"]))
        assert row["standard_deviation"] == pytest.approx(expected, rel=1e-9)
        assert percent(row["standard_deviation"]) in page.text
    shown(page, "s.d., close to", "From close to close, annualised")


def test_volatility_forecast_and_realised_are_in_one_unit(run: FakeRun) -> None:
    bars = run.bars
    variance = figures.outcomes(bars, HORIZON)["variance"].fill_null(1e-4).to_numpy()
    keys = bars.select("symbol", "time", known_at="time")
    parts = [("return", 0.0 * variance), ("return_simple", np.expm1(variance / 2)), ("volatility", variance / 1.96)]
    perfect = pl.concat(
        keys.with_columns(
            model=pl.lit("ensemble"), head=pl.lit(head), step=pl.lit(HORIZON, pl.Int32), value=pl.Series(v)
        )
        for head, v in parts
    )
    data = figures.volatility_data(replace(run, forecasts=perfect))
    assert data is not None
    np.testing.assert_allclose(data["series"][0]["volatility"], data["realised"], rtol=2e-3)  # three digits are kept


def test_the_newest_row_says_whose_numbers_are_whose_and_what_says_nothing(run: FakeRun) -> None:
    newest = pl.col("time") == pl.col("time").max()
    first = pl.col("symbol") == "SP500"
    value = (
        pl.when(newest & first & (pl.col("head") == "direction") & (pl.col("model") == "ensemble")).then(0.601)
        .when(newest & first & (pl.col("head") == "direction") & (pl.col("model") == "base_rate")).then(0.6009)
        .when(newest & first & (pl.col("head") == "return")).then(0.0)
        .otherwise("value")
    )  # fmt: skip
    bearish = run.signals.with_columns(signal=pl.lit(-1, pl.Int8), z=pl.lit(-1.6))
    flat = replace(run, forecasts=run.forecasts.with_columns(value=value), signals=bearish)
    text = Tags(render(flat)).text
    assert "60.1 % not beyond the base rate, 60.1 %" in text
    assert "The base rate is the share of rises up to the refit." in text
    assert "The LSTM alone is bearish: the ensemble has no forecast beyond the base rate." in text
    row = next(row for row in report_data(flat)["newest"] if row["symbol"] == "SP500")
    assert not row["beyond_base_rate"]
    assert not row["probability_beyond_base_rate"]
    rises = pl.when(pl.col("head") == "return").then(0.02).when(pl.col("head") == "return_simple").then(0.0206)
    higher = pl.when(newest & first & pl.col("head").str.starts_with("return")).then(rises).otherwise("value")
    loud = replace(run, forecasts=run.forecasts.with_columns(value=higher), signals=bearish)
    assert "LSTM and ensemble disagree: the LSTM is bearish, the ensemble has " in Tags(render(loud)).text


def test_a_run_without_an_lstm_shows_none(run: FakeRun) -> None:
    """Everywhere on the page the model that gives the signal is the run's own."""
    own = replace(run.experiment, signals=SignalSettings(model="ridge", confirmed_by="logistic"), settings={})
    forecasts = run.forecasts.filter(pl.col("model") != "lstm")
    verdicts = {head: {**one, "seed_spread": None, "sentence": ""} for head, one in run.scores["verdicts"].items()}
    many, table = run.scores["many"], {"models": [], "sentence": "", "rival": "har"}
    rows = [row for row in run.scores["models"] if row["model"] != "lstm"]
    scores = {
        **run.scores, "verdicts": verdicts, "models": rows, "credit": [], "years": [], "selection": {},
        "many": dict.fromkeys(many, table),
    }  # fmt: skip
    provenance = {"version": "0.1.0"}
    bare = replace(run, experiment=own, forecasts=forecasts, scores=scores, provenance=provenance)
    page = Tags(render(bare))
    text, figures_shown = page.text, json.dumps(page.drawings)
    assert "LSTM" not in text
    assert "LSTM" not in figures_shown
    for words in ("Ridge regression", "from the ridge regression", "confirmed by the logistic regression"):
        assert words in text
    assert "ridge regression signal" in figures_shown


def test_the_benchmark_and_the_strategy_that_is_sized_have_names_of_their_own(run: FakeRun) -> None:
    text = said(run)
    assert "buy and hold" not in text.lower().replace("benchmark, buy and hold", "").replace(
        "buy and hold at the same", ""
    )
    assert "held long, sized by volatility" in text.lower()
    former = run.signals.with_columns(pl.col("strategy").replace({"held_long": "buy_and_hold"}))
    old = [{**row, "strategy": "buy_and_hold", "title": None} for row in run.scores["strategies"][:1]]
    page = render(replace(run, signals=former, scores={**run.scores, "strategies": old}))
    assert "buy_and_hold" not in page.split('id="figures"')[0]
    assert "Held long, sized by volatility" in Tags(page).text


def test_a_symbol_without_a_bar_today_shows_no_forecast(run: FakeRun) -> None:
    kept = (pl.col("symbol") == "SP500") | (pl.col("time") < pl.col("time").max() - pl.duration(days=3))
    parts = {name: getattr(run, name).filter(kept) for name in ("bars", "forecasts", "signals", "weights")}
    silent = replace(run, **parts)
    text = Tags(render(silent)).text
    assert text.count("no bar today") == len(run.bars["symbol"].unique()) - 1
    assert "nothing is forecast from today" in text


def test_the_page_says_what_the_lstm_alone_is_worth(run: FakeRun) -> None:
    rows = [
        {"model": model, "head": head, "step": HORIZON, "gain": gain, "loss": 1.0}
        for model, head, gain in (("lstm", "return", -0.0245), ("lstm", "regime", -0.796), ("ensemble", "regime", 0.03))
    ]
    text = said(run, models=rows)
    sentence = (
        "The LSTM alone, trained on the last 2 years, has a larger loss than the rival in every head: return 2.45 %, "
        "regime 79.6 %."
    )
    assert sentence in text
    assert text.index(sentence) < text.index("gain over the rival")
    assert (
        "Evidence of skill: volatility (ensemble of all models). In volatility, the ridge regression is not shown to "
        "be worse." in text
    )
    mixed = said(run, models=[{**rows[0], "gain": 0.01}, rows[1]])
    assert (
        "a smaller loss than the rival in return 1.00 % (not significant), and a larger one in regime 79.6 %" in mixed
    )
    table = {"return": {"models": [{"model": "lstm", "gain": 0.01, "beats_rival": True}], "rival": "mean"}}
    assert "in return 1.00 %, and" in said(run, models=[{**rows[0], "gain": 0.01}, rows[1]], many=table)


@pytest.mark.parametrize("word", ["too good: look for a leak", "void: column my_x leaks", "some new word"])
def test_verdicts_that_the_page_does_not_know_are_shown_as_they_are(run: FakeRun, word: str) -> None:
    verdicts = {**VERDICTS, "return": {**VERDICTS["return"], "verdict": word}}
    control = {**run.scores["control"], "verdicts": {"return": {"verdict": word}}}
    parsed = Tags(render(replace(run, scores={**run.scores, "verdicts": verdicts, "control": control})))
    assert parsed.text.count(word[0].upper() + word[1:]) == 2
    colour = "unclear" if word.startswith("some") else "wrong"
    assert ("div", {"class": f"verdict {colour}"}) in parsed.tags
    assert ("Void until the cause is found." in parsed.text) == (not word.startswith("some"))


def test_gains_over_yardstick_and_best_simple_model_are_shown_where_they_are_known(run: FakeRun) -> None:
    more = {
        "plain": "har", "plain_gain": 0.118, "plain_low": 0.07, "plain_high": 0.16,
        "simple": "har_smooth", "simple_gain": -0.011, "simple_low": -0.03, "simple_high": 0.012,
    }  # fmt: skip
    verdicts = {**VERDICTS, "volatility": {**VERDICTS["volatility"], **more}}
    text = said(run, verdicts=verdicts)
    assert "+11.8 % (+7.0 % to +16.0 %) over the log-HAR" in text
    assert "−1.1 % (−3.0 % to +1.2 %) over the HAR of smoothed variances" in text
    assert "Simpler, not shown to be worse: the HAR of smoothed variances." in text
    assert as_good({**VERDICTS["volatility"], **more, "simple_low": 0.001}) == ""


def test_delays_and_ends_have_one_unit_a_column(run: FakeRun) -> None:
    """Percentages with the same digits, never a bare share beside them; nothing where there was nothing."""
    ends = {
        "known": 1, "default": 2, "vendor": 0, "returned": 0,
        "total_return": {"strategy": -0.12345, "benchmark": 0.5},
        "total_return_without_default": {"strategy": 0.001, "benchmark": 1.0 / 3},
    }  # fmt: skip
    later = [
        {"head": "return", "bars": 1, "effect": 0.00012, "low": -0.003, "high": 0.1, "pvalue": 0.31234, "n": 2399,
         "lives": False},
        {"head": "strategy", "bars": 3, "effect": 0.05, "low": 0.01, "high": 0.09, "pvalue": 0.002, "n": 2399,
         "lives": True},
    ]  # fmt: skip
    text = said(run, backtest={**run.scores["backtest"], "ends": ends}, one_bar_later=later)
    for words in (
        "with the default loss of the class: the last return is unknown 2", "−12.3 % +0.1 %", "+50.0 % +33.3 %",
        "return 1 +0.04 % +0.01 % −0.30 % to +10.00 % 0.312 2,399 no",  # at once is the verdict's own
        "strategy 3 +11.00 % +5.00 % +1.00 % to +9.00 % 0.002 2,399 yes",
    ):  # fmt: skip
        assert words in " ".join(text.split())
    assert "0.12345" not in text
    plain = said(run, backtest=run.scores["backtest"])
    assert "Gains with delayed decisions" not in plain
    assert "Symbols that ended" not in plain
    assert "With default losses" not in said(run, backtest={"ends": {**ends, "default": 0}})


def test_signals_are_traded_only_where_the_book_is_on_the_signals_side() -> None:
    bars = market(["A"], 60, seed=5)
    keys = bars.select("symbol", "time")
    signal = np.tile([1, 1, -1, -1, 0, 1], 10).astype(np.int8)
    weight = np.tile([0.2, 0.0, -0.1, 0.3, 0.5, -0.2], 10)
    small = FakeRun(
        bars=bars,
        signals=keys.with_columns(
            z=pl.lit(1.5),
            signal=pl.Series(signal),
            consensus=pl.lit(False),
            strategy=pl.lit("flat"),
            evidence=pl.lit(1.0),
            reason=pl.lit(""),
        ),
        weights=keys.with_columns(weight=pl.Series(weight)),
    )
    data = candles.candles_data(small, "A")
    assert data is not None
    assert data["traded"] == [True, False, True, False, False, False] * 10
    assert report_data(small)["money"]["signals_traded"] == 20


def test_the_chart_shows_what_the_book_holds_beside_what_the_strategies_have() -> None:
    bars = market(["A", "B"], 60, seed=1)
    keys = bars.select("symbol", "time")
    held = np.linspace(0.5, 0.58, 120)
    rows = keys.with_columns(held=pl.Series(held))
    small = FakeRun(bars=bars, weights=keys.with_columns(weight=pl.lit(0.0)), book=rows)
    data = candles.candles_data(small, "B")
    assert data is not None
    own = rows.filter(pl.col("symbol") == "B").sort("time")["held"]
    assert data["held"] == pytest.approx(own.to_list(), abs=1e-4)
    assert set(data["weight"]) == {0.0}
    none = candles.candles_data(replace(small, book=FakeRun().book), "B")
    assert none is not None
    assert set(none["held"]) == {None}


def test_symbols_that_ended_long_ago_are_not_invested_now() -> None:
    bars = market(["ALIVE", "ENDED"], 100, seed=1)
    kept = bars.filter((pl.col("symbol") == "ALIVE") | (pl.int_range(pl.len()).over("symbol") < 50))
    weights = kept.select("symbol", "time", weight=pl.lit(0.5), book=pl.lit(0.25))
    assert report_data(FakeRun(bars=kept, weights=weights))["money"]["gross_newest"] == 0.25


def test_a_class_that_stopped_is_not_invested_now_and_is_shown_last() -> None:
    """The page's sum is that of the rows that `gatecast forecast` shows: nothing of a coin that stopped long ago."""
    bars = market(["A", "X"], 200, seed=1).with_columns(
        asset_class=pl.when(pl.col("symbol") == "A").then(pl.lit("crypto")).otherwise(pl.lit("equity"))
    )
    for left, today in ((50, "ended"), (180, "no bar")):
        kept = bars.filter((pl.col("symbol") == "X") | (pl.int_range(pl.len()).over("symbol") < left))
        weights = kept.select("symbol", "time", weight=pl.lit(1.0), book=pl.lit(0.5))
        data = report_data(FakeRun(bars=kept, weights=weights))
        assert data["money"]["gross_newest"] == 0.5
        assert sum(row["book"] or 0.0 for row in data["newest"]) == 0.5
        assert [(row["symbol"], row["today"]) for row in data["newest"]] == [("X", "bar"), ("A", today)]
        assert list(data["figures"]["candles"]) == ["X", "A"]
        said = data["figures"]["candles"]["A"]["since"]
        assert said.startswith("ended on " if today == "ended" else "no bar since ")


def test_control_is_drawn_from_the_text_that_a_saved_run_holds(run: FakeRun) -> None:
    data = figures.control_data(run)
    assert data is not None
    assert data["time"][-1] == f"{run.equity['time'][-1]:%Y-%m-%d}"
    assert data["net"][-1] == pytest.approx(run.scores["control"]["equity"]["equity"][-1], rel=1e-4)
    assert drawing.draw_control(data).layout.yaxis.type == "log"


def test_shares_of_strategies_add_up_each_year(run: FakeRun) -> None:
    data = figures.strategies_data(run)
    assert data is not None
    assert data["year"] == [2008, 2009, 2010, 2011]
    np.testing.assert_allclose(np.sum([s["share"] for s in data["series"]], axis=0), 1.0, atol=1e-3)


def test_bar_labels_name_the_session_of_daily_bars_and_the_minute_of_hourly_ones() -> None:
    day = datetime(2024, 3, 5, tzinfo=UTC)
    daily = pl.Series([day + timedelta(days=d) for d in range(3)])
    hourly = pl.Series([day + timedelta(hours=h) for h in range(3)])
    assert figures.bar_labels(daily) == ["2024-03-04", "2024-03-05", "2024-03-06"]
    assert figures.bar_labels(hourly) == ["2024-03-05 00:00", "2024-03-05 01:00", "2024-03-05 02:00"]


# ── the scorecard ─────────────────────────────────────────────────────────────────────────────────


def said(run: FakeRun, **scores: Any) -> str:
    """The text of the page of a run with other scores, figures' data left out."""
    return Tags(render(replace(run, scores={**run.scores, **scores}))).text


def shown(page: Tags, *words: str) -> None:
    missing = [word for word in words if word not in page.text]
    assert not missing


def test_verdict_says_what_it_rests_on(page: Tags) -> None:
    shown(
        page,
        *("+2.1 %", "+0.8 %", "+3.5 %"),  # effect and interval
        "+1.2 %",  # could have been seen
        *("2,400 (810 independent)", "611", "0.12 % (55 million days to detect it)"),
        *("0.0007", "0.0049", "0.021", "18 % false alarms in three years"),  # alone, corrected, sequential
        *("it decides the verdict", "it decides nothing"),
        *("+0.7 % without 2010, not significant", "37 %", "± 0.31 points"),
        *("Simpler, not shown to be worse: the ridge regression.", "Simpler, not shown to be worse: the past share."),
    )


def test_illusions_are_neutralised(page: Tags) -> None:
    shown(
        page,
        *(
            "Best of 5 forecasts of models and combinations: random forest",
            "53.1 %",
            "Best of 21 random guessers",
            "54.6 %",
            "Always forecasting a rise: the share of rises over the test",
            "53.7 %",
        ),
        "no sign of skill",
        *("Each outcome spans 5 days", "0.0021", "0.18", "0.24", "only if the overlap is ignored"),
        *("0.998", "0.0312", "Only the correlation of forecast and realised changes"),
    )


def test_a_hit_rate_is_praised_only_above_coins_and_always_up(run: FakeRun) -> None:
    best = HONEST["illusions"]["best_of"]
    for coins, up, praised in ((0.52, 0.53, True), (0.54, 0.53, False), (0.52, 0.54, False), (None, 0.5, False)):
        panel = scorecard({"illusions": {"best_of": {**best, "coins": coins, "always_up": up}}})["illusions"][0]
        assert ("The verdict tests whether" in panel["says"]) == praised
        for text, share in (("random guessers on", coins), ("always forecasting a rise", up)):
            if share is not None:
                named_above = panel["says"].split("not above")[0]
                assert (text in named_above) == (best["hit_rate"] > share)
        assert ("no sign of skill" in panel["says"]) != praised


@pytest.mark.parametrize(
    ("naive", "corrected", "apart", "words"),
    [
        (0.001, 0.01, 0.02, "By this test alone"),
        (0.001, 0.02, 0.08, "only if the overlap is ignored"),
        (0.3, 0.2, 0.4, "not significant by any of the tests"),
        (None, None, None, "no gain in returns to test"),
        (0.001, None, None, "no gain in returns to test"),
    ],
)
def test_overlap_is_judged_by_the_less_sure_of_the_honest_tests(
    naive: Any, corrected: Any, apart: Any, words: str
) -> None:
    found = {"sessions": 5, "naive": naive, "diebold_mariano": corrected, "non_overlapping": apart}
    (panel,) = scorecard({"illusions": {"overlap": found}})["illusions"]
    assert words in panel["says"]


def test_illusions_without_numbers_say_so(run: FakeRun) -> None:
    text = said(run, illusions={"best_of": None, "overlap": None, "levels": None})
    for words in ("no hit rate to compare", "none overlap", "too close to 0"):
        assert words in text


def test_tries_are_counted_and_the_sharpe_ratio_deflated(run: FakeRun, page: Tags) -> None:
    shown(
        page,
        "12 configurations were tried on these symbols and days, some alike: they count as 4.3 independent trials.",
        "Verdict on the strategy: cannot tell",
        *("91.4 %", "44.2 %", "0.27", "4,300 bars, 17 years; the record has 900"),
    )
    one = scorecard({"trials": {"count": 1, "effective": 1.0, "best_of": {"pvalue": None, "reason": "no profit"}}})
    assert one["tried"]["says"].endswith("there was no choice among several.")
    assert one["tried"]["rows"] == []


def test_holdout_sealed_opened_and_none(run: FakeRun, page: Tags) -> None:
    shown(page, SEALED["sentence"], "gatecast unseal RUN", "standard error of 0.71")
    opened = said(run, holdout=OPENED)
    for words in (
        "+3.1 %",
        "+5.0 % before",
        "38 % smaller",
        OPENED["sentence"],
        OPENED["heads"][0]["sentence"],
        "0.24",
    ):
        assert words in opened
    assert "This run has no hold-out" in said(run, holdout=None)


def test_a_gain_lost_in_the_holdout_in_words() -> None:
    assert shrinkage_words({"before": 0.1, "after": -0.02, "shrinkage": 1.2}) == "gone"
    assert shrinkage_words({"before": 0.1, "after": 0.12, "shrinkage": -0.2}) == "not smaller"
    assert (
        shrinkage_words({"before": None, "after": 0.1})
        == shrinkage_words({"before": 0.1, "after": None})
        == "not measured"
    )
    assert shrinkage_words({"before": 0.0, "after": 0.1, "shrinkage": None}) == "no gain before"


def test_a_leak_stands_in_a_banner_above_everything(run: FakeRun, page: Tags) -> None:
    finding = {"stage": "features", "column": HOSTILE, "symbol": HOSTILE, "sentence": LEAK + HOSTILE}
    leaking = {
        **AUDIT,
        "clean": False,
        "guilty": ["features", "scaler"],
        "findings": [finding],
        "consequences": ["signals"],
    }
    sealed = {**SEALED, "sentence": HOSTILE}
    parsed = Tags(render(replace(run, scores={**run.scores, "audit": leaking, "holdout": sealed})))
    banner = "This run used information from the future (features and scaler). All its numbers are void."
    assert parsed.text.index(banner) < parsed.text.index(run.scores["summary"]["subline"])
    assert LEAK + HOSTILE in parsed.text
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert ("body", {"class": "leaky"}) in parsed.tags
    assert "information from the future (" not in page.text
    shown(page, "found no use of information from the future", *AUDIT["checked"], *AUDIT["not_checked"])


def test_many_models_are_ordered_by_gain_with_the_rival_named(run: FakeRun, page: Tags) -> None:
    (table,) = report_data(run)["scorecard"]["many"]
    assert [row["model"] for row in table["models"]] == ["lstm", "har", "ewma"]
    shown(
        page,
        "All models compared",
        "The LSTM and the log-HAR can be the best.",
        "against the log-HAR",
        "−21.0 %",
    )


def test_old_runs_show_nothing_of_the_scorecard_but_their_verdicts(run: FakeRun) -> None:
    old = {key: value for key, value in run.scores.items() if key not in HONEST}
    text = Tags(render(replace(run, scores=old))).text
    for words in (
        "common errors",
        "Number of trials",
        "hold-out,",
        "Leaks",
        "All models compared",
        "information from the future",
    ):
        assert words not in text
    assert VERDICTS["return"]["sentence"] in text


def test_numbers_of_the_scorecard_are_the_scores_own(run: FakeRun) -> None:
    card = report_data(run)["scorecard"]
    values = {row["label"]: row["value"] for panel in card["illusions"] for row in panel["rows"]}
    assert values["Best of 21 random guessers"] + 0.5 == pytest.approx(HONEST["illusions"]["best_of"]["coins"])
    assert values["Forecast change"] == HONEST["illusions"]["levels"]["change"]
    assert [row["value"] for row in card["tried"]["rows"]] == [0.914, 0.442]
    assert {**card["holdout"], **SEALED} == card["holdout"]


def test_what_is_as_good_is_a_comparison_and_no_claim() -> None:
    skill = {
        "head": "return", "verdict": "evidence of skill", "effect": 0.1, "low": 0.05, "rival": "zero", "simpler": "",
    }  # fmt: skip
    assert as_good(skill) == ""  # nothing simpler is: that is the verdict's to say
    assert as_good({**skill, "simpler": "ridge"}) == "the ridge regression"
    assert as_good({**skill, "verdict": "nothing worth trading"}) == "forecasting no change"
    assert as_good({**skill, "verdict": "cannot tell", "effect": -0.1, "rival": "ridge"}) == "the ridge regression"
    plain = {"plain": "zero", "plain_low": -0.2}
    assert as_good({**skill, "verdict": "cannot tell", "effect": -0.1, "rival": "ridge", **plain}) == (
        "forecasting no change"  # the simplest, where neither is told from it
    )
    assert as_good({**skill, "verdict": "cannot tell"}) == ""
    assert as_good({**skill, "verdict": "void: a leak was found"}) == ""
    nothing_held = {"head": "strategy", "verdict": "cannot tell", "effect": 0.0, "low": None}
    assert as_good(nothing_held) == ""  # no comparison was made: no word for buy and hold


@given(
    st.lists(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-9), min_size=1, max_size=6),
    st.sampled_from([None, 30]),
)
def test_lines_keep_their_order_their_zero_and_their_room(values: list[float], zero: float | None) -> None:
    at = placed(dict(enumerate(values)), zero)
    where = [at[i] for i in range(len(values))]
    assert all(-0.01 <= place <= 100.01 for place in [*where, at["zero"]])
    for value, place in zip(values, where, strict=True):
        assert (place - at["zero"]) * np.sign(value) >= -0.01
    for (low, left), (high, right) in itertools.pairwise(sorted(zip(values, where, strict=True))):
        assert low <= high
        assert left <= right + 0.01
    assert zero is None or at["zero"] == zero


def test_marks_far_outside_do_not_squeeze_the_interval() -> None:
    line = interval_plot({"effect": 0.01, "low": -0.01, "high": 0.03, "break_even": 0.02, "detectable": 5.0})
    assert line is not None
    assert line["low"] < line["zero"] < line["effect"] < line["break_even"] < line["high"]
    assert "detectable" not in line
    assert line["high"] > 90
    assert interval_plot({"effect": None, "low": 0.0}) is None
    both = dumbbell(OPENED["heads"][0])
    assert both["after_low"] < both["zero"] < both["before_low"] < both["after"] < both["before"] < both["after_high"]


def test_best_and_rival_are_marked(run: FakeRun) -> None:
    tables = {table["head"]: table for table in report_data(run)["models"]}
    assert tables["return"]["best"]["r2_zero"] == ["mean"]
    assert tables["direction"]["best"]["brier"] == ["base_rate"]
    assert tables["volatility"]["best"]["qlike"] == ["lstm"]
    assert tables["volatility"]["rivals"] == ["har"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (-1234.5, "−1,234"), (3, "3"), (2e-5, "2.0e−05"), (float("inf"), "–")]
)
def test_numbers_are_words_of_the_page(value: float, text: str) -> None:
    assert number(jsonable(value)) == text


def test_a_share_of_nothing_has_no_sign() -> None:
    assert percent(-0.00001, sign=True) == percent(-0.00001) == "0.0 %"
    assert percent(0.00001, sign=True) == "0.0 %"
    assert percent(0.01, sign=True) == "+1.0 %"


def test_the_panel_of_trials_claims_no_more_money_than_the_verdict() -> None:
    luck = {"count": 4, "effective": 4.0, "best_of": {"pvalue": 0.006}}
    sure = {"probabilistic_sharpe": 0.976, "deflated_sharpe": 0.976, "min_track_record_bars": 800}
    told = trial_rows(luck, sure, 1055, {"verdict": "cannot tell", "pvalue_trials": 0.16})
    assert told
    assert "Verdict on the strategy: cannot tell (corrected p 0.16)" in told["says"]
    assert "each counted as an independent trial" in told["says"]
    assert not any(row["mine"] for row in told["rows"])
    told = trial_rows(luck, sure, 1055, {"verdict": "evidence of skill", "pvalue_trials": 0.01})
    assert told
    assert all(row["mine"] for row in told["rows"])
    unknown = {**luck, "best_of": {"pvalue": None, "reason": "one trial had a profit or loss of its own"}}
    told = trial_rows(unknown, {**sure, "deflated_sharpe": None}, 1055, {"verdict": "cannot tell"})
    assert told
    assert told["says"].endswith("cannot be computed: one trial had a profit or loss of its own.")
    assert told["rows"][-1]["text"] == "cannot be computed"


def test_days_are_worth_no_more_than_there_are() -> None:
    answers = evidence_rows({"return": {"n": 709, "n_effective": 708.9}, "regime": {"n": 709, "n_effective": 61.2}})
    days = next(row["answers"] for row in answers if row["question"] == "Days")
    assert days == {"return": "709 (709 independent)", "regime": "709 (61 independent)"}


def test_years_are_marked_once() -> None:
    axis = drawing.draw_coverage(
        {"series": [{"level": 0.8, "year": [2020, 2021, 2022], "coverage": [0.8, 0.81, 0.79], "forecasts": [9, 9, 9]}]}
    ).to_plotly_json()["layout"]["xaxis"]
    assert (axis["tick0"], axis["dtick"]) == (2020, 1)


@pytest.mark.parametrize(("years", "shown"), [(0.3, False), (1.0, True), (None, True)])
def test_of_less_than_a_year_no_growth_a_year_is_shown(years: float | None, shown: bool) -> None:
    sheet = {name: {"cagr": 11.58, "calmar": 3.0, "comp": 0.64, "sharpe": 0.4} for name in ("strategy", "benchmark")}
    run = FakeRun(scores={"backtest": {"tear_sheet": sheet, "record_years": years}})
    measures = [row["measure"] for row in report_data(run)["tear_sheet"]]
    assert ("cagr" in measures, "calmar" in measures) == (shown, shown)
    assert "comp" in measures
