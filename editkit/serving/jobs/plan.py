"""Batches of a manifest; they depend on it alone, so that a picture is the same wherever it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.serving.jobs.manifest import Item
from editkit.types import EditRequest

Batch = tuple[Item, ...]
SETTINGS = ("method", "task", "steps", "guidance", "size")


def batches(items: Sequence[Item], most: int) -> list[Batch]:
    """Put items of one size and kind together, those with one instruction or picture beside each other.

    Encodings are remembered for a while, so that neighbours share them.

    Args:
        items: of a manifest.
        most: largest number of items in a batch.
    """
    keyed = [(*_key(item), item.name, item) for item in items]
    keyed.sort(key=lambda each: each[:-1])
    made: list[list[Item]] = []
    last: Any = None
    for kind, _, _, item in keyed:
        if kind == last and len(made[-1]) < most and kind != ALONE:
            made[-1].append(item)
        else:
            made.append([item])
        last = kind
    return [tuple(batch) for batch in made]


ALONE = "alone"


def _key(item: Item) -> tuple[str, str]:
    """Return what items of a batch share, as text that can be sorted, and what neighbours should share."""
    try:
        request = item.request()
        if request.search is not None:
            return ALONE, ""
        sizes = [_size(each) for each in (request.image, request.mask, *request.references)]
    except EditkitError:  # it is told when the item is edited
        return ALONE, ""
    settings = [getattr(request, name) for name in SETTINGS]
    kind = repr((settings, sizes, request.negative is None, len(request.references)))
    return kind, repr((request.instruction, _path(request)))


def _path(request: EditRequest) -> str:
    return str(request.image) if isinstance(request.image, str | Path) else ""


def _size(picture: Any) -> tuple[int, int] | None:
    """A picture's size by its header."""
    if picture is None:
        return None
    if isinstance(picture, Image.Image):
        return picture.size
    with images.opened(picture) as file:
        return file.size
