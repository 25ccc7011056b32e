"""Features: what a model sees of each bar, from that bar and the ones before it."""

from gatecast.samples.features.catalogue import (
    CATALOGUE,
    DEFAULT_FEATURES,
    EQUALITY_BARS,
    Feature,
    find_feature,
    register,
)
from gatecast.samples.features.compute import available_features, compute_features

__all__ = [
    "CATALOGUE",
    "DEFAULT_FEATURES",
    "EQUALITY_BARS",
    "Feature",
    "available_features",
    "compute_features",
    "find_feature",
    "register",
]
