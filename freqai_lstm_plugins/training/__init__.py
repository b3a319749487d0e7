"""Losses, batches, the loop, and what it leaves."""
