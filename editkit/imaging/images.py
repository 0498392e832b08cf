"""Read and write pictures: what is read becomes upright 8-bit sRGB, with its alpha kept apart."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import arrays, color, color_spaces

if TYPE_CHECKING:
    from torch import Tensor

    from editkit.request import ImageInput

MAX_PIXELS = 100_000_000
RECIPE_KEY = "editkit"
# Lossless WebP, and `exact` for the colours under full transparency: what an edit kept must stay as it was.
PNG, WEBP = {"format": "PNG"}, {"format": "WEBP", "lossless": True, "exact": True}
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
FORMATS: Mapping[str, Mapping[str, Any]] = {".png": PNG, ".webp": WEBP, ".jpg": JPEG, ".jpeg": JPEG}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: upright sRGB, (H, W, 3).
        alpha: opacity, (H, W), 255 where opaque; None if the picture has no alpha channel.
        mode: Pillow's mode of the original pixels.
        notes: remarks in plain words on what was assumed or left out.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    mode: str = "RGB"
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


@contextmanager
def opened(path: str | Path, what: str = "image") -> Iterator[Image.Image]:
    """Open a picture file and read its header, but not its pixels.

    Args:
        what: what messages call the picture.

    Raises:
        EditkitError: if the file cannot be read or is not a picture.
    """
    label = f"The {what} {path}"
    try:
        file = Path(path).open("rb")  # noqa: SIM115  (closed below)
    except (OSError, ValueError) as error:  # the latter for a null byte in the path
        problem = getattr(error, "strerror", None) or str(error)
        raise EditkitError(f"{label} cannot be read ({problem}); check the path.") from error
    with file, warnings.catch_warnings(), _plain_errors(label):
        # Pillow warns of large pictures, odd EXIF and more; those that matter are errors or notes here.
        warnings.simplefilter("ignore")
        if not file.peek(1):
            raise EditkitError(f"{label} is an empty file; give another copy.")
        yield Image.open(file)


def from_bytes(data: bytes, label: str) -> Image.Image:
    """Open the content of a picture's file, which messages call `label`; its pixels are not decoded yet.

    Raises:
        EditkitError: if it is no picture or has far too many pixels.
    """
    with warnings.catch_warnings(), _plain_errors(label):
        warnings.simplefilter("ignore")
        return Image.open(BytesIO(data))


def load_image(image: ImageInput, what: str = "image") -> Picture:
    """Decode a picture of any mode; decoding a given object again gives the same.

    Args:
        what: what messages call the picture.

    Raises:
        EditkitError: if it cannot be read or decoded, is not a picture, or has no or too many pixels.
    """
    if isinstance(image, (str, Path)):
        with opened(image, what) as file:
            # A phone's JPEG of type MPO has further "frames" that are only previews and depth or gain maps.
            frames = getattr(file, "n_frames", 1) if file.format != "MPO" else 1
            notes = [f"only the first of {frames} frames is used"] if frames > 1 else []
            return _decode(file, f"The {what} {image}", notes)
    with _plain_errors(f"The {what}"):
        return _decode(arrays.to_image(image, what), f"The {what}", [])


def flatten(picture: Picture) -> NDArray[np.uint8]:
    """Put a picture on a white page, (H, W, 3); without an alpha channel it stays as it is."""
    if picture.alpha is None:
        return picture.rgb
    return np.array(color.on_white(Image.fromarray(np.dstack((picture.rgb, picture.alpha)))))


def tensor(picture: Picture) -> Tensor:
    """Return the colours as floats in [0, 1], 1CHW."""
    import torch

    return torch.tensor(picture.rgb).permute(2, 0, 1)[None].float().div(255).contiguous()


def picture(pixels: Tensor, alpha: NDArray[np.uint8] | None = None) -> Image.Image:
    """Convert floats in [0, 1], 1CHW or CHW, to an 8-bit PIL image, and attach `alpha` (H, W)."""
    pixels_HWC = pixels.detach().reshape(pixels.shape[-3:]).permute(1, 2, 0).float().cpu()
    # Not Tensor.round, which sends halves to the even neighbour.
    levels_HWC = (pixels_HWC * 255 + 0.5).floor().clamp(0, 255).numpy().astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(levels_HWC))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def gray(mask: Tensor) -> Image.Image:
    """Convert floats in [0, 1], 11HW or HW, to an 8-bit gray PIL image."""
    levels_HW = (mask.detach().reshape(mask.shape[-2:]).float().cpu() * 255).round().byte().numpy()
    return Image.fromarray(levels_HW)


def check_output(path: str | Path) -> Path:
    """Check that `save` can write to a path, before an edit runs for nothing, and return the path.

    Raises:
        EditkitError: for a suffix that is no picture's, a folder, or a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise EditkitError(f"The output {path} must end in {', '.join(FORMATS)}; rename it.")
    if os.path.isdir(path):
        raise EditkitError(f"The output {path} is a directory; give the name of a picture in it.")
    _check_writable(path, path.parent)
    return path


