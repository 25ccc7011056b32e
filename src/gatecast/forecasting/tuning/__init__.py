"""The search for an LSTM's settings: `search` asks and keeps, `tuned` is the forecaster whose settings it finds."""
