"""Read pictures from the page and write pictures for it; problems become sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradio.components.image_editor import EditorData
from PIL import Image, ImageChops

from demos import theme
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.imaging.contact_sheet import enlarged

PAINT = "#ff2d9b"
SIDE = 3 * theme.SMALL
"""Pixels that a small picture is enlarged to at most: about what a card has on a screen of many pixels."""
UNREADABLE = "The picture is damaged or in no known format; give a PNG, JPEG or WebP."


@dataclass(frozen=True, kw_only=True, slots=True)
class Painted:
    """A picture and the paint on it.

    Attributes:
        image: the picture; None where there is none.
        mask: white where there is paint; None without paint.
        problem: why the picture cannot be used; empty where it can.
        notes: remarks in plain words on what had to be decided on it.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()

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

    Handlers get payloads as they come (`preprocess=False`), so that what is wrong is said in a sentence. A
    picture that came as a file is read as that file; Gradio would drop its orientation, depth and colours.
    """
    if payload is None:
        return Painted()
    try:
        given = EditorData(**payload)
        found = editor.preprocess(given.model_copy(update={"background": None, "composite": None}))
    except Exception:  # a decoder may raise anything on bytes that are no picture
        return Painted(problem=UNREADABLE)
    # What the browser painted on comes without a file.
    source = given.background.path if given.background else found["background"]
    if source is None:
        return Painted()
    try:
        read = opened(source, pixels)
    except EditkitError as error:
        return Painted(problem=str(error))
    assert read.image is not None
    return replace(read, mask=_mask(found["layers"], read.image.size))


def photo(pixels: int, payload: dict[str, Any] | None) -> Painted:
    """Read a picture from the payload of `gr.Image`."""
    if payload is None or not payload.get("path"):
        return Painted()
    try:
        return opened(payload["path"], pixels)
    except EditkitError as error:
        return Painted(problem=str(error))


def opened(source: str | Image.Image, pixels: int) -> Painted:
    """An uploaded picture as the loader reads it, on white where it is clear.

    Raises:
        EditkitError: where it is no picture or too large; the message hides the server's path.
    """
    try:
        if isinstance(source, Image.Image):
            size = source.size
        else:
            with images.opened(source) as file:
                size = file.size
        if problem := too_large(size, pixels):
            raise EditkitError(problem)
        read = images.load_image(source)
    except EditkitError as error:
        path = source if isinstance(source, str) else ""
        raise EditkitError(str(error).replace(path, Path(path).name)) from error
    return Painted(image=Image.fromarray(images.flatten(read)), notes=read.notes)


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
    made = image.convert("RGB")
    if max(made.size) <= theme.SMALL:
        made = enlarged(made, SIDE)
    file = visit.new_folder() / "shown.png"
    made.save(file, compress_level=1)
    return str(file)


def thumbnail(image: Image.Image, visit: Visit) -> str:
    """Write a small copy of a picture for the page's galleries."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    return shown(small, visit)


def _mask(layers: list[Image.Image], size: tuple[int, int]) -> Image.Image | None:
    mask = Image.new("L", size)
    for layer in layers:
        painted = layer.convert("RGBA").getchannel("A").point(lambda opacity: 255 * (opacity > 0))
        mask = ImageChops.lighter(mask, painted.resize(size, Image.Resampling.NEAREST))
    return mask if mask.getbbox() else None
