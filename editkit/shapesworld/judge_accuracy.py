"""Measure how often a judge prefers the better attempt, on held-out pairs of ShapesWorld."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from editkit import shapesworld
from editkit.judges.base import Case, Judge
from editkit.shapesworld.recipes import judge_attempts, judge_pairs
from editkit.shapesworld.recipes.judge_attempts import Attempts
from editkit.shapesworld.recipes.judge_pairs import Pair

Question = tuple[str, Case, list[Image.Image], str]
"""Kind, case, two attempts and which is better."""


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
        pair = judge_pairs.pair(judge_pairs.task(seed), seed, graded)
        if not graded or abs(pair.first.quality - pair.second.quality) >= judge_pairs.CLEAR:
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
    questions: list[Question] = []
    for pair in held_out(n, graded):
        if edits_only and pair.task.source is None:
            continue
        source = None if pair.task.source is None else Image.fromarray(shapesworld.render(pair.task.source))
        case = Case(source=source, instruction=pair.task.instruction)
        shown = [_picture(attempt.picture(shapesworld.SIZE)) for attempt in (pair.first, pair.second)]
        questions.append((pair.task.kind, case, shown, pair.better))
    return _accuracy(judge, questions)


def attempts_accuracy(judge: Judge, made: Attempts) -> Accuracy:
    """Ask a judge about two of a method's own attempts at each edit, in both orders, where they differ."""
    questions: list[Question] = []
    for number, (pixels_NCHW, misses_N) in enumerate(
        zip(made.pixels_ENCHW, made.misses_EN.tolist(), strict=True)
    ):
        edit = judge_attempts.sampled(made.start + number)
        if preferred := judge_attempts.better(*misses_N[:2]):
            case = Case(source=Image.fromarray(shapesworld.render(edit.source)), instruction=edit.instruction)
            shown = [_picture(pixels_CHW / 255) for pixels_CHW in pixels_NCHW[:2]]
            questions.append(("open" if edit.open else "one answer", case, shown, preferred))
    return _accuracy(judge, questions)


def _accuracy(judge: Judge, questions: list[Question]) -> Accuracy:
    scores: dict[str, list[float]] = defaultdict(list)
    steady, seconds = [], []
    for kind, case, shown, better in questions:
        forth, back = judge.compare(case, *shown), judge.compare(case, *shown[::-1])
        turned = {"first": "second", "second": "first", "": ""}[back.better]
        scores[kind] += [_score(forth.better, better), _score(turned, better)]
        steady.append(forth.better == turned)
        seconds += [forth.seconds, back.seconds]
    return Accuracy(
        overall=float(np.mean([score for values in scores.values() for score in values])),
        kinds={kind: float(np.mean(scores[kind])) for kind in sorted(scores)},
        steady=float(np.mean(steady)),
        seconds=float(np.mean(seconds)),
    )


def _score(answer: str, better: str) -> float:
    return 0.5 if not answer else float(answer == better)


def _picture(pixels_CHW: Tensor) -> Image.Image:
    levels_HWC = (pixels_CHW * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HWC.contiguous().numpy())
