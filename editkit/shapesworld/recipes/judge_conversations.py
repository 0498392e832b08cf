"""Examples for a judge in training: two attempts at an edit, and the answer that it should give."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from editkit.shapesworld import Scene
from editkit.shapesworld.recipes import judge_model, judge_pairs
from editkit.shapesworld.recipes.judge_pairs import Attempt, Pair
from editkit.shapesworld.world import SLOTS

CLEAR = 0.6
"""Share from which on a mixture shows its front rather than its back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeExample:
    """One conversation.

    Attributes:
        instruction: what was to be done.
        pictures: the source, if there is one, and both attempts, each (3, size, size) in [0, 1].
        scenes: what each shows.
        clear: whether that can be told by looking.
        reply: what should be answered.
    """

    instruction: str
    pictures: list[Tensor]
    scenes: list[Scene]
    clear: list[bool]
    reply: str


def drawn(pair: Pair, size: int) -> JudgeExample:
    """A pair of drawn attempts."""
    attempts = (pair.first, pair.second)
    right = [outcome.scene for outcome in pair.task.outcomes if outcome.quality == judge_pairs.RIGHT]
    marks = [mark for attempt in attempts for mark in _marks(attempt, right)]
    source = [] if pair.task.source is None else [pair.task.source]
    return JudgeExample(
        instruction=pair.task.instruction,
        pictures=[judge_pairs.drawn(scene, size) for scene in source]
        + [each.picture(size) for each in attempts],
        scenes=[*source, *(attempt.front.scene for attempt in attempts)],
        clear=[*(True for _ in source), *(attempt.share > CLEAR for attempt in attempts)],
        reply=reply(marks, pair.better),
    )


def reply(marks: Sequence[int], better: str) -> str:
    """For each attempt, how well each part of it is as it should be, in ninths, then the answer.

    The parts make the comparison learnable: an answer alone is one bit for three pictures.
    """
    return f"{' '.join(map(str, marks))} {judge_model.BETTER[better]}"


def parts(scene: Scene) -> list[str]:
    """Background, style, and what each slot in turn holds: always the same number of words."""
    held = {thing.slot: thing for thing in scene.things}
    found = [scene.background, scene.style]
    for slot in SLOTS:
        thing = held.get(slot)
        found.append(f"{thing.colour} {thing.shape} {thing.letter or 'no'}" if thing else "no no no")
    return found


def _marks(attempt: Attempt, right: Sequence[Scene]) -> list[int]:
    """Of background, style and slots, against the right scene that the attempt is most like."""
    made = parts(attempt.front.scene)
    wanted = max((parts(scene) for scene in right), key=lambda each: sum(map(operator.eq, made, each)))
    shares = zip(
        (part == good for part, good in zip(made, wanted, strict=True)),
        (part == good for part, good in zip(parts(attempt.back.scene), wanted, strict=True)),
        strict=True,
    )
    return [round(judge_model.TOP_MARK * (attempt.share * a + (1 - attempt.share) * b)) for a, b in shares]
