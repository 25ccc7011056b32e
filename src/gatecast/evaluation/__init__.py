"""What it was worth: forecasts beside their rivals, the trials behind them, and the verdict in plain words.

`compare` scores models on the same rows, `verdict` judges heads and strategy, `ledger` counts trials, `holdout` keeps
sessions sealed, `plausible` and `knowing` ask whether an outcome is too good to be true.

>>> from gatecast.evaluation.compare import day_means
>>> from gatecast.forecasting.linear import Ridge
>>> from gatecast.forecasting.naive import Naive
>>> from gatecast.forecasting.schedule import Schedule
>>> from gatecast.forecasting.walkforward import walk_forward
>>> from gatecast.market import synthetic
>>> from gatecast.samples.windows import make_samples
>>> samples = make_samples(synthetic.b1(900, seed=1, r2=0.2), ("ret_log_1", "x"), horizon=1)["index"]
>>> forecasts = walk_forward([Ridge(), Naive(rule="zero")], samples, Schedule(refit="1Y"))
>>> bool(day_means({"index": forecasts}, "return", "ridge", "zero").gain.mean() > 0)
True
"""
