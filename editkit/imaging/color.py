"""Convert decoded pictures to upright 8-bit sRGB, and compute luma."""

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
ORIENTATIONS = {exif: Image.Transpose(turn) for exif, turn in enumerate((0, 3, 1, 5, 4, 6, 2), start=2)}
TOLERANCE = 2
"""Levels by which tables and rounding may move a profile of sRGB away from sRGB."""
PROBE_LEVELS = 17
"""Levels of each channel in the colours by which a profile is compared with sRGB."""
RGB16 = "RGB;16B"
"""Pillow's name for PNG colours of 16 bits, of which it reads the upper 8."""


def upright(image: Image.Image) -> Image.Image:
    """Turn and mirror an image by its EXIF orientation."""
    with suppress(Exception):  # EXIF that is absent, has no orientation or cannot be read
        return image.transpose(ORIENTATIONS[image.getexif()[ExifTags.Base.Orientation]])
    return image


def load(image: Image.Image) -> None:
    """Decode an image's pixels, and scale a PNG's transparent colour to the levels that they now have.

    Pillow leaves the colour as the file has it, but spreads 2 and 4 bits to 8 and cuts 16 bits to 8. An image
    that is loaded stays as it is.
    """
    value = image.info.get("transparency")
    tiles = getattr(image, "tile", None)  # only an image from a file that is not loaded has them
    kept = tiles[0][3] if tiles else None
    spread = {"L;2": 85, "L;4": 17}.get(kept) if isinstance(kept, str) else None
    image.load()
    if value is not None and (spread or kept == RGB16):
        image.info["transparency"] = value * spread if spread else tuple(each >> 8 for each in value)


def eight_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert gray of 16 or 32 bits to 8 bits: L, or LA if the file has a transparent value.

    The range of 32-bit values has to be guessed, and a note says so.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values_HW = np.nan_to_num(np.array(image, dtype=np.float32), posinf=0, neginf=0)
    top = float(values_HW.max())
    whites = {"I": (255, 65535, top), "F": (1, 255, 65535, top)}.get(image.mode, (65535,))
    # Resizing overshoots, so a float picture that reaches 1.1 still has the range 0 to 1.
    white = next(white for white in whites if top <= 1.25 * white)
    if len(whites) > 1:
        notes.append(f"its values of 32 bits are read as 0 to {white:g}")
    gray = Image.fromarray((values_HW.clip(0, white) * (255 / white) + 0.5).astype(np.uint8))
    if isinstance(value := image.info.get("transparency"), int):
        gray.putalpha(Image.fromarray(np.where(values_HW == value, 0, 255).astype(np.uint8)))
    return gray


def srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert an image to sRGB by its ICC profile, if any; a note says if the profile cannot be used."""
    rgb = image.convert("RGB")
    if profile is None:
        return rgb
    gray = image.mode in ("1", "L", "LA")  # may come with a profile of gray or of colours
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
    # Some profiles of sRGB have tables of their own for the other intents.
    measured = ImageCms.buildTransform(
        source, target, mode, "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    probe = _probe(mode)
    found = np.asarray(measured.apply(probe), dtype=int)
    return None if np.abs(found - np.asarray(probe.convert("RGB"))).max() <= TOLERANCE else made


def _probe(mode: str) -> Image.Image:
    """Return every level of gray and, for colours, a grid of them."""
    gray = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(gray[None])
    levels = np.linspace(0, 255, PROBE_LEVELS).round().astype(np.uint8)
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
