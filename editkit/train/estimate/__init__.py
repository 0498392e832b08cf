"""Estimate the memory, arithmetic and time of a run before it starts."""
