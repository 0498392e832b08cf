"""The records that an evaluation passes on: items, problems, edits, cases, scores."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit.data.files import load_picture
from editkit.errors import EditkitError
from editkit.imaging import images, masks

LONGEST_STEM = 100
"""Letters of an item's id that its files are called by."""

RGB = NDArray[np.uint8]
"""A picture (H, W, 3), sRGB in levels of 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPicture:
    """A picture that is decoded when it is asked for, and not kept.

    Attributes:
        value: a path, bytes, a Hugging Face cell, an array or a PIL image.
        folder: what a path is relative to.
        what: its name in messages.
    """

    value: Any
    folder: Path
    what: str

    def read(self) -> images.Picture:
        """Decode it.

        Raises:
            EditkitError: where it is absent or cannot be read.
        """
        found = load_picture(self.value, self.folder, self.what)
        if found is None:
            raise EditkitError(f"The {self.what} is empty; give a picture or leave the item out.")
        return found

    def rgb(self) -> RGB:
        """Decode it, what is clear in it as white."""
        return images.flatten(self.read())

    def picture(self) -> Image.Image:
        """Decode it as a PIL image of RGB."""
        return Image.fromarray(self.rgb())

    def digest(self) -> str:
        """Hash what it is decoded from; empty where that is not there."""
        value = self.value
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        try:
            data = (self.folder / value).read_bytes() if isinstance(value, str | Path) else value
        except (OSError, ValueError):
            return ""
        if not isinstance(data, bytes):
            pixels = np.asarray(data)
            data = f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()
        return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: its name, which no other item of the benchmark has.
        instruction: the edit in words.
        source: the picture to edit. A later turn of a chained session has none of its own: it edits the
            result of the turn before. A first turn without one is text to image.
        answer: the true result, where the benchmark has one.
        mask: white where the edit may land; see `mask_means`.
        mask_means: `white`, or `erased`: what is transparent, or purely white where nothing is.
        references: further pictures of the request.
        category: the benchmark's own group.
        source_caption: the source in words.
        answer_caption: the result in words.
        words: texts that must be readable in the result.
        session: items of one session are dependent; empty for an item of its own.
        turn: the place within the session, from 1 on.
        last: whether no turn of its session follows.
        published: where the benchmark's own naming keeps the result, below a model's folder.
        fields: what its exports need, in JSON's types.
    """

    id: str
    instruction: str
    source: StoredPicture | None = None
    answer: StoredPicture | None = None
    mask: StoredPicture | None = None
    mask_means: str = "white"
    references: tuple[StoredPicture, ...] = ()
    category: str = ""
    source_caption: str = ""
    answer_caption: str = ""
    words: tuple[str, ...] = ()
    session: str = ""
    turn: int = 1
    last: bool = True
    published: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The name of its files: the id where a file may have that name, else a shorter one with a digest."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", self.id)[:LONGEST_STEM]
        if plain == self.id and not plain.startswith("."):
            return plain
        return f"{plain.lstrip('.')}-{hashlib.blake2b(self.id.encode(), digest_size=4).hexdigest()}"

    def seed(self, base: int = 0) -> int:
        """The seed of its edit: the same in every run, and unlike any other item's."""
        digest = hashlib.blake2b(f"{base} {self.id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    def mask_HW(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The area where the edit may land, (H, W) at (width, height); None without a mask.

        Raises:
            EditkitError: where the mask cannot be read, or covers nothing.
        """
        if self.mask is None:
            return None
        picture = self.mask.read()
        if self.mask_means == "erased":
            inside_HW = _erased(picture)
        else:
            inside_HW = np.greater(masks.read_mask(picture).values_HW, 0.5)
        if not inside_HW.any():
            raise EditkitError(f"The {self.mask.what} covers nothing; correct it or leave it out.")
        gray = Image.fromarray(inside_HW.astype(np.uint8) * 255)
        return np.asarray(gray if gray.size == size else gray.resize(size, Image.Resampling.NEAREST)) > 127


def _erased(picture: images.Picture) -> NDArray[np.bool_]:
    """The clear area of a picture, (H, W); the purely white one, if all of it is opaque."""
    clear_HW = picture.rgb.min(axis=-1) == 255
    if picture.alpha is not None and np.ptp(picture.alpha) > 0:
        clear_HW = picture.alpha < 128
    return np.asarray(clear_HW, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row of a benchmark that is no item, and why.

    Attributes:
        kind: a short name that problems are counted by.
        where: the row.
        sentence: what is wrong with it.
    """

    kind: str
    where: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """All facts about one result but its pixels; a line of the log.

    Attributes:
        method: who made it.
        item: the item's id.
        place: the item's place in the benchmark.
        error: why there is no picture; None where there is one.
        picture: its path below the run's folder, or an absolute one for results made elsewhere.
        digest: of the file of a result made elsewhere; older logs do not tell.
        cost: seconds, steps, tokens, operations and memory, as far as they are known.
    """

    method: str
    item: str
    place: int
    error: str | None = None
    picture: str = ""
    digest: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A result beside everything that a metric may compare it with.

    Attributes:
        item: the question.
        edit: what is known of the result.
        result: the result's pixels as they are.
        source: the picture that was edited.
        answer: the true result.
        first: the picture that the session began with; the source where the item is none of a session.
        mask_HW: where the edit may land, at the source's size.
    """

    item: Item
    edit: Edit
    result: RGB
    source: RGB | None = None
    answer: RGB | None = None
    first: RGB | None = None
    mask_HW: NDArray[np.bool_] | None = None

    def result_as(self, other: RGB) -> RGB:
        """The result at another picture's size, by Pillow's bicubic filter; as it is where equal."""
        if other.shape == self.result.shape:
            return self.result
        size = (other.shape[1], other.shape[0])
        return np.asarray(Image.fromarray(self.result).resize(size, Image.Resampling.BICUBIC))


RESIZED = "result to the other picture's size, Pillow bicubic; untouched where equal"
"""The resize rule of `Case.result_as`, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """A metric's figures for one case.

    Attributes:
        values: figures by column; a column that does not apply is absent.
        notes: what a report shows beside them, in JSON's types: read words, a judge's reply.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
