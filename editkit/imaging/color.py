"""What a decoded file needs to become upright 8-bit sRGB, and how bright a colour is."""

from __future__ import annotations

from contextlib import suppress
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


def upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as its EXIF orientation says."""
    with suppress(Exception):  # EXIF that is absent, says nothing of turns or cannot be read
        return image.transpose(TURNS[image.getexif()[ExifTags.Base.Orientation]])
    return image


def eight_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Gray of 16 or 32 bits as L, with a note where its range had to be guessed."""
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
    gray.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return gray


def srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB through the embedded profile where there is one, with a note where it cannot be used."""
    rgb = image.convert("RGB")
    if not image.info.get("icc_profile"):
        return rgb
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        # Sparing sRGB the round trip keeps its pixels exact.
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return rgb
        gray = profile.profile.xcolor_space.strip() == "GRAY" and image.mode in ("1", "L", "LA")
        source = image.convert("L") if gray else image if image.mode == "CMYK" else rgb
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(source, profile, target, outputMode="RGB") or rgb
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        notes.append("its colour profile cannot be used and is ignored")
        return rgb


def luma(pixels_BCHW: Tensor) -> Tensor:
    """Rec. 601 luma of RGB, B1HW, in the range of its pixels."""
    return (pixels_BCHW * pixels_BCHW.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
