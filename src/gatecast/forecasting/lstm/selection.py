"""Variable selection before the LSTM: at each bar, a softmax over the features gives the weight of each.

    s = softmax(x W + PACE b)    x' = F s * x

after the variable selection networks of Lim, Arik, Loeff and Pfister (2021), International Journal of Forecasting 37,
with one linear layer in place of their gated residual networks. W and b begin at zero, so that x' begins as x: the
plain LSTM is where training starts, and what a feature is worth on the whole (b) is learned before what it is worth on
a day like this one (W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

PACE = 64.0
"""How much faster b is learned than W. At 1 the weights hardly move apart in the few updates of a fit; where W is as
fast, it learns the noise. (Compiled code in a cache keeps the value that it was made with.)"""


def shares(weights: dict[str, FloatArray], inputs: FloatArray) -> FloatArray:
    """(bars, features) the selection weights of scaled inputs (bars, features); each bar's add up to 1.

    >>> weights = {"select.w": np.zeros((2, 2), np.float32), "select.b": np.zeros(2, np.float32)}
    >>> shares(weights, np.ones((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    logits = inputs @ weights["select.w"] + np.float32(PACE) * weights["select.b"]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: FloatArray = raised / raised.sum(axis=1, keepdims=True)
    return share
