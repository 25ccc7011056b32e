"""Numbers from arrays. Nothing here imports anything else of gatecast.

`forecast` scores forecasts, `returns` a series of returns, `periods` its months, years and drawdowns, `significance`
asks whether a difference is more than luck, `risk` how well a risk was forecast, `many` which of many models are better
or the best, `overfitting` what many trials do to the best of them.

>>> import numpy as np
>>> from gatecast.metrics.forecast import hit_rate
>>> hit_rate(np.array([0.01, -0.02, 0.03]), np.array([0.02, 0.01, 0.01]))
0.6666666666666666
"""