def check_folder(path: str | Path) -> Path:
    """Check that a folder exists or can be made, and return its path.

    Raises:
        EditkitError: if files cannot be written there.
    """
    _check_writable(Path(path), Path(path))
    return Path(path)


def _check_writable(path: Path, folder: Path) -> None:
    nearest = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    if not os.path.isdir(nearest):
        raise EditkitError(
            f"The output {path} cannot be written ({nearest} is a file); choose another place."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise EditkitError(
            f"The output {path} cannot be written (no permission in {nearest}); choose another place."
        )


def save(image: Image.Image, path: str | Path, recipe: Mapping[str, Any] | None = None) -> None:
    """Write a picture whole or not at all; it replaces an older file, and missing folders are made.

    The path ends in .png, .webp, .jpg or .jpeg. PNG and WebP are lossless; JPEG shows transparency as white.
    Only PNG carries the recipe, as JSON in an iTXt chunk with the key "editkit", which
    `editkit.inference.provenance.read_recipe` reads.

    Raises:
        EditkitError: if the picture cannot be written; an older file then stays as it is.
    """
    path = check_output(path)
    with atomic_files.whole(path) as file:
        file.write(encode(image, FORMATS[path.suffix.lower()], recipe))


@contextmanager
def _plain_errors(label: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence."""
    try:
        yield
    except EditkitError:
        raise
    except Image.DecompressionBombError as error:
        raise EditkitError(f"{label} has over {MAX_PIXELS:,} pixels; scale it down first.") from error
    except UnidentifiedImageError as error:
        raise EditkitError(f"{label} is in no known picture format; give a PNG, JPEG or WebP.") from error
    except Exception as error:  # a decoder may raise anything on bytes that are not what they claim
        problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EditkitError(f"{label} is damaged or incomplete ({problem}); give another copy.") from error


def _decode(image: Image.Image, label: str, notes: list[str]) -> Picture:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        given = f"{image.width}x{image.height} pixels"
        raise EditkitError(f"{label} has {given}, where 1 to {MAX_PIXELS:,} are allowed; scale it first.")
    codes = color_spaces.h273_codes(image)  # both look at the file, which a loaded image no longer has
    color.load(image)
    profile = color_spaces.icc_profile(image, codes, label, notes)
    upright = color.eight_bit(color.upright(image), notes)
    if upright.mode in ("P", "PA"):
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    alpha = np.array(upright.convert("RGBA").getchannel("A")) if upright.has_transparency_data else None
    rgb = np.array(color.srgb(upright, profile, notes))
    return Picture(rgb=rgb, alpha=alpha, mode=image.mode, notes=tuple(notes))


def encode(image: Image.Image, options: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> bytes:
    """Encode a picture file in memory.

    Pillow's encoders that write to a file hide why writing failed.
    """
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        chunks.add_itxt(RECIPE_KEY, json.dumps(recipe))
    if options["format"] == "JPEG":
        image = color.on_white(image)
    buffer = BytesIO()
    image.save(buffer, pnginfo=chunks, **options)
    return buffer.getvalue()
