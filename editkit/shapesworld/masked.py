"""ShapesWorld's edits under a mask and from references: a seed gives pictures, words and the true answer."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from editkit.imaging.color import LUMA
from editkit.shapesworld import compound
from editkit.shapesworld.edits import ON_SCENE, REFERENCES, Edit, character_reference, style_reference
from editkit.shapesworld.open import open_edit
from editkit.shapesworld.render import CELL, SIZE, render
from editkit.shapesworld.world import JITTER, SIZES, SLOTS, Scene, draw_scene

Mask = NDArray[np.uint8]
LOCAL = ("recolour", "remove", "replace", "add")
FREE_SLOTS = "free slots"
MARGIN = (3, 12)
"""Pixels between what changes and the mask's edge."""
SLOT = JITTER + max(SIZES) // 2
"""Cells from a slot's centre to the edge of the box that holds any of its objects."""
CHANGED = 32
IN_CONTEXT = (
    "A diptych with two side-by-side images of the same scene. "
    "On the right, the scene is exactly the same as on the left but "
)
"""Beginning of a diptych's description."""
BLOCK = 8
"""Side of a mosaic's blocks."""
OWN_SCENE: dict[str, Callable[[random.Random], Edit]] = {
    **REFERENCES,
    **compound.MAKERS,
    "open": open_edit,
}
"""Kinds that draw their own scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedExample:
    """One example with its ground truth.

    Attributes:
        task: what it is to a method that tells tasks apart.
        kind: what is changed, or what the references are.
        source: the picture to be edited; None where only references are given.
        mask: uint8 HW, 255 where the edit may land; None for all of the picture.
    """

    seed: int
    task: str
    kind: str
    instruction: str
    source: Scene | None
    mask: Mask | None
    references: tuple[Scene, ...]
    answer: Scene

    def seen(self) -> Mask:
        """The picture that the edit starts from, uint8 HWC; an answer must differ from it."""
        picture = render(self.source or self.references[0])
        if self.task == "recolouring":
            gray: Mask = np.round(picture @ LUMA).astype(np.uint8)
            return gray[..., None].repeat(3, axis=-1)
        if self.task == "mosaic":
            squares = picture.reshape(SIZE // BLOCK, BLOCK, SIZE // BLOCK, BLOCK, 3)
            blocks: Mask = squares.mean((1, 3)).astype(np.uint8)
            return blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)
        return picture


Made = tuple[str, str, Scene | None, Mask | None, tuple[Scene, ...], Scene]


def local_editing(rng: random.Random, kind: str | None = None) -> Made:
    """Recolour, remove, replace or add, under a mask somewhat larger than what changes."""
    kind = kind or rng.choice(LOCAL)
    source, instruction, answer = ON_SCENE[kind][1](rng, draw_scene(rng, lettered=0.1))
    return kind, instruction, source, around(source, answer, rng), (), answer


def repainting(rng: random.Random, kind: str | None = None) -> Made:
    """The same edits, told by a description of the whole picture; what the mask hides does not matter."""
    kind = kind or rng.choice(LOCAL)
    source, _, answer = ON_SCENE[kind][1](rng, draw_scene(rng))
    words = answer.caption() if answer.things else f"a {answer.background} background"
    return kind, words, source, around(source, answer, rng), (), answer


def instruction(rng: random.Random, kind: str | None = None) -> Made:
    """Any edit of a scene, without a mask."""
    if kind is not None and kind in OWN_SCENE:
        source, words, answer = OWN_SCENE[kind](rng)
        return kind, words, source, None, (), answer
    kind = kind or rng.choice(list(ON_SCENE))
    scene = draw_scene(rng)
    while kind == "letter" and not any(thing.letter for thing in scene.things):
        scene = draw_scene(rng, lettered=0.7)
    source, words, answer = ON_SCENE[kind][1](rng, scene)
    return kind, words, source, None, (), answer


def beside(rng: random.Random, kind: str | None = None) -> Made:
    """The same edits, the picture given as a reference for a new one."""
    kind, words, source, _, _, answer = instruction(rng, kind)
    assert source is not None  # kinds on a scene start from one
    return kind, words, None, None, (source,), answer


def diptych(rng: random.Random, kind: str | None = None) -> Made:
    """The same, under words that describe both pictures side by side."""
    kind, words, _, _, references, answer = beside(rng, kind)
    return kind, IN_CONTEXT + words, None, None, references, answer


def described(rng: random.Random) -> Made:
    """A picture and its description, for tasks that reduce the picture and want it back."""
    scene = draw_scene(rng)
    return "", scene.caption(), scene, None, (), scene


def character(rng: random.Random) -> Made:
    """The reference's thing elsewhere on another background."""
    reference, words, answer = character_reference(rng)
    return "character reference", words, None, None, (reference,), answer


