"""Contract of ShapesWorld: pictures, scenes and edits keep their specification, drawn here a second time."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from editkit import shapesworld as world
from editkit.shapesworld import Scene, Thing, scores
from editkit.shapesworld.masked import around_slot
from editkit.shapesworld.render import bitmaps, cells

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 50, 180),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "pink": (250, 150, 190),
    "cyan": (60, 200, 220),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "crescent")
SLOTS = {"top left": (8, 8), "top right": (23, 8), "bottom left": (8, 23), "bottom right": (23, 23)}
SIZES = (11, 13)
BLACK_LETTERED = ("white", "yellow", "cyan", "pink", "orange")
LETTERS = {
    "A": ".#. #.# ### #.# #.#",
    "E": "### #.. ##. #.. ###",
    "H": "#.# #.# ### #.# #.#",
    "K": "#.# #.# ##. #.# #.#",
    "L": "#.. #.. #.. #.. ###",
    "T": "### .#. .#. .#. .#.",
    "X": "#.# #.# .#. #.# #.#",
    "Z": "### ..# .#. #.. ###",
}
"""Rows from the top."""
KINDS = (*world.KINDS, "caption")


def scenes(count: int) -> list[Scene]:
    """Sources and answers of every kind."""
    drawn = [world.example(seed, kind) for kind in KINDS for seed in range(count)]
    return [scene for each in drawn for scene in (each.source, each.answer) if scene is not None]


def colour_at(scene: Scene, x: int, y: int) -> tuple[int, int, int]:
    """What the specification says of one cell."""
    found = COLOURS[scene.background]
    for thing in scene.things:
        right, below = x - thing.x, y - thing.y
        if thing.letter and abs(right) <= 1 and abs(below) <= 2:
            row = LETTERS[thing.letter].split()[below + 2]
            if row[right + 1] == "#":
                found = COLOURS["black" if thing.colour in BLACK_LETTERED else "white"]
                continue
        half = thing.size // 2
        if max(abs(right), abs(below)) > half or (scene.style == "stripes" and (x + y) % 4 >= 2):
            continue
        if bitmaps()[thing.shape, thing.size][scene.style == "outline"][below + half, right + half]:
            found = COLOURS[thing.colour]
    if scene.style != "gray":
        return found
    level = round(0.299 * found[0] + 0.587 * found[1] + 0.114 * found[2])
    return level, level, level


def test_cells_have_the_colours_of_the_specification() -> None:
    seen = scenes(6)
    assert {scene.style for scene in seen} == {"flat", "outline", "stripes", "gray"}
    assert {thing.letter for scene in seen for thing in scene.things} == {None, *LETTERS}
    for scene in seen[::3]:
        drawn_YXC = cells(scene)
        assert drawn_YXC.shape == (32, 32, 3)
        for y, x in itertools.product(range(32), repeat=2):
            assert tuple(drawn_YXC[y, x]) == colour_at(scene, x, y), (scene, x, y)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_pictures_are_cells_enlarged(size: int) -> None:
    for scene in scenes(2):
        picture_HWC, pixels = world.render(scene, size), size // 32
        assert picture_HWC.shape == (size, size, 3)
        assert picture_HWC.dtype == np.uint8
        blocks = picture_HWC.reshape(32, pixels, 32, pixels, 3)
        assert (blocks == cells(scene)[:, None, :, None]).all()
    assert world.render(scene).shape == (128, 128, 3)


def test_every_shape_has_bitmaps_of_both_sizes() -> None:
    assert set(bitmaps()) == set(itertools.product(SHAPES, SIZES))
    for (name, size), (filled, outlined) in bitmaps().items():
        assert filled.shape == outlined.shape == (size, size), name
        assert outlined.any(), name
        assert (filled >= outlined).all(), f"the outline of {name} leaves the shape"
        assert (filled > outlined).any(), f"{name} is its outline"
    for size, style in itertools.product(SIZES, (0, 1)):
        planes = {bitmaps()[name, size][style].tobytes() for name in SHAPES}
        assert len(planes) == len(SHAPES), "two shapes look alike"


@pytest.mark.parametrize("slot", SLOTS)
def test_things_stay_in_the_box_around_their_slot(slot: str) -> None:
    ground, box = Scene(background="white", things=()), np.zeros((128, 128), bool)
    empty = world.render(ground)
    box[around_slot(slot)] = True
    assert not any(box[around_slot(other)].any() for other in SLOTS if other != slot)
    for shape, size, right, below in itertools.product(SHAPES, SIZES, (-1, 0, 1), (-1, 0, 1)):
        x, y = SLOTS[slot][0] + right, SLOTS[slot][1] + below
        thing = Thing(shape=shape, colour="red", slot=slot, x=x, y=y, size=size, letter="A")
        drawn = (world.render(replace(ground, things=(thing,))) != empty).any(-1)
        assert drawn.any()
        assert not drawn[~box].any(), thing


def test_scenes_keep_the_specification() -> None:
    jitter = set()
    for scene in scenes(30):
        colours = [thing.colour for thing in scene.things]
        assert {*colours, scene.background} <= set(COLOURS)
        assert len({*colours, scene.background}) == len(colours) + 1
        assert len({thing.shape for thing in scene.things}) == len(colours)
        assert len({thing.slot for thing in scene.things}) == len(colours)
        assert {thing.size for thing in scene.things} <= set(SIZES)
        for thing in scene.things:
            x, y = SLOTS[thing.slot]
            jitter |= {thing.x - x, thing.y - y}
    assert jitter == {-1, 0, 1}


def test_what_is_made_stands_at_its_slots_centre() -> None:
    for kind, seed in itertools.product(("add", "move", "style reference", "character reference"), range(40)):
        example = world.example(seed, kind)
        assert example.source is not None
        kept = () if "reference" in kind else example.source.things
        (made,) = (thing for thing in example.answer.things if thing not in kept)
        assert (made.x, made.y) == SLOTS[made.slot]
        assert f"the {made.slot}" in example.instruction
        if kind in ("add", "style reference"):
            assert made.size == 13
        else:
            assert replace(made, slot="", x=0, y=0) in [
                replace(thing, slot="", x=0, y=0) for thing in example.source.things
            ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_every_kind_of_edit_is_possible_and_visible(kind: str, count: int) -> None:
    for seed in range(count):
        example = world.example(seed, kind)
        assert world.example(seed, kind) == example
        if example.source is None:
            continue
        source, answer = (world.render(scene) / np.float32(255) for scene in (example.source, example.answer))
        assert scores.changed(source, answer).mean() > 0.002, (seed, example.instruction)


def test_sessions_go_on_from_the_answer_before() -> None:
    for seed in range(40):
        turns = world.session(seed)
        assert len(turns) == 5
        for before, after in itertools.pairwise(turns):
            assert after.source == before.answer
        assert world.session(seed) == turns


def test_letters_stand_out() -> None:
    """From what is behind them, where the thing has a hole there, too."""
    for scene in scenes(30):
        for thing in (thing for thing in scene.things if thing.letter):
            assert thing.letter_colour == ("black" if thing.colour in BLACK_LETTERED else "white")
            assert thing.letter_colour != scene.background, (scene, thing)


def test_words_are_all_that_instructions_hold() -> None:
    known = world.words()
    for seed in random.Random(0).sample(range(1_000_000, 2_000_000), 200):
        text = world.example(seed).instruction
        assert set(text.replace(",", " ").split()) <= known, text


def test_a_picture_has_whole_pixels_for_each_cell() -> None:
    scene = world.example(0).answer
    assert world.render(scene, 64).shape == (64, 64, 3)
    with pytest.raises(ValueError, match="multiple of 32 pixels, not 100"):
        world.render(scene, 100)
