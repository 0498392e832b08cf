"""Rank contestants by the model of Bradley and Terry, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from editkit.evaluation.arena.votes import Vote

RESAMPLES = 500
LEVEL = 0.95
MIDDLE, SCALE = 1000.0, 400.0
"""The mean rating, and the difference at which the better one wins ten times as often, as in Elo's scale."""
PRIOR = 0.5
"""Wins and losses of each contestant against an average one; who never lost then has a finite rating."""
ROUNDS, CLOSE = 10_000, 1e-6
"""Most rounds of the algorithm, and the change of a logarithm at which it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """One contestant in one quality.

    Attributes:
        contestant: its name.
        rating: on Elo's scale; the mean of all is 1000.
        low: lower end of the 95 % interval.
        high: upper end of it.
        wins: votes for it.
        ties: votes for neither.
        losses: votes against it.
    """

    contestant: str
    rating: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def ranking(votes: Sequence[Vote], seed: int = 0) -> list[Rank]:
    """The contestants of one quality's votes, the best first.

    A tie is half a win for each. Intervals are percentiles over resamples of the items, as votes on one item
    depend on each other.

    Args:
        votes: of one quality.
        seed: of the resampling.
    """
    names = sorted({name for vote in votes for name in (vote.first, vote.second)})
    if not names:
        return []
    place = {name: number for number, name in enumerate(names)}
    by_item: dict[str, NDArray[np.float64]] = {}
    for vote in votes:
        wins_KK = by_item.setdefault(vote.item, np.zeros((len(names), len(names))))
        first, second = place[vote.first], place[vote.second]
        share = {vote.first: 1.0, vote.second: 0.0}.get(vote.winner, 0.5)
        wins_KK[first, second] += share
        wins_KK[second, first] += 1 - share
    wins_NKK = np.stack(list(by_item.values()))
    rng, count = np.random.default_rng(seed), len(wins_NKK)
    drawn_RN = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    resampled_RK = ratings(np.tensordot(drawn_RN, wins_NKK, 1))
    low_K, high_K = np.quantile(resampled_RK, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = [
        Rank(
            contestant=name,
            rating=float(rating),
            low=float(low_K[place[name]]),
            high=float(high_K[place[name]]),
            wins=sum(vote.winner == name for vote in votes),
            ties=sum(not vote.winner and name in (vote.first, vote.second) for vote in votes),
            losses=sum(vote.winner not in ("", name) and name in (vote.first, vote.second) for vote in votes),
        )
        for name, rating in zip(names, ratings(wins_NKK.sum(0)), strict=True)
    ]
    return sorted(found, key=lambda rank: -rank.rating)


def ratings(wins_RKK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The likeliest ratings (R, K) for numbers of wins of row over column, by Hunter's MM algorithm (2004).

    Args:
        wins_RKK: R tables, or one (K, K), which gives (K,).
    """
    games_RKK = wins_RKK + np.swapaxes(wins_RKK, -1, -2)
    won_RK = wins_RKK.sum(-1) + PRIOR
    strength_RK = np.ones(won_RK.shape)
    for _ in range(ROUNDS):
        sums_RKK = strength_RK[..., :, None] + strength_RK[..., None, :]
        new_RK = won_RK / ((games_RKK / sums_RKK).sum(-1) + 2 * PRIOR / (strength_RK + 1))
        change = np.abs(np.log(new_RK / strength_RK)).max()
        strength_RK = new_RK
        if change < CLOSE:
            break
    logs_RK = np.log10(strength_RK)
    return np.asarray(MIDDLE + SCALE * (logs_RK - logs_RK.mean(-1, keepdims=True)))
