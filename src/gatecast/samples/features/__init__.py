"""Features: what a model sees of each bar, from that bar and the ones before it."""

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
