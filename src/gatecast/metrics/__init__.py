"""Numbers from arrays. Nothing here imports anything else of gatecast.

`forecast` scores forecasts, `returns` a series of returns, `significance` asks whether a difference is more
than luck, `many` which of many models are better or the best, `overfitting` what many trials do to the best of them.
"""
