"""Edits in few steps: the figures of one example."""

from __future__ import annotations

import editkit
from benchmarks import few_steps
from tests.pictures import image


def test_pictures_of_two_seeds_differ() -> None:
    found = few_steps.measured(editkit.load("tiny", device="cpu"), "kontext", count=2, seeds=2, steps=2)
    assert 0 < found.diversity < 0.5
    assert {found.references, found.sharp_references} <= {0.0, 0.5, 1.0}
    assert {found.success, found.sharp} <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_distance() -> None:
    black, white = image(8, 8).point(lambda _: 0), image(8, 8).point(lambda _: 255)
    assert few_steps.distance(black, white) == 1
    assert few_steps.distance(white, white) == 0
