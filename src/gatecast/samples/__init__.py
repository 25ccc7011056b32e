"""What a model sees: features of each bar, what is to be forecast of it, and the windows of both.

`features` computes the catalogue and own columns, `targets` the answers, `variance` the measures of variance, `windows`
puts them together as Samples.

>>> from gatecast.market import synthetic
>>> from gatecast.samples.windows import make_samples
>>> samples = make_samples(synthetic.b1(400, seed=1, r2=0.05), ("ret_log_1", "x"), horizon=1)["index"]
>>> len(samples), samples.names
(349, ('ret_log_1', 'x'))
"""
