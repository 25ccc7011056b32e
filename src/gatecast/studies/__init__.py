"""What takes many runs: the audit of leaks, the bench of planted truths, the placebo, cadences."""
