"""Studies of many runs: simulated markets, and those without skill; placebo copies; cadences, tuning, capacity.

`gatecast.truth`, `nulls`, `placebo`, `cadence`, `tune`, `unseal` and `capacity` stand in the modules of these names.

>>> from gatecast.market import synthetic
>>> from gatecast.studies.placebo import flipped
>>> bars = synthetic.a1(300, seed=1)
>>> copy = flipped(bars, 1)
>>> copy.columns == bars.columns, copy["close"].equals(bars["close"])
(True, False)
"""
