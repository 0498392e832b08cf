"""Masked examples and the tasks they are for."""

from __future__ import annotations

import numpy as np
import pytest

from editkit import shapesworld
from editkit.data import buckets
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.shapesworld.masked import IN_CONTEXT, NAMES
from methods.aceplus import tasks


@pytest.mark.parametrize("name", sorted(NAMES))
def test_masked_examples(name: str) -> None:
    for seed in range(2):
        example = shapesworld.masked_example(seed, name)
        again = shapesworld.masked_example(seed, name)
        assert example.instruction == again.instruction
        _, _, kind = name.partition("/")
        assert example.kind == kind or not kind
        assert (
            set(example.instruction.removeprefix(IN_CONTEXT).replace(",", "").split()) <= shapesworld.words()
        )
        given = {
            "image": example.source is not None,
            "mask": example.mask is not None,
            "references": bool(example.references),
        }
        assert tasks.choose(example.task, **given).name == example.task
        if example.mask is None:
            continue
        before, after = (shapesworld.render(scene).astype(int) for scene in (example.source, example.answer))
        outside = example.mask == 0
        assert (np.abs(after - before)[outside] <= 2).all()
        assert (np.abs(after - before)[~outside] > 32).any()


def test_records_of_one_task_stand_together() -> None:
    masked = dataset(DataConfig(name="shapesworld masked", count=40))
    shapes = {buckets.shape_key(masked[n]) for n in range(40)}
    assert len(shapes) == len({masked[n].task for n in range(40)}) >= 5
