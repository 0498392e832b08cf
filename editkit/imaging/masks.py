"""Masks: read them from pictures, by opacity or by brightness, and note what may surprise."""

from __future__ import annotations

from dataclasses import dataclass
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
OPACITY, BRIGHTNESS = "opacity", "brightness"
"""Ways to read a mask."""
BETWEEN = 0.05, 0.95
"""Values between these are neither black nor white."""
EDGES = 0.05
"""Largest share of a mask's pixels between black and white that gets no note; soft edges stay below it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mask:
    """A picture read as a mask.

    Attributes:
        values_HW: in [0, 1], 1 where the edit may land.
        reading: how the picture was read, `OPACITY` or `BRIGHTNESS`.
        notes: remarks in plain words on how it was read.
    """

    values_HW: NDArray[np.float32]
    reading: str
    notes: tuple[str, ...] = ()


def load_mask(mask: ImageInput, size: tuple[int, int]) -> Mask:
    """Read the mask of an image, white where the edit may land.

    Opacity counts where it varies, whatever the colours are, since painting tools export masks so. Otherwise
    brightness counts. A mask is never inverted.

    Args:
        size: (width, height) of the image.

    Raises:
        EditkitError: as for `images.load_image`; also for another size, a mode of print or video, or a mask
            without a value over mid-gray.
    """
    label = f"The mask {mask}" if isinstance(mask, (str, Path)) else "The mask"
    picture = images.load_image(mask, "mask")
    if picture.mode in NOT_MASKS:
        raise EditkitError(f"{label} is a {picture.mode} picture; save it as gray, RGB or RGBA.")
    if picture.size != tuple(size):
        given, wanted = (f"{width}x{height}" for width, height in (picture.size, size))
        raise EditkitError(f"{label} is {given} pixels, the image {wanted}; make them equally large.")
    found = read_mask(picture)
    if found.values_HW.max() <= 0.5:
        what = "white" if found.reading == BRIGHTNESS else "opaque"
        most = f"at most {found.values_HW.max():.0%} {what}, read by its {found.reading}"
        raise EditkitError(f"{label} is {most}; paint where the edit may land.")
    return found


def read_mask(picture: images.Picture) -> Mask:
    """Read a decoded picture as a mask, as `load_mask` does: by opacity, or by brightness."""
    gray_HW = np.array(Image.fromarray(picture.rgb).convert("L"))
    values_HW: NDArray[np.float32] = np.divide(gray_HW, 255, dtype=np.float32)
    reading = BRIGHTNESS
    if picture.alpha is not None:
        opacity_HW: NDArray[np.float32] = np.divide(picture.alpha, 255, dtype=np.float32)
        if np.ptp(opacity_HW) > 0:
            values_HW, reading = opacity_HW, OPACITY
        else:
            values_HW = values_HW * opacity_HW
    told = (*(f"the mask: {note}" for note in picture.notes), *_remarks(values_HW, reading))
    return Mask(values_HW=values_HW, reading=reading, notes=told)


def cut_out(picture: images.Picture) -> NDArray[np.float32]:
    """Read a picture that is transparent where the edit lies as a mask, (H, W) in [0, 1].

    A picture without an alpha channel is read by brightness.
    """
    if picture.alpha is None:
        return read_mask(picture).values_HW
    return 1 - np.divide(picture.alpha, 255, dtype=np.float32)


def _remarks(values_HW: NDArray[np.float32], reading: str) -> list[str]:
    """List what a person should know about a mask that was read so."""
    remarks = []
    if reading == OPACITY:
        remarks.append(
            "The mask is read by its opacity: the edit may land where it is opaque, whatever its colours "
            "are. Invert it if the place of the edit is cut out."
        )
    word = "opaque" if reading == OPACITY else "white"
    if values_HW.min() > 0.5:
        remarks.append(
            f"The mask, read by its {reading}, is {word} everywhere: all of the picture may change."
        )
    low, high = BETWEEN
    share = float(np.mean((values_HW > low) & (values_HW < high)))
    if share > EDGES:
        remarks.append(
            f"{share:.0%} of the mask, read by its {reading}, is neither {word} nor "
            f"{'clear' if reading == OPACITY else 'black'}; more than half {word} counts as inside."
        )
    return remarks
