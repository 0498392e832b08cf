"""From a form to prepared requests: which files are which pictures, and their decoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from starlette.datastructures import FormData, UploadFile

from editkit.errors import unknown
from editkit.inference import inputs
from editkit.inference.inputs import PreparedRequest
from editkit.serving import adapters, openai, uploads
from editkit.serving.openai import ImageRequest
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings

FILES = {"image": "image", "image[]": "image", "mask": "mask"}
FILES |= {"references": "references", "references[]": "references"}
"""Meaning of each file of a form."""
OWN_MASK = "The clear parts of the image were taken as its mask; send a mask, or an opaque image, for others."


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures whose headers have been read.

    Attributes:
        image: the picture to edit.
        mask: as the client means it.
        references: further pictures.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()

    @property
    def pixels(self) -> int:
        """Pixels of all of them."""
        given = (self.image, self.mask, *self.references)
        return sum(each.width * each.height for each in given if each is not None)


def of_form(
    form: FormData, settings: ServerSettings, methods: Sequence[str], *, source: bool = True
) -> tuple[ImageRequest, Pictures]:
    """Read a form; of several images the first is edited and the others are references, as with OpenAI.

    Args:
        form: with its files.
        settings: what a client may ask for.
        methods: methods that are offered, the default first.
        source: whether it must hold a picture to edit, or may not.

    Raises:
        EditkitError: for an unknown field, one that is given twice, or what is no picture.
    """
    texts: dict[str, Any] = {}
    files: dict[str, list[Image.Image]] = {"image": [], "mask": [], "references": []}
    for name, value in form.multi_items():
        what = FILES.get(name)
        if isinstance(value, UploadFile):
            if what is None:
                raise RefusedError(unknown("file", name[:80], FILES), param=name[:80])
            files[what].append(uploads.opened(value.file, what, settings.pixels))
        elif what is not None:
            raise RefusedError(f"{what} is text; send a file, since nothing is fetched here.", param=what)
        else:
            _put(texts, name, value)
    if source and not files["image"]:
        raise RefusedError("The image is missing; send a file in the field image.", param="image")
    if not source and (files["image"] or files["mask"]):
        raise RefusedError("A generation takes no image and no mask; send them to /v1/images/edits.")
    if len(files["mask"]) > 1:
        raise RefusedError("There are several masks; send one.", param="mask")
    if sum(map(len, files.values())) > settings.pictures:
        raise RefusedError(f"There are over {settings.pictures} pictures; send fewer.", param="image")
    image = files["image"][0] if files["image"] else None
    references = (*files["image"][1:], *files["references"])
    asked = openai.read_fields(texts, settings, methods)
    return asked, Pictures(image=image, mask=next(iter(files["mask"]), None), references=references)


def prepared(asked: ImageRequest, pictures: Pictures) -> list[PreparedRequest]:
    """Decode the pictures and check the request; the edits of one request share them.

    Raises:
        EditkitError: for what cannot be decoded, or a value out of range.
    """
    if pictures.image is not None:  # the result is as large; a `size` without an image is shorter than these
        openai.check_output(asked.output, pictures.image.size)
    mask = None if pictures.mask is None else uploads.mask(pictures.mask)
    own = None if mask or pictures.image is None else uploads.own_mask(pictures.image)
    given = {"image": pictures.image, "mask": mask or own, "references": pictures.references}
    requests = asked.requests(given)
    inputs.check_seed(requests[-1].seed)
    first = inputs.prepare(requests[0])
    if own is not None and first.source is not None:  # what was clear is painted, and so is no longer clear
        opaque = replace(first.source, alpha=None)
        first = replace(first, source=opaque, notes=(OWN_MASK, *first.notes))
    return [replace(first, request=replace(first.request, seed=each.seed)) for each in requests]


def check_adapter(asked: ImageRequest, settings: ServerSettings) -> None:
    """Check that an adapter that is asked for is offered.

    Raises:
        RefusedError: where it is not.
    """
    if asked.adapter is not None:
        adapters.path(settings.adapters, asked.adapter)


def _put(texts: dict[str, Any], name: str, value: str) -> None:
    """Add a field; `search[seeds]` is a key of an object, as OpenAI's clients write one."""
    outer, bracket, inner = name.partition("[")
    if bracket and re.fullmatch(r"\w+\]", inner):
        held = texts.setdefault(outer, {})
        if not isinstance(held, dict) or inner[:-1] in held:
            raise RefusedError(f"{name[:80]} is given twice; give it once.", param=outer[:80])
        held[inner[:-1]] = value
    elif name in texts:
        raise RefusedError(f"{name[:80]} is given twice; give it once.", param=name[:80])
    else:
        texts[name] = value
