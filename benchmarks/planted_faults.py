"""Held-out edits of ShapesWorld, each with a clean result and six results with one planted fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from editkit import shapesworld as world
from editkit.evaluation.records import RGB, Case, Edit, Item
from editkit.shapesworld import Scene, Thing
from editkit.shapesworld.render import CELLS

KINDS = ("recolour", "replace", "add")
NOISE, BLUR, SHIFT, MOVE = 2.0, 1.5, 3, 2
"""Levels of 255; pixels; pixels; cells of the picture."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One edit: its source and its answer, and what differs between them.

    Attributes:
        source: the scene before.
        answer: the scene after.
        new: the thing that the edit gave.
        old: a thing that it left alone.
        instruction: the edit in words.
        category: ShapesWorld's own.
    """

    source: Scene
    answer: Scene
    new: Thing
    old: Thing
    instruction: str
    category: str


def edits(n: int) -> Iterator[Planted]:
    """Held-out edits that give something new and leave something alone."""
    made = seed = 0
    while made < n:
        example = world.example(seed, KINDS[made % len(KINDS)])
        seed += 1
        assert example.source is not None
        new = [thing for thing in example.answer.things if thing not in example.source.things]
        old = [thing for thing in example.answer.things if thing in example.source.things]
        if new and old:
            made += 1
            yield Planted(
                source=example.source, answer=example.answer, new=new[0], old=old[0],
                instruction=example.instruction, category=example.category,
            )  # fmt: skip


def wrong_colour(edit: Planted, rng: random.Random) -> RGB:
    """The new thing in a colour that nothing else has."""
    other = replace(edit.new, colour=rng.choice(edit.answer.new_colours()))
    return world.render(edit.answer.swap(edit.new, other))


def moved_object(edit: Planted, rng: random.Random) -> RGB:
    """A thing that should have stayed, some cells off, away from the border, along one axis or both."""
    across, down = rng.choice(((MOVE, MOVE), (MOVE, 0), (0, MOVE)))
    middle = CELLS // 2
    x, y = (
        place + (step if place < middle else -step)
        for place, step in ((edit.old.x, across), (edit.old.y, down))
    )
    moved = replace(edit.old, x=x, y=y)
    return world.render(edit.answer.swap(edit.old, moved))


def changed_background(edit: Planted, rng: random.Random) -> RGB:
    """Another background."""
    return world.render(replace(edit.answer, background=rng.choice(edit.answer.new_colours())))


def blurred(edit: Planted, rng: random.Random) -> RGB:
    """All of it a little soft."""
    clean = Image.fromarray(world.render(edit.answer))
    return np.asarray(clean.filter(ImageFilter.GaussianBlur(BLUR)))


def shifted(edit: Planted, rng: random.Random) -> RGB:
    """All of it some pixels to one side, the edge repeated."""
    clean = np.pad(world.render(edit.answer), ((0, 0), (SHIFT, SHIFT), (0, 0)), mode="edge")
    start = rng.choice((0, 2 * SHIFT))
    return clean[:, start : start + world.SIZE]


def copied(edit: Planted, rng: random.Random) -> RGB:
    """The source, as if nothing had been asked."""
    return world.render(edit.source)


FAULTS: dict[str, Callable[[Planted, random.Random], RGB]] = {
    "colour": wrong_colour,
    "moved": moved_object,
    "ground": changed_background,
    "blur": blurred,
    "shift": shifted,
    "copy": copied,
}


def noisy(picture: RGB, seed: int) -> RGB:
    """A picture as a sampler leaves it, not quite flat."""
    noise = np.random.default_rng(seed).normal(0, NOISE, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def cases(edit: Planted, number: int) -> dict[str, Case]:
    """The clean result and the faulty ones, each beside source and answer."""
    results = {"clean": world.render(edit.answer)}
    results |= {name: fault(edit, random.Random(f"{name} {number}")) for name, fault in FAULTS.items()}
    item = Item(id=str(number), instruction=edit.instruction, category=edit.category)
    return {
        name: Case(
            item=item,
            edit=Edit(method=name, item=item.id, place=number),
            result=noisy(result, 100 * number + place),
            source=world.render(edit.source),
            answer=world.render(edit.answer),
        )
        for place, (name, result) in enumerate(results.items())
    }
