"""Contract of ShapesWorld's scores: faults are planted, and each must fail the score that is meant to see it.

Success says that the edit was made, sharp that it was made well: its shape, its place and its edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from editkit import shapesworld as world
from editkit.shapesworld import Example
from editkit.shapesworld.render import Picture, cells, enlarged
from editkit.shapesworld.scores import REFERENCE_CATEGORIES, Score, score
from tests.shapesworld import planted_faults as faults
from tests.shapesworld.planted_faults import Fault

SEEDS = range(20)
DRAWN = ("replace", "add", *REFERENCE_CATEGORIES)
"""Kinds that draw a thing which was not in this place."""
COLOURED = ("recolour", "move", "background", *DRAWN)
"""Kinds in which a colour is asked for, or part of what is to be drawn."""

Planted = tuple[Fault, tuple[str, ...]]
UNMADE: tuple[Planted, ...] = (
    (faults.copied, world.KINDS),
    (faults.emptied, ("add", *REFERENCE_CATEGORIES)),
    (faults.lacking, DRAWN),
    (faults.miscoloured, COLOURED),
    (faults.misshapen, DRAWN),
    (faults.misplaced, ("add", "move", *REFERENCE_CATEGORIES)),
    (faults.misspelt, ("letter",)),
    (faults.unlettered, ("letter",)),
)
ILL_MADE: tuple[Planted, ...] = (
    (faults.blurred, world.KINDS),
    (faults.moved, world.KINDS),
    (faults.lumpy, world.KINDS),
    (faults.misspelt, ("character reference",)),
    (faults.unlettered, ("character reference",)),
)
SLIPS = {
    "lacking-replace": "most of what changes is where the old thing was",
    "emptied-style reference": "strokes in a colour near the background's",
    "lacking-style reference": "strokes in a colour near the background's",
    "misplaced-style reference": "strokes in a colour near the background's",
    "misshapen-style reference": "strokes in a colour near the background's",
}
"""What success is meant to see and does not yet, and where."""


def planted(*chosen: Planted) -> list[Any]:
    """A case for each kind that a fault is planted in."""
    cases = [(f"{fault.__name__}-{kind}", fault, kind) for fault, kinds in chosen for kind in kinds]
    missed = {name: (pytest.mark.xfail(reason=reason),) for name, reason in SLIPS.items()}
    return [pytest.param(fault, kind, id=name, marks=missed.get(name, ())) for name, fault, kind in cases]


def pixels(picture: Picture) -> Any:
    """In [0, 1]."""
    return picture.astype(np.float32) / np.float32(255)


def scored(example: Example, made_HWC: Any) -> Score:
    """The score of pixels in [0, 1]."""
    assert example.source is not None
    truth = (pixels(world.render(scene)) for scene in (example.source, example.answer))
    return score(*truth, made_HWC, example.category)


def results(fault: Fault, kind: str) -> dict[int, Score]:
    """Scores of a fault by seed."""
    made = [(example, fault(example)) for example in (world.example(seed, kind) for seed in SEEDS)]
    found = {example.seed: scored(example, pixels(drawn)) for example, drawn in made if drawn is not None}
    assert len(found) >= 5, "the fault can hardly be planted"
    return found


@pytest.mark.parametrize("kind", world.KINDS)
def test_the_true_answer_succeeds_and_is_sharp(kind: str) -> None:
    found = results(lambda example: world.render(example.answer), kind)
    assert all(each.success and each.sharp and each.inside == each.outside == 0 for each in found.values())


@pytest.mark.parametrize(("fault", "kind"), planted(*UNMADE))
def test_success_sees_that_the_edit_was_not_made(fault: Fault, kind: str) -> None:
    assert [seed for seed, each in results(fault, kind).items() if each.success] == []


@pytest.mark.parametrize(("fault", "kind"), planted(*ILL_MADE))
def test_sharp_sees_that_it_was_not_made_well(fault: Fault, kind: str) -> None:
    assert [seed for seed, each in results(fault, kind).items() if each.sharp] == []


@pytest.mark.parametrize("kind", world.KINDS)
def test_what_is_hard_to_see_costs_nothing(kind: str) -> None:
    """Noise and a cast of some levels, and four wrong cells; a fifth one is too many."""
    rng = np.random.default_rng(0)
    for seed in SEEDS:
        example = world.example(seed, kind)
        answer_HWC = pixels(world.render(example.answer))
        found = scored(example, answer_HWC + rng.normal(0.02, 0.02, answer_HWC.shape).astype(np.float32))
        assert (found.success, found.sharp) == (True, True), seed
        spotted_YXC = cells(example.answer)
        for count, place in enumerate(rng.permutation(32 * 32)[:5], start=1):
            spotted_YXC[divmod(int(place), 32)] ^= 128  # half of the range off in each channel
            assert scored(example, pixels(enlarged(spotted_YXC))).sharp == (count <= 4), (seed, count)


@pytest.mark.parametrize("kind", world.KINDS)
def test_noise_is_no_edit(kind: str) -> None:
    rng = np.random.default_rng(0)
    found = results(lambda example: rng.integers(0, 256, (128, 128, 3)), kind)
    assert not any(each.success or each.sharp for each in found.values())
