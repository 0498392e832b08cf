"""Behaviour: a mask with opacity says by it alone where the edit may land."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from editkit.imaging import images, masks

OPACITY = np.array([[0, 51, 255, 255]], dtype=np.uint8)
COLOURS = {
    "white under what is clear": [255, 0, 0, 0],
    "two brushes": [0, 0, 0, 255],
    "noise": [17, 200, 3, 90],
}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colours", COLOURS)
def test_opacity_decides(colours: str, mode: str) -> None:
    image = Image.fromarray(np.array([COLOURS[colours]], dtype=np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(OPACITY))
    assert masks.load_mask(image, (4, 1)).values_HW.tolist() == [pytest.approx([0, 0.2, 1, 1])]


def test_brightness_decides_where_all_is_opaque() -> None:
    image = Image.fromarray(np.array([[0, 255, 51, 0]], dtype=np.uint8)).convert("RGBA")
    assert masks.load_mask(image, (4, 1)).values_HW.tolist() == [pytest.approx([0, 1, 0.2, 0])]


def test_flattened_shows_white_under_what_is_clear() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (9, 8, 7, 255))
    assert images.flatten(images.load_image(image)).tolist() == [[[255, 255, 255], [9, 8, 7]]]
