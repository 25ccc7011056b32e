"""The chain with another future: what is said of a moment must stay the same, whatever comes after it."""
