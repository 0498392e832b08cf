"""A smoke test with the official weights, where they are on this machine."""
