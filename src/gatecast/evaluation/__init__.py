"""Evaluation of forecasts: records of forecasts and outcomes -> scores, tests, verdicts, the hold-out and the ledger.

`record`: forecasts of one head beside their answers; `rivals`: which simple model they must beat, at each refit the
best so far. `paired`: two models on the same days. `verdict`: is there evidence of skill, in words, with what stands
beside it: `hindsight` (the best simple model), `delay` (decisions one bar late), `scope` (too few answers), `plausible`
(too good to be true). `tables`, `luck`: all models on the same rows, and what luck alone would show. `credit`,
`memory`, `search_worth`: what a member of the ensemble, a longer window and a search for settings were worth. `ledger`:
how often it was tried; `holdout`: bars that nothing reads until they are opened. `knowing`, `encoded`: columns that
know the answer.

Anybody's forecasts are judged as gatecast's own are, beside the simple models on the same bars:

>>> import numpy as np
>>> import polars as pl
>>> from gatecast.evaluation.ledger import unrecorded
>>> from gatecast.evaluation.record import Record, records_of
>>> from gatecast.evaluation.judge import judge
>>> from gatecast.forecasting.models.naive import Naive
>>> from gatecast.forecasting.walkforward import Schedule, walk_forward
>>> from gatecast.market import synthetic
>>> from gatecast.samples.windows import make_samples
>>> bars = synthetic.a1(1200, seed=1)
>>> always_up = bars.select("symbol", "time", model=pl.lit("theirs"), head=pl.lit("direction"), step=5, value=0.9)
>>> samples = make_samples(bars, ("ret_log_1",), horizon=5)
>>> simple = {name: walk_forward([Naive(rule="base_rate")], one, Schedule()) for name, one in samples.items()}
>>> theirs = Record.from_table(always_up, bars)["direction"].beside(records_of(simple)["direction"])
>>> none = np.zeros(0)  # no book: forecasts alone are judged
>>> with unrecorded():
...     found = judge(
...         {"direction": theirs}, none, none, model="theirs", round_trip=0.001, periods_per_year=252.0
...     )["direction"]
>>> found.verdict, found.most_in_force, round(found.effect, 2)
('nothing worth trading', 'base_rate', -0.56)
"""
