"""The chain with another future: what is said of a moment must stay the same, whatever comes after it.

`full` reruns the chain on changed bars (`gatecast.audit`), `quick` checks a finished chain, `leaks` names what was
found, `tables` holds what is compared.

>>> from gatecast.audits.leaks import broken_rules
>>> from gatecast.forecasting.schedule import Schedule
>>> from gatecast.market import synthetic
>>> from gatecast.samples.windows import make_samples
>>> samples = make_samples(synthetic.a1(900, seed=1), ("ret_log_1",), horizon=5)["index"]
>>> broken_rules(Schedule(refit="1Y").folds(samples.times, samples.known_at), samples)
[]
"""
