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
DRAWING = {"replace": 1.0, "letter": 1.0}
"""Weights of the edits that draw something where a thing of the source lies."""
LETTERING = {"letter": 1.0}
"""Weights of the edits that write, change or remove a letter."""
COMPOUND = ("compound", "compound/drawing", "compound/letters", "compound/characters")
"""Two or three edits of any kind; for each of two or three things, one of `DRAWING` or of `LETTERING`; or a
reference's thing in all other slots."""


def compound_example(seed: int, kind: str = "compound") -> Example:
    """The compound edit of one of `COMPOUND` that a seed stands for."""
    source, instruction, answer = MAKERS[kind](random.Random(f"{kind} {seed}"))
    return Example(
        seed=seed,
        category="compound",
        kind=kind,
        instruction=instruction,
        source=source,
        answer=answer,
    )


def compound(rng: random.Random) -> Edit:
    """Two or three edits; no thing and no background is edited twice."""
    scene = draw_scene(rng, count=rng.randint(2, 3), lettered=rng.choice((0.0, 0.5)))
    return _joined(rng, scene, PARTS, rng.randint(2, 3))


def drawing(rng: random.Random) -> Edit:
    """Each of two or three things gets another shape or letter."""
    scene = draw_scene(rng, count=rng.randint(2, 3), lettered=rng.choice((0.0, 0.5)))
    return _joined(rng, scene, DRAWING, len(scene.things))


def letters(rng: random.Random) -> Edit:
    """Each of two or three things that can carry a letter gets one, or another, or loses it."""
    scene = draw_scene(rng, count=rng.randint(2, 3), lettered=rng.choice((0.0, 0.5)))
    able = [thing for thing in scene.things if thing.shows_letter_on(scene.background)]
    return _joined(rng, scene, LETTERING, len(able)) if able else letters(rng)


def characters(rng: random.Random) -> Edit:
    """The thing of the source in the three other slots on another background, with its letter or without."""
    scene = draw_scene(rng, count=1, lettered=rng.choice((0.0, 1.0)))
    (thing,) = scene.things
    slots = rng.sample(scene.free_slots(), 3)
    colour = rng.choice(
        [new for new in scene.new_colours() if not thing.letter or thing.shows_letter_on(new)]
    )
    answer = Scene(background=colour, things=tuple(thing.at(slot) for slot in slots))
    subject = rng.choice(("the same character", "put this character"))
    places = " and ".join(f"in the {slot}" for slot in slots)
    return scene, f"{subject} {places} on a {colour} background", answer


def _joined(rng: random.Random, scene: Scene, parts: dict[str, float], count: int) -> Edit:
    answer, phrases = scene, list[str]()
    while len(phrases) < count:
        kinds = {kind: weight for kind, weight in parts.items() if _possible(kind, scene, answer)}
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


MAKERS = dict(zip(COMPOUND, (compound, drawing, letters, characters), strict=True))
