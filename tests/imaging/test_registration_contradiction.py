"""Law: an edit that moves nothing is never measured as a motion that its blocks deny."""

from __future__ import annotations

import torch

from editkit.data import check
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.imaging import images, registration


def test_a_recoloured_square_alone_has_not_moved() -> None:
    """All that can be seen is in the change, and its colours turn from lighter to much darker."""
    record = dataset(DataConfig(count=2000))[1597]
    assert record.source is not None
    pair = (images.tensor(images.Picture(rgb=each)) for each in (record.source, record.answer))
    moved = registration.measure(*pair)
    assert moved is None or moved.shift < registration.AGREE
    assert check.problems(record) == []


def test_a_textured_picture_is_still_measured_to_a_fraction() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 40, 40, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, (160, 160), mode="bicubic").clamp(0, 1)
    moved = registration.measure(picture, torch.roll(picture, (3, -2), (2, 3)))
    assert moved is not None
    assert abs(moved.down - 3) + abs(moved.right + 2) < 0.1
