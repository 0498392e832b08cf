"""Weights and optimizer state shared out over processes."""
