"""Features: what a model sees of each bar, from that bar and the ones before it.

>>> from gatecast.market import synthetic
>>> from gatecast.samples.features import compute_features, find_feature
>>> find_feature("rsi_14").warmup > 0
True
>>> compute_features(synthetic.a1(300, seed=1), ("ret_log_1", "rsi_14")).columns
['symbol', 'time', 'ret_log_1', 'rsi_14']
"""

from gatecast.samples.features.catalogue import (
    DEFAULT_FEATURES,
    EQUALITY_BARS,
    FEATURES,
    Feature,
    find_feature,
    register,
)
from gatecast.samples.features.compute import available_features, compute_features

__all__ = [
    "DEFAULT_FEATURES",
    "EQUALITY_BARS",
    "FEATURES",
    "Feature",
    "available_features",
    "compute_features",
    "find_feature",
    "register",
]
