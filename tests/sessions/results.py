"""Results whose pictures a test chooses."""

from __future__ import annotations

import numpy as np
from PIL import Image

from editkit import EditResult

SIZE = (64, 48)


def made(picture: Image.Image, instruction: str = "by hand", **values: object) -> EditResult:
    """A result whose picture is chosen by the test."""
    return EditResult(image=picture, method="kontext", seed=0, recipe={"instruction": instruction}, **values)


def moved(picture: Image.Image, levels: int) -> Image.Image:
    """All pixels brighter by so many levels."""
    return Image.fromarray((np.array(picture).astype(int) + levels).clip(0, 255).astype(np.uint8))


def patched(picture: Image.Image, box: tuple[int, int, int, int], colour: str = "black") -> Image.Image:
    copied = picture.copy()
    copied.paste(colour, box)
    return copied


def gray(size: tuple[int, int] = SIZE) -> Image.Image:
    """Without black, white or anything near them."""
    values = np.random.default_rng(0).integers(100, 150, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)
