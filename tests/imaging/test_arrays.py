"""Pictures that are given as arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from editkit.errors import EditkitError
from editkit.imaging import images, masks

LEVELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.mark.parametrize(
    "given",
    [
        LEVELS,
        LEVELS / 255,
        (LEVELS / 255).astype(np.float32),
        torch.from_numpy(LEVELS),
        (torch.from_numpy(LEVELS) / 255).requires_grad_(),
    ],
    ids=["uint8", "float64", "float32", "tensor", "float tensor"],
)
def test_an_array_is_the_picture_of_its_levels(given: Any) -> None:
    assert np.array_equal(images.load_image(given).rgb, LEVELS)


def test_a_fourth_channel_is_opacity() -> None:
    found = images.load_image(np.dstack((LEVELS, np.full((5, 7), 9, np.uint8))))
    assert found.alpha is not None
    assert (found.alpha == 9).all()


@pytest.mark.parametrize("kind", [np.float32, np.bool_, torch.bool])
def test_a_flat_array_is_a_mask(kind: Any) -> None:
    """Of bools too, as segmentation gives it."""
    mask_HW = np.zeros((5, 7), np.float32)
    mask_HW[2, 3] = 1
    given = torch.from_numpy(mask_HW).bool() if kind is torch.bool else mask_HW.astype(kind)
    assert np.array_equal(masks.load_mask(given, (7, 5)).values_HW, mask_HW)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(3, 5, 7), "shape 3 x 5 x 7 and type float32; give height x width"),
        (LEVELS.astype(np.float32), "values from 0 to 104; give .* floats in"),
        (np.full((5, 7, 3), np.nan), "values from nan to nan"),
        (LEVELS.astype(np.int64), "type int64; give .* uint8"),
        (np.ones((5, 7, 3), bool), "shape 5 x 7 x 3 and type bool"),
        (np.zeros((0, 7, 3), np.uint8), "shape 0 x 7 x 3"),
        ([[1]], "of type list; give a path, a PIL image, an array or a tensor"),
    ],
    ids=["channels first", "range", "nan", "type", "bools of colours", "empty", "list"],
)
def test_other_arrays_are_refused(given: Any, words: str) -> None:
    with pytest.raises(EditkitError, match=words):
        images.load_image(given)