def style(rng: random.Random) -> Made:
    """Another thing in the reference's style."""
    reference, words, answer = style_reference(rng)
    return "style reference", words, None, None, (reference,), answer


def local_reference(rng: random.Random, kind: str | None = None) -> Made:
    """The reference's thing in a masked slot of another scene, or in all free slots."""
    source = draw_scene(rng, count=rng.randint(1, 2))
    taken = {source.background, *(thing.colour for thing in source.things)}
    reference = draw_scene(rng, count=1, lettered=0.3)
    while reference.things[0].colour in taken or reference.things[0].shape not in source.new_shapes():
        reference = draw_scene(rng, count=1, lettered=0.3)
    thing = reference.things[0]
    slots = source.free_slots() if kind == FREE_SLOTS else [rng.choice(source.free_slots())]
    if not thing.shows_letter_on(source.background):
        thing = replace(thing, letter=None)
        reference = replace(reference, things=(thing,))
    answer = replace(source, things=(*source.things, *(thing.at(slot) for slot in slots)))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for slot in slots:
        mask[around_slot(slot)] = 255
    words = "put this character " + " and ".join(f"in the {slot}" for slot in slots)
    return kind or "local reference", words, source, mask, (reference,), answer


MASKED: dict[str, tuple[str, Callable[..., Made]]] = {
    "local editing": ("local_editing", local_editing),
    "repainting": ("repainting", repainting),
    "instruction": ("instruction", instruction),
    "instruction beside": ("subject", beside),
    "diptych": ("subject", diptych),
    "recolouring": ("recolouring", described),
    "mosaic": ("mosaic", described),
    "character": ("subject", character),
    "style": ("subject", style),
    "local reference": ("local_reference", local_reference),
}
"""By name: the task that a method is asked for, and what makes an example."""
EDITS = {
    **dict.fromkeys(("local editing", "repainting"), LOCAL),
    **dict.fromkeys(("instruction", "instruction beside", "diptych"), (*ON_SCENE, *OWN_SCENE)),
    "local reference": (FREE_SLOTS,),
}
"""By name of one of `MASKED`: the edits that can be asked for by themselves, as in `diptych/replace`."""
NAMES = (*MASKED, *(f"{name}/{edit}" for name, edits in EDITS.items() for edit in edits))


def masked_example(seed: int, name: str) -> MaskedExample:
    """The example of one of `NAMES` that a seed stands for; seeds are held out as those of `example` are."""
    group, _, edit = name.partition("/")
    task, make = MASKED[group]
    rng = random.Random(f"{name} {seed}")
    kind, words, source, mask, references, answer = make(rng, edit) if edit else make(rng)
    return MaskedExample(
        seed=seed,
        task=task,
        kind=kind or name,
        instruction=words,
        source=source,
        mask=mask,
        references=references,
        answer=answer,
    )


def around_slot(slot: str) -> tuple[slice, slice]:
    """Rows and columns, in pixels, that hold any object of a slot."""
    x, y = SLOTS[slot]
    rows, columns = (slice((c - SLOT) * CELL, (c + SLOT + 1) * CELL) for c in (y, x))
    return rows, columns


def around(source: Scene, answer: Scene, rng: random.Random) -> Mask:
    """A box around what changes, with a margin of its own on each side."""
    before, after = (render(scene).astype(int) for scene in (source, answer))
    rows, columns = np.nonzero((np.abs(after - before) > CHANGED).any(-1))
    mask = np.zeros(before.shape[:2], np.uint8)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    top, left = (max(0, edge - rng.randint(*MARGIN)) for edge in (top, left))
    bottom, right = (edge + rng.randint(*MARGIN) for edge in (bottom, right))
    mask[top:bottom, left:right] = 255
    return mask
