"""Convert a decoded file to upright 8-bit sRGB, and compute luma."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageCms

if TYPE_CHECKING:
    from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601's weights of red, green and blue."""

# EXIF's orientations 2 to 8: mirrored, upside down, both, transposed, turned left, transverse, turned right.
TURNS = {exif: Image.Transpose(turn) for exif, turn in enumerate((0, 3, 1, 5, 4, 6, 2), start=2)}
SAME = 2
"""Levels by which a profile may differ from sRGB and still be it: what tables and rounding make of it."""
STEPS = 17
"""Of each channel in the colours by which a profile is compared."""
RGB16 = "RGB;16B"
"""How a PNG's colours of 16 bits are kept, of which Pillow reads 8."""


def upright(image: Image.Image) -> Image.Image:
    """Turn and mirror an image by its EXIF orientation."""
    with suppress(Exception):  # EXIF that is absent, says nothing of turns or cannot be read
        return image.transpose(TURNS[image.getexif()[ExifTags.Base.Orientation]])
    return image


def clear(image: Image.Image) -> Image.Image:
    """An image that is not loaded yet, its clear colour in the levels that Pillow decodes its pixels to.

    The image that is given stays as it is. Of colours of 16 bits Pillow keeps the upper 8.
    """
    value = image.info.get("transparency")
    tiles = getattr(image, "tile", None)  # only a file's image that is not loaded has some
    kept = tiles[0][3] if tiles else None
    spread = {"L;2": 85, "L;4": 17}.get(kept) if isinstance(kept, str) else None
    if value is None or not (spread or kept == RGB16):
        return image
    found = image.copy()
    found.info["transparency"] = value * spread if spread else tuple(each >> 8 for each in value)
    return found


def eight_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Gray of 16 or 32 bits as L, or LA with a clear value, with a note where its range had to be guessed."""
    if not image.mode.startswith(("I", "F")):
        return image
    values_HW = np.nan_to_num(np.array(image, dtype=np.float32), posinf=0, neginf=0)
    top = float(values_HW.max())
    whites = {"I": (255, 65535, top), "F": (1, 255, 65535, top)}.get(image.mode, (65535,))
    # Resizing overshoots: a float picture that reaches 1.1 is not one in 256 levels.
    white = next(white for white in whites if top <= 1.25 * white)
    if len(whites) > 1:
        notes.append(f"its values of 32 bits are read as 0 to {white:g}")
    gray = Image.fromarray((values_HW.clip(0, white) * (255 / white) + 0.5).astype(np.uint8))
    if isinstance(value := image.info.get("transparency"), int):
        gray.putalpha(Image.fromarray(np.where(values_HW == value, 0, 255).astype(np.uint8)))
    return gray


def srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB through a profile where there is one, with a note where it cannot be used."""
    rgb = image.convert("RGB")
    if profile is None:
        return rgb
    gray = image.mode in ("1", "L", "LA")  # which may come with a profile of gray or of colours
    for source in (image.convert("L"), rgb) if gray else (image if image.mode == "CMYK" else rgb,):
        with suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):
            conversion = _conversion(profile, source.mode)
            return rgb if conversion is None else conversion.apply(source)
    notes.append("its colour profile cannot be used and is ignored")
    return rgb


@lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the conversion from a profile to sRGB, or return None if it changes nothing.

    A picture in sRGB keeps its exact pixels without the round trip.
    """
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    made = ImageCms.buildTransform(source, target, mode, "RGB")
    if mode == "CMYK":
        return made
    # Some profiles of sRGB have a rendering of their own for the other intents.
    measured = ImageCms.buildTransform(
        source, target, mode, "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    probe = _probe(mode)
    found = np.asarray(measured.apply(probe), dtype=int)
    return None if np.abs(found - np.asarray(probe.convert("RGB"))).max() <= SAME else made


def _probe(mode: str) -> Image.Image:
    """Every level of gray, and a grid of colours where there are such."""
    gray = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(gray[None])
    levels = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.concatenate((grid, np.stack((gray,) * 3, axis=-1)[None]), axis=1))


def on_white(image: Image.Image) -> Image.Image:
    """Put an image on a white page, as RGB."""
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")


def luma(pixels_BCHW: Tensor) -> Tensor:
    """Compute the Rec. 601 luma of RGB, B1HW, in the range of the pixels."""
    return (pixels_BCHW * pixels_BCHW.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
