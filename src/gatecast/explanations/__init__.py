"""Why a forecast and a position are what they are: of a run that is finished, and of a store that is kept for years."""

from gatecast.explanations.explanation import Explained, explain, explained
from gatecast.explanations.moments import Origin, RunOrigin, StoreOrigin, origin_of
from gatecast.explanations.reasons import Explanation

__all__ = ["Explained", "Explanation", "Origin", "RunOrigin", "StoreOrigin", "explain", "explained", "origin_of"]
