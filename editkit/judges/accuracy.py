"""How often a judge prefers the better attempt, on held-out pairs of ShapesWorld."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from editkit.data import shapesworld
from editkit.judges import pairs
from editkit.judges.judge import Case, Judge
from editkit.judges.pairs import Pair


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Shares of right answers, 0.5 for a tie, over both orders of each pair.

    Attributes:
        overall: of all pairs.
        kinds: by kind of edit.
        steady: share of pairs that got the same answer in both orders, ties included.
        seconds: mean time of one answer.
    """

    overall: float
    kinds: dict[str, float]
    steady: float
    seconds: float


def held_out(n: int, graded: bool) -> list[Pair]:
    """The first `n` held-out pairs; of mixtures only those that clearly differ.

    Raises:
        ValueError: for more than half as many pairs as there are held-out seeds.
    """
    if not 0 < n <= len(shapesworld.HELD_OUT) // 2:
        raise ValueError(f"n must lie in [1, {len(shapesworld.HELD_OUT) // 2}], not {n}")
    chosen: list[Pair] = []
    for seed in shapesworld.HELD_OUT:
        pair = pairs.pair(pairs.task(seed), seed, graded)
        if not graded or abs(pair.first.quality - pair.second.quality) >= pairs.CLEAR:
            chosen.append(pair)
        if len(chosen) == n:
            break
    return chosen


def pairwise_accuracy(judge: Judge, n: int, *, graded: bool = False, edits_only: bool = False) -> Accuracy:
    """Ask a judge about held-out pairs, each in both orders.

    Args:
        judge: any.
        n: how many pairs.
        graded: mixtures, as previews look, in place of finished pictures.
        edits_only: leave text to image out, which some judges cannot do.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    steady, seconds = [], []
    for pair in held_out(n, graded):
        if edits_only and pair.task.source is None:
            continue
        source = None if pair.task.source is None else Image.fromarray(shapesworld.render(pair.task.source))
        case = Case(source=source, instruction=pair.task.instruction)
        attempts = [_picture(attempt) for attempt in (pair.first, pair.second)]
        forth, back = judge.compare(case, *attempts), judge.compare(case, *attempts[::-1])
        turned = {"first": "second", "second": "first", "": ""}[back.better]
        scores[pair.task.kind] += [_score(forth.better, pair.better), _score(turned, pair.better)]
        steady.append(forth.better == turned)
        seconds += [forth.seconds, back.seconds]
    everything = [score for values in scores.values() for score in values]
    return Accuracy(
        overall=float(np.mean(everything)),
        kinds={kind: float(np.mean(scores[kind])) for kind in pairs.KINDS if kind in scores},
        steady=float(np.mean(steady)),
        seconds=float(np.mean(seconds)),
    )


def _score(answer: str, better: str) -> float:
    return 0.5 if not answer else float(answer == better)


def _picture(attempt: pairs.Attempt) -> Image.Image:
    levels_HWC = (attempt.picture(shapesworld.SIZE) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HWC.contiguous().numpy())
