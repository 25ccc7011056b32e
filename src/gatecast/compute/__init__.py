"""Parallel execution: cores and clusters, arrays on disk, estimates of the time left, progress.

>>> from gatecast.compute.parallel import fan_out
>>> fan_out(abs, [-2, 3, -4], jobs=2)
[2, 3, 4]
"""
