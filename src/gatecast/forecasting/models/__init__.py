"""Models, one class each: simple rules, linear ones, a forest, GARCH, HAR, Markov, TFT, an LSTM that corrects HARs."""
