"""Models as a reader meets them: name -> title, said once for sentences, tables and figures."""

from __future__ import annotations

TITLES = {
    "lstm": "LSTM",
    "forest": "random forest",
    "logistic": "logistic regression",
    "ridge": "ridge regression",
    "logistic_long": "logistic regression on everything known",
    "ridge_long": "ridge regression on everything known",
    "zero": "no change",
    "mean": "historical mean",
    "base_rate": "past share",
    "bayes": "Bayesian ridge regression",
    "last": "last value",
    "ewma": "EWMA",
    "har": "log-HAR",
    "har_symbol": "extended log-HAR per symbol",
    "har_class": "extended log-HAR of the class",
    "har_smooth": "HAR of smoothed variances",
    "highway": "LSTM correction",
    "density": "turbulence implied by the volatility forecast",
    "har_levels": "HAR in levels",
    "har_falls": "log-HAR with falls",
    "har_regime": "logistic regression on HAR terms",
    "har_regime_falls": "logistic regression on HAR terms and falls",
    "ewma_range": "EWMA of the range",
    "ridge_lag": "ridge regression on the last return",
    "logistic_lag": "logistic regression on the last return",
    "rival": "best simple forecast so far",
    "tft": "Temporal Fusion Transformer",
    "garch": "GARCH-t",
    "gjr": "GJR-GARCH-t",
    "markov": "hidden Markov model",
}


def model_title(name: str) -> str:
    """A model's title; of a model that has none its name, without underscores.

    >>> model_title("forest"), model_title("my_model")
    ('random forest', 'my model')
    """
    return TITLES.get(name, name.replace("_", " "))
