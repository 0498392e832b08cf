"""Ranks by Bradley and Terry."""

from __future__ import annotations

import numpy as np
import pytest

from editkit.evaluation.arena import Vote, ranking
from editkit.evaluation.arena.ranking import ratings


def votes(wins: dict[tuple[str, str], int], ties: int = 0) -> list[Vote]:
    """Votes for the first of each pair, each on an item of its own."""
    pairs = [(pair, pair[0]) for pair, count in wins.items() for _ in range(count)]
    pairs += [(pair, "") for pair in wins for _ in range(ties)]
    return [
        Vote(
            voter="v", item=str(number), quality="overall", first=min(pair), second=max(pair), winner=winner,
            on_the_left=pair[0], at=float(number),
        )
        for number, (pair, winner) in enumerate(pairs)
    ]  # fmt: skip


def test_two_contestants_have_the_odds_of_their_votes() -> None:
    """3 to 1 is 400 log10(3) = 191 points; the prior of half a win and half a loss pulls a little."""
    better, worse = ranking(votes({("a", "b"): 300, ("b", "a"): 100}))
    assert better.contestant == "a"
    assert better.rating - worse.rating == pytest.approx(400 * np.log10(3), abs=2)
    assert (better.wins, better.losses) == (300, 100)
    assert (better.rating + worse.rating) / 2 == pytest.approx(1000)
    assert better.low < better.rating < better.high
    assert better.low > worse.high


def test_known_strengths_are_found_again() -> None:
    """Expected wins of strengths 4, 2, 1 give back their ratios."""
    strengths = np.array([4.0, 2.0, 1.0])
    wins = 1000 * strengths[:, None] / (strengths[:, None] + strengths[None])
    np.fill_diagonal(wins, 0)
    found = ratings(wins)
    assert found[0] - found[1] == pytest.approx(400 * np.log10(2), abs=0.5)
    assert found[1] - found[2] == pytest.approx(400 * np.log10(2), abs=0.5)


def test_ties_are_half_a_win_each() -> None:
    one, two = ranking(votes({("a", "b"): 0}, ties=20))
    assert one.rating == pytest.approx(two.rating)
    assert (one.ties, one.wins, one.losses) == (20, 0, 0)


def test_who_never_lost_is_finite() -> None:
    better, worse = ranking(votes({("a", "b"): 5}))
    assert np.isfinite([better.rating, better.low, better.high, worse.low]).all()
    assert better.rating > worse.rating


def test_more_votes_narrow_the_interval() -> None:
    few, many = (ranking(votes({("a", "b"): 6 * n, ("b", "a"): 4 * n}))[0] for n in (1, 20))
    assert many.high - many.low < (few.high - few.low) / 2


def test_no_votes_give_no_ranks() -> None:
    assert ranking([]) == []
