"""Intervals against scipy's, and what makes them wider."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from editkit.evaluation.report.statistics import estimate, needed


@pytest.fixture
def values() -> list[float]:
    return np.random.default_rng(3).gamma(2.0, 1.0, 120).tolist()


def test_interval_agrees_with_scipys(values: list[float]) -> None:
    found = estimate(values)
    other = bootstrap((np.array(values),), np.mean, n_resamples=20_000, method="percentile", rng=0)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.03)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.03)


def test_it_is_the_same_every_time(values: list[float]) -> None:
    assert estimate(values) == estimate(values)


def test_equal_values_have_no_width() -> None:
    found = estimate([0.25] * 40)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))


def test_dependent_items_widen_the_interval(values: list[float]) -> None:
    """Items that come five times each say no more than once."""
    once = estimate(values)
    five = [value for value in values for _ in range(5)]
    alone, grouped = estimate(five), estimate(five, [n for n in range(len(values)) for _ in range(5)])
    assert grouped.mean == pytest.approx(once.mean)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    assert alone.high - alone.low < 0.6 * (grouped.high - grouped.low)


def test_large_numbers_of_items_take_little_memory() -> None:
    found = estimate(np.random.default_rng(0).normal(0, 1, 5000).tolist())
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(5000), rel=0.15)


def test_items_that_a_difference_needs() -> None:
    """By hand: standard deviation 1, difference 0.5, so 31.4 items for 80 % power."""
    differences = [0.5 - 1, 0.5 + 1] * 500
    assert needed(differences) == pytest.approx((2.8 / 0.5) ** 2, rel=0.01)
    assert math.isinf(needed([0.0, 0.0]))
    assert math.isinf(needed([1.0]))


def test_dependent_items_need_more(values: list[float]) -> None:
    """Items that come five times each say no more than once, so that five times as many are needed."""
    changes = np.array(values[:20]) - np.mean(values[:20]) + 0.8
    five, groups = np.repeat(changes, 5).tolist(), [n for n in range(20) for _ in range(5)]
    assert needed(five, groups) == pytest.approx(5 * needed(changes.tolist()))
    assert needed(five, groups) > 4 * needed(five)
    assert math.isinf(needed(five, ["one"] * 100))


def test_no_difference_is_found_in_fewer_than_six() -> None:
    """However even it is: 6 items, or 6 sessions of 3 turns."""
    assert needed([1.0, 1.1] * 10) == pytest.approx(6)
    assert needed([1.0, 1.1] * 15, [n // 3 for n in range(30)]) == pytest.approx(18)
