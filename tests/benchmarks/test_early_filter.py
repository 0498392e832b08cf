"""The early filter: its picks and costs, and a run on one example of each set."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from benchmarks import early_filter


@pytest.mark.parametrize(
    ("preferred", "leads"), [([], 0), ([1, 2, 3], 3), ([1, None, 1], 1), ([None, None], 0), ([0, None, 3], 3)]
)
def test_a_tie_leaves_the_leader(preferred: list[Any], leads: int) -> None:
    assert early_filter.winner(preferred) == leads


def test_costs_and_picks(capsys: pytest.CaptureFixture[str]) -> None:
    """Two edits, four seeds each, eight steps of which two are looked at."""
    drawn = [{"n": 8, "k": 2}] * 2
    wins = np.array([[False, True, False, False], [False, False, False, True]])
    rows = early_filter.curve("set", "continue", "some", drawn, [[1, 1, 1], [0, 0, 0]], wins)
    assert [row["success"] for row in rows] == [0, 0.5, 0.5]
    assert [row["cost"] for row in rows] == [1, 1.25, 1.75]
    restart = early_filter.curve("set", "restart", "some", drawn, [[1, 1, 1], [0, 0, 3]], wins)
    assert [row["success"] for row in restart] == [0, 0.5, 1]
    assert [row["cost"] for row in restart] == [1, 1.5, 2]
    oracle = early_filter.curve("set", "", "oracle", drawn, [0, 0], wins)
    assert [row["success"] for row in oracle] == [0, 0.5, 1]
    assert [row["cost"] for row in oracle] == [1, 2, 4]
    assert "N=4   success 1.000  cost 4.00 edits" in capsys.readouterr().out


def test_the_filter_runs() -> None:
    chosen = {
        "method": "icedit",
        "sets": early_filter.SETS,
        "judges": ["preserve"],
        "seeds": 2,
        "n": 1,
        "first": 0,
    }
    rows = early_filter.filters(argparse.Namespace(**chosen, preview_steps=3))
    assert {(row["set"], row["judge"], row["mode"]) for row in rows} == {
        (name, judge, mode)
        for name in early_filter.SETS
        for judge, mode in (("oracle", ""), ("preserve", "continue"), ("preserve", "restart"))
    }
    assert all(0 <= row["success"] <= 1 for row in rows)
    costs = [row["cost"] for row in rows if (row["mode"], row["seeds"]) == ("continue", 2)]
    assert costs == [(2 * 3 + 8 - 3) / 8] * 2
