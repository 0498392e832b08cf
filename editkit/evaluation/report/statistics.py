"""Means with bootstrap intervals, of dependent items too, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
CELLS = 4_000_000
"""Counts that are held at a time."""
TWO_SIDED, POWER = 1.96, 0.84
"""Quantiles of the normal distribution for 95 % confidence and 80 % power."""
FEWEST = 6
"""Independent groups from which a difference can be sure: five of one sign come by chance more often than one
time in twenty (2 / 2**5), and their bootstrap interval is far too narrow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean and its interval.

    Attributes:
        mean: over all items.
        low: lower end of the 95 % interval.
        high: upper end of it.
        n: number of items.
    """

    mean: float
    low: float
    high: float
    n: int


def estimate(values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0) -> Estimate:
    """The mean with its percentile bootstrap interval.

    Args:
        values: one an item, at least one.
        groups: items of one group are drawn together, as turns of a session depend on each other.
        seed: of the resampling.
    """
    sums_G, counts_G = _grouped(np.asarray(values, dtype=float), groups)
    means_R = _resampled(sums_G, counts_G, seed)
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        mean=float(sums_G.sum() / counts_G.sum()), low=float(low), high=float(high), n=len(values)
    )


def _grouped(
    values: NDArray[np.float64], groups: Sequence[object] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts of each group."""
    if groups is None:
        return values, np.ones(len(values))
    numbers: dict[object, int] = {}
    places = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    sums_G = np.bincount(places, weights=values).astype(np.float64)
    return sums_G, np.bincount(places).astype(np.float64)


def _resampled(sums_G: NDArray[np.float64], counts_G: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of resamples with replacement, (R,)."""
    rng, size = np.random.default_rng(seed), len(sums_G)
    rows = max(1, min(RESAMPLES, CELLS // size))
    found = []
    for start in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(rows, RESAMPLES - start))
        found.append((drawn @ sums_G) / (drawn @ counts_G))
    return np.concatenate(found)


def needed(differences: Sequence[float], groups: Sequence[object] | None = None) -> float:
    """Items that a paired comparison needs to find a difference of this size, at 80 % power.

    Infinite where there is no difference, or a single group; never fewer than `FEWEST` groups hold.

    Args:
        differences: one an item.
        groups: as for `estimate`; further items are taken to come in groups of the same sizes.
    """
    sums_G, counts_G = _grouped(np.asarray(differences, dtype=float), groups)
    size, number = len(sums_G), len(differences)
    mean = float(sums_G.sum()) / number
    if mean == 0 or size < 2:
        return math.inf
    variance = float(((sums_G - mean * counts_G) ** 2).sum()) * size / (size - 1) / number**2
    return max((TWO_SIDED + POWER) ** 2 * variance / mean**2 * number, FEWEST * number / size)
