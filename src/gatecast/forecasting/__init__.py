"""Forecasts: models, walk-forward refits, and the ensemble that combines them.

`forecaster` is what every model is, `schedule` says when models are refitted and on what, `walkforward` lets them
forecast out of sample, `guard` refuses a refit that fails; `lstm` and `models` are the models, `panel` says which run
and in which roles, `tuning` searches for settings, `combining` makes one forecast of all.

>>> from gatecast.forecasting.models.linear import Ridge
>>> from gatecast.forecasting.schedule import Schedule
>>> from gatecast.forecasting.walkforward import walk_forward
>>> from gatecast.market import synthetic
>>> from gatecast.samples.windows import make_samples
>>> samples = make_samples(synthetic.b1(900, seed=1, r2=0.05), ("ret_log_1", "x"), horizon=1)["index"]
>>> forecasts = walk_forward([Ridge()], samples, Schedule(refit="1Y"))
>>> len(forecasts.folds), forecasts.values["ridge"]["return"].shape
(2, (849, 1))
"""
