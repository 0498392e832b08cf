"""The arena: people vote on results side by side without knowing whose they are, and votes make a ranking."""

from editkit.evaluation.arena.contest import QUALITIES, Contest, Duel, open_contest
from editkit.evaluation.arena.ranking import Rank, ranking
from editkit.evaluation.arena.votes import LEFT, RIGHT, TIE, Vote, Votes

__all__ = [
    "LEFT",
    "QUALITIES",
    "RIGHT",
    "TIE",
    "Contest",
    "Duel",
    "Rank",
    "Vote",
    "Votes",
    "open_contest",
    "ranking",
]
