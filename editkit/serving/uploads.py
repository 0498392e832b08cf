"""Open the pictures that clients send; their pixels are decoded by the one loader of `editkit.imaging`."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from editkit.imaging import images
from editkit.serving.refusals import RefusedError

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""Pillow's names of the formats that are read; MPO is read as JPEG. Others, such as EPS, run programs or are
read slowly."""


def formats() -> list[str]:
    """Return those of `FORMATS` that this Pillow reads; its older releases lack AVIF."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # an unknown one is a KeyError in Image.open


def opened(file: BinaryIO, param: str, pixels: int) -> Image.Image:
    """Read a picture's header.

    Args:
        file: an uploaded file.
        param: the field that it is in.
        pixels: largest number of pixels.

    Raises:
        RefusedError: where it is no picture, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are refused here
            image = Image.open(file, formats=formats())
    except Image.DecompressionBombError as error:
        raise _too_large("", param, pixels) from error
    except UnidentifiedImageError as error:
        raise RefusedError(
            f"The {param} is in no known picture format; send a PNG, JPEG or WebP.", param=param, code="image"
        ) from error
    except Exception as error:  # a decoder may raise anything on bytes that are not what they claim
        raise RefusedError(
            f"The {param} is damaged or incomplete; send another copy.", param=param, code="image"
        ) from error
    if image.width * image.height > pixels:
        raise _too_large(f" of {image.width}x{image.height}", param, pixels)
    return image


def mask(image: Image.Image) -> Image.Image:
    """Read a mask as OpenAI means it: where it has clear parts, these are what may change.

    A mask without clear parts is editkit's own: white where the edit may land.

    Raises:
        EditkitError: where it cannot be decoded.
    """
    read = images.load_image(image, "mask")
    if read.alpha is None or np.all(read.alpha == 255):
        return Image.fromarray(read.rgb)
    return Image.fromarray(255 - read.alpha)


def own_mask(image: Image.Image) -> Image.Image | None:
    """Read the mask of a picture that is sent without one, as OpenAI means it: its clear parts may change.

    Returns:
        the mask, white where the edit may land; None where no part is fully clear.

    Raises:
        EditkitError: where it cannot be decoded.
    """
    if not image.has_transparency_data:
        return None
    alpha = images.load_image(image).alpha
    return None if alpha is None or alpha.min() > 0 else Image.fromarray(255 - alpha)


def _too_large(given: str, param: str, pixels: int) -> RefusedError:
    return RefusedError(
        f"The {param}{given} has over {pixels:,} pixels; scale it down first.",
        413,
        param=param,
        code="too_large",
    )
