"""LSTM forecasters: `network` is the readable torch twin, `training` the loop, `forecaster` the settings and fits.

>>> from gatecast.forecasting.lstm import LSTM
>>> LSTM(units=32, layers=1).units
32
"""

from gatecast.forecasting.lstm.forecaster import LSTM, FittedLSTM

__all__ = ["LSTM", "FittedLSTM"]
