"""Masks: read them from pictures, by opacity or by brightness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import images

if TYPE_CHECKING:
    from editkit.request import ImageInput

NOT_MASKS = ("CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes of print and video, which no painting tool writes masks in."""


def load(mask: ImageInput, size: tuple[int, int]) -> NDArray[np.float32]:
    """Read the mask of an image: (H, W) in [0, 1], 1 (white) where the edit may land.

    Opacity counts where it varies, whatever the colours are, since painting tools export masks so. Otherwise
    brightness counts.

    Args:
        size: (width, height) of the image.

    Raises:
        EditkitError: as for `images.load`; also for another size, a mode of print or video, or a mask
            without a value over mid-gray.
    """
    label = f"The mask {mask}" if isinstance(mask, (str, Path)) else "The mask"
    picture = images.load(mask, "mask")
    if picture.mode in NOT_MASKS:
        raise EditkitError(f"{label} is a {picture.mode} picture; save it as gray, RGB or RGBA.")
    if picture.size != tuple(size):
        given, wanted = (f"{width}x{height}" for width, height in (picture.size, size))
        raise EditkitError(f"{label} is {given} pixels, the image {wanted}; make them equally large.")
    values_HW = read(picture)
    if values_HW.max() <= 0.5:
        raise EditkitError(f"{label} is at most {values_HW.max():.0%} white; paint where the edit may land.")
    return values_HW


def read(picture: images.Picture) -> NDArray[np.float32]:
    """Return the mask that a decoded picture shows, (H, W) in [0, 1]; see `load`."""
    gray_HW = np.array(Image.fromarray(picture.rgb).convert("L"))
    values_HW: NDArray[np.float32] = np.divide(gray_HW, 255, dtype=np.float32)
    if picture.alpha is None:
        return values_HW
    opacity_HW: NDArray[np.float32] = np.divide(picture.alpha, 255, dtype=np.float32)
    return opacity_HW if np.ptp(opacity_HW) > 0 else values_HW * opacity_HW
