"""Models on one contract: fit windows, predict windows, keep a state."""
