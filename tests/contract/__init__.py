"""Promises of every method, tested for each of them: a new folder below `methods` is tested unasked."""
