"""The drawn world: edits, scenes and scores."""

from __future__ import annotations

import numpy as np
import pytest

from editkit import shapesworld as world
from editkit.shapesworld import scores


@pytest.mark.parametrize("kind", [*world.KINDS, "caption"])
@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_every_kind_of_edit_is_possible_and_visible(kind: str, count: int) -> None:
    for seed in range(count):
        example = world.example(seed, kind)
        if example.source is None:
            continue
        source, answer = (world.render(scene) / 255 for scene in (example.source, example.answer))
        assert scores.changed(source, answer).mean() > 0.002, (seed, example.instruction)
        assert world.example(seed, kind) == example


def test_scenes_keep_the_specification() -> None:
    for seed in range(100):
        example = world.example(seed)
        for scene in (example.source, example.answer):
            assert scene is not None
            colours = [thing.colour for thing in scene.things]
            assert len({*colours, scene.background}) == len(colours) + 1
            assert len({thing.shape for thing in scene.things}) == len(colours)
            assert len({thing.slot for thing in scene.things}) == len(colours)


def test_the_true_answer_succeeds_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        example = world.example(seed)
        assert example.source is not None
        source, answer = (
            (world.render(scene) / 255).astype(np.float32) for scene in (example.source, example.answer)
        )
        assert scores.score(source, answer, answer, example.category).success
        assert not scores.score(
            source, answer, rng.random(answer.shape, dtype=np.float32), example.category
        ).success
