"""Compound instructions: a seed gives a scene, two or three edits of it joined by "and", and the answer."""

import random

from editkit.shapesworld.edits import ON_SCENE, Edit, Example
from editkit.shapesworld.world import Scene, Thing, draw_scene

PARTS = {
    "recolour": 1.0,
    "replace": 2.0,
    "add": 1.0,
    "move": 1.0,
    "background": 1.0,
    "letter": 2.0,
}
"""Weights of the edits that an instruction joins."""


def compound_example(seed: int) -> Example:
    """The compound edit that a seed stands for."""
    source, instruction, answer = compound(random.Random(f"compound {seed}"))
    return Example(
        seed=seed,
        category="compound",
        kind="compound",
        instruction=instruction,
        source=source,
        answer=answer,
    )


def compound(rng: random.Random) -> Edit:
    """Two or three edits; no thing and no background is edited twice."""
    scene = draw_scene(rng, count=rng.randint(2, 3), lettered=rng.choice((0.0, 0.5)))
    answer, phrases, count = scene, list[str](), rng.randint(2, 3)
    while len(phrases) < count:
        kinds = {kind: weight for kind, weight in PARTS.items() if _possible(kind, scene, answer)}
        (kind,) = rng.choices(list(kinds), list(kinds.values()))
        _, make = ON_SCENE[kind]
        _, words, edited = make(rng, answer)
        if all(thing in scene.things for thing in _gone(answer, edited)):
            answer, phrases = edited, [*phrases, words]
    return scene, " and ".join(phrases), answer


def _possible(kind: str, scene: Scene, answer: Scene) -> bool:
    """Whether the answer so far allows one more edit of a kind."""
    if kind == "add":
        return len(answer.things) < 3
    if kind == "background":
        return answer.background == scene.background
    if kind == "letter":
        return any(thing.letter or thing.shows_letter_on(answer.background) for thing in answer.things)
    return True


def _gone(before: Scene, after: Scene) -> list[Thing]:
    return [thing for thing in before.things if thing not in after.things]
