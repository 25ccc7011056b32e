"""Trading: forecasts -> signals, strategies, the strategy in force, weights, costs and a backtest.

>>> import polars as pl
>>> from gatecast.market import synthetic
>>> from gatecast.trading.backtest import backtest
>>> bars = synthetic.a1(300, seed=1)
>>> result = backtest(bars.select("symbol", "time", weight=pl.lit(0.5)), bars)
>>> result.equity.columns
['time', 'gross', 'net', 'equity', 'benchmark']
"""
