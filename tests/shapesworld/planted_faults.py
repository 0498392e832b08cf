"""Faulty answers to ShapesWorld's edits: each takes an example, and draws what a score is meant to see."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from editkit import shapesworld as world
from editkit.shapesworld import Example, Scene, Thing
from editkit.shapesworld.render import LUMA, Picture, bitmaps, cells, enlarged
from editkit.shapesworld.scores import REFERENCE_CATEGORIES
from editkit.shapesworld.world import COLOURS, LETTERS

BLUR, CONTRAST = 4, 0.5
"""Pixels of a blur that nobody overlooks, a cell wide, and the contrast from which on it spoils cells."""
SEEN = 0.2
"""Contrast below which no cell counts as wrong; in gray it may even be none."""

Fault = Callable[[Example], Picture | None]
"""None where the example has nothing that could be faulty so."""


def subject(example: Example) -> Thing | None:
    """The thing that is made or changed, or any of the answer's where there is none."""
    assert example.source is not None
    kept = () if example.kind in REFERENCE_CATEGORIES else example.source.things
    new = [thing for thing in example.answer.things if thing not in kept]
    return next(iter([*new, *example.answer.things]), None)


def _made(example: Example) -> Thing:
    found = subject(example)
    assert found is not None, "nothing is made or changed"
    return found


def _with(example: Example, new: Thing | None) -> Picture:
    """The answer with something else in the thing's place."""
    return world.render(example.answer.swap(_made(example), new))


def _levels(scene: Scene, colour: str) -> Picture:
    """A colour as the scene's style shows it."""
    levels = np.array(COLOURS[colour])
    return np.round(levels @ LUMA).repeat(3) if scene.style == "gray" else levels


def _contrast(scene: Scene, thing: Thing) -> float:
    """To the background, in the channel where it is largest."""
    apart = _levels(scene, thing.colour) - _levels(scene, scene.background)
    return float(np.abs(apart).max() / 255)


# The edit was not made.


def copied(example: Example) -> Picture:
    """The source."""
    assert example.source is not None
    return world.render(example.source)


def emptied(example: Example) -> Picture:
    """The answer's background alone."""
    return world.render(replace(example.answer, things=()))


def lacking(example: Example) -> Picture:
    """All but the thing."""
    return _with(example, None)


def miscoloured(example: Example) -> Picture:
    """The thing, or where that is what changes the background, in the colour furthest from the right one."""
    scene, ground = example.answer, example.kind == "background"
    right = _levels(scene, scene.background if ground else _made(example).colour)
    wrong = max(scene.new_colours(), key=lambda other: np.abs(_levels(scene, other) - right).mean())
    if ground:
        return world.render(replace(scene, background=wrong))
    return _with(example, replace(_made(example), colour=wrong))


def misshapen(example: Example) -> Picture:
    """The thing in the shape that has least in common with the right one."""
    thing = _made(example)
    right, _ = bitmaps()[thing.shape, thing.size]

    def apart(shape: str) -> float:
        wrong, _ = bitmaps()[shape, thing.size]
        return float((wrong ^ right).sum() / (wrong | right).sum())

    return _with(example, replace(thing, shape=max(example.answer.new_shapes(), key=apart)))


def misplaced(example: Example) -> Picture | None:
    """The thing in another slot that is free."""
    free = example.answer.free_slots()
    return _with(example, _made(example).at(free[example.seed % len(free)])) if free else None


def unlettered(example: Example) -> Picture | None:
    """The thing without the letter that it is to have."""
    thing = _made(example)
    return _with(example, replace(thing, letter=None)) if thing.letter else None


def misspelt(example: Example) -> Picture | None:
    """The thing with the letter that has least in common with the right one."""
    thing, right = _made(example), world.render(example.answer)
    if not thing.letter:
        return None
    drawn = [_with(example, replace(thing, letter=letter)) for letter in LETTERS]
    return max(drawn, key=lambda wrong: int((wrong != right).sum()))


# The edit was not made well.


def blurred(example: Example) -> Picture | None:
    """The whole picture, where something stands out from it."""
    scene = example.answer
    if not any(_contrast(scene, thing) >= CONTRAST for thing in scene.things):
        return None
    return np.asarray(Image.fromarray(world.render(scene)).filter(ImageFilter.GaussianBlur(BLUR)))


def moved(example: Example) -> Picture | None:
    """The thing two cells towards the middle."""
    thing = subject(example)
    if thing is None or _contrast(example.answer, thing) <= SEEN:
        return None
    return _with(example, replace(thing, x=thing.x + (2 if thing.x < 16 else -2)))


def lumpy(example: Example) -> Picture | None:
    """A quarter of the cells along the thing's border, inside or outside, are on the other side of it."""
    scene, thing = example.answer, subject(example)
    if thing is None or _contrast(scene, thing) <= SEEN:
        return None
    made_YXC = cells(scene)
    on, off = _levels(scene, thing.colour), _levels(scene, scene.background)
    border = [*zip(*np.nonzero(_border(thing)), strict=True)]
    for place in random.Random(example.seed).sample(border, len(border) // 4):
        made_YXC[place] = off if (made_YXC[place] == on).all() else on
    return enlarged(made_YXC)


def _border(thing: Thing) -> np.ndarray:
    inside_YX, half = np.zeros((32, 32), bool), thing.size // 2
    rows, columns = (slice(centre - half, centre + half + 1) for centre in (thing.y, thing.x))
    inside_YX[rows, columns], _ = bitmaps()[thing.shape, thing.size]
    near = [np.roll(inside_YX, step, axis) != inside_YX for step in (-1, 1) for axis in (0, 1)]
    return np.logical_or.reduce(near)
