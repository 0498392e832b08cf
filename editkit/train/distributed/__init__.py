"""Weights and optimizer state in shards over processes."""
