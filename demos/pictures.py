"""Pictures as they come from the page: checked, and with a sentence in place of an exception."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.components.image_editor import EditorData
from PIL import Image, ImageChops

from demos import theme
from demos.device import Visit
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.imaging.contact_sheet import enlarged

PAINT = "#ff2d9b"
SIDE = 3 * theme.SMALL
"""Pixels that a small picture is enlarged to at most: about what a card has on a screen of many pixels."""
UNREADABLE = "The picture is damaged or in no known format; give a PNG, JPEG or WebP."


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """A picture and what was painted on it.

    Attributes:
        image: None where there is none.
        mask: white where paint is; None without any.
        problem: why the picture cannot be used; empty where it can.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    problem: str = ""

    def checked(self) -> Image.Image:
        """The picture.

        Raises:
            EditkitError: where there is none that can be used.
        """
        if self.problem:
            raise EditkitError(self.problem)
        if self.image is None:
            raise EditkitError("There is no picture yet; upload or paste one, or choose a sample.")
        return self.image


def painting(pixels: int, payload: dict[str, Any] | None, editor: Any) -> Painted:
    """What `gr.ImageEditor` sent.

    Handlers get payloads as they come (`preprocess=False`), so that what is wrong is said in a sentence.
    """
    if payload is None:
        return Painted()
    try:
        found = editor.preprocess(EditorData(**payload))
    except Exception:  # a decoder may raise anything on bytes that are no picture
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
    """What `gr.Image` sent."""
    if payload is None or not payload.get("path"):
        return Painted()
    try:
        return Painted(image=opened(payload["path"], pixels))
    except EditkitError as error:
        return Painted(problem=str(error))


def opened(path: str, pixels: int) -> Image.Image:
    """An uploaded picture, upright and in RGB.

    Raises:
        EditkitError: where it is none, or too large; the server's path is not told.
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
    """Why a picture of this size is not taken; empty where it is."""
    if size[0] * size[1] <= pixels:
        return ""
    given = f"{size[0]}x{size[1]}"
    return f"The picture has {given} pixels, where up to {pixels:,} are allowed; scale it down first."


def shown(image: Image.Image, visit: Visit) -> str:
    """A file with a picture as the page shows it, a small one with its pixels repeated.

    Gradio takes files as they are. A picture in memory it writes in place, under a name that hangs on its
    pixels: again and again, and also while a browser is fetching it.
    """
    made = image.convert("RGB")
    if max(made.size) <= theme.SMALL:
        made = enlarged(made, SIDE)
    file = visit.place() / "shown.png"
    made.save(file, compress_level=1)
    return str(file)


def _mask(layers: list[Image.Image], size: tuple[int, int]) -> Image.Image | None:
    mask = Image.new("L", size)
    for layer in layers:
        painted = layer.convert("RGBA").getchannel("A").point(lambda opacity: 255 * (opacity > 0))
        mask = ImageChops.lighter(mask, painted.resize(size, Image.Resampling.NEAREST))
    return mask if mask.getbbox() else None
