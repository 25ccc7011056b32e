"""What would be done: signals, strategies, the choice between them, costs, and a backtest of the weights.

>>> import polars as pl
>>> from gatecast.market import synthetic
>>> from gatecast.trading.backtest import backtest
>>> bars = synthetic.a1(300, seed=1)
>>> result = backtest(bars.select("symbol", "time", weight=pl.lit(0.5)), bars)
>>> result.equity.columns
['time', 'gross', 'net', 'equity', 'benchmark']
"""
