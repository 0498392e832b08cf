"""Read pictures from the page and write pictures for it; problems become sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.components.image_editor import EditorData
from PIL import Image, ImageChops

from demos.device import Visit
from editkit.errors import EditkitError
from editkit.imaging import images

PAINT = "#ff2d9b"
SIDE = 384
"""Largest side, in pixels, to which a small picture is enlarged."""
UNREADABLE = "The picture is damaged or in no known format; give a PNG, JPEG or WebP."


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """A picture and the paint on it.

    Attributes:
        image: the picture; None where there is none.
        mask: white where there is paint; None without paint.
        problem: why the picture cannot be used; empty where it can.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    problem: str = ""

    def checked(self) -> Image.Image:
        """Return the picture.

        Raises:
            EditkitError: where there is none or it cannot be used.
        """
        if self.problem:
            raise EditkitError(self.problem)
        if self.image is None:
            raise EditkitError("There is no picture yet; upload or paste one, or choose a sample.")
        return self.image


def painting(pixels: int, payload: dict[str, Any] | None, editor: Any) -> Painted:
    """Read a picture and its paint from the payload of `gr.ImageEditor`.

    Handlers get payloads as the browser sends them (`preprocess=False`), so that problems become sentences.
    """
    if payload is None:
        return Painted()
    try:
        found = editor.preprocess(EditorData(**payload))
    except Exception:  # decoders raise many kinds of errors on damaged files
        return Painted(problem=UNREADABLE)
    if not found or found["background"] is None:
        return Painted()
    image, layers = found["background"], found["layers"]
    if problem := too_large(image.size, pixels):
        return Painted(problem=problem)
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return Painted(image=page.convert("RGB"), mask=_mask(layers, image.size))


def photo(pixels: int, payload: dict[str, Any] | None) -> Painted:
    """Read a picture from the payload of `gr.Image`."""
    if payload is None or not payload.get("path"):
        return Painted()
    try:
        return Painted(image=opened(payload["path"], pixels))
    except EditkitError as error:
        return Painted(problem=str(error))


def opened(path: str, pixels: int) -> Image.Image:
    """Open an uploaded picture, upright and in RGB.

    Raises:
        EditkitError: where it is no picture or too large; the message hides the server's path.
    """
    try:
        with images.opened(path) as file:
            size = file.size
        if problem := too_large(size, pixels):
            raise EditkitError(problem)
        return images.picture(images.tensor(images.load(path))[0])
    except EditkitError as error:
        raise EditkitError(str(error).replace(path, Path(path).name)) from error


def too_large(size: tuple[int, int], pixels: int) -> str:
    """Say why a picture of this size is refused; empty where it is not."""
    if size[0] * size[1] <= pixels:
        return ""
    given = f"{size[0]}x{size[1]}"
    return f"The picture has {given} pixels, where up to {pixels:,} are allowed; scale it down first."


def shown(image: Image.Image, visit: Visit) -> str:
    """Write a picture to a file for the page; a small one is enlarged by repeating its pixels.

    Gradio serves files as they are. It would write a picture in memory to a file named after its pixels,
    again and again, also while a browser fetches the file.
    """
    scale = max(1, SIDE // max(image.size))
    large = image.convert("RGB").resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    file = visit.new_folder() / "shown.png"
    large.save(file, compress_level=1)
    return str(file)


def _mask(layers: list[Image.Image], size: tuple[int, int]) -> Image.Image | None:
    mask = Image.new("L", size)
    for layer in layers:
        painted = layer.convert("RGBA").getchannel("A").point(lambda opacity: 255 * (opacity > 0))
        mask = ImageChops.lighter(mask, painted.resize(size, Image.Resampling.NEAREST))
    return mask if mask.getbbox() else None
