"""Evaluation: benchmarks, metrics, runs that can be repeated, and reports that read one run's folder.

A run goes from `benchmarks` (items, read one by one) over `edits` or `existing` (a picture for each item) and
`scoring` (metrics) to a folder, which `report`, `exports` and `comparison` read and nothing else.
"""
