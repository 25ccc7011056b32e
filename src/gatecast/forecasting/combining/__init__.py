"""Past out-of-sample forecasts into the one in force: `ensemble`, `variance`, `choice`, `intervals`."""
