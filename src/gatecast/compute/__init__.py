"""Who does the work: cores and clusters, what waits on disk, how long it will take, and how far it has come.

>>> from gatecast.compute.parallel import fan_out
>>> fan_out(abs, [-2, 3, -4], jobs=2)
[2, 3, 4]
"""
