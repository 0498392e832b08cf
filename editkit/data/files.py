"""Training pairs in files and folders: how each layout names its columns, and where its rows come from."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from editkit.data import folders, layouts
from editkit.data.columns import CUT_OUT, columns
from editkit.data.records import DataConfig, Record
from editkit.errors import EditkitError, first_sentence
from editkit.imaging import images, masks

READING = 3
"""Of the way in which pictures are read; latents of another one are encoded anew."""


class Files:
    """Records whose pictures are read when they are asked for."""

    def __init__(self, config: DataConfig) -> None:
        if config.path is None:
            raise EditkitError(f"data.name={config.name} needs data.path, where the records are.")
        self.path, self.tasks = Path(config.path), config.tasks
        self.columns = columns(config)
        self.masks_cut_out = config.preset in CUT_OUT
        self.rows = layouts.LAYOUTS[config.name](self.path, config)
        self._check_columns(config)
        self.places: Sequence[int] = range(len(self.rows))
        if config.types:
            self.places = [place for place in self.places if self._wanted(self.rows[place], config.types)]
        self.places = self.places[: config.count]
        if not self.places:
            raise EditkitError(f"There are no records of the kinds asked for in {self.path}.")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Record:
        where = f"record {index} of {self.path}"
        try:
            return self._record(self.rows[self.places[index]], where)
        except EditkitError as error:
            # Names that are no Unicode text can be written nowhere.
            raise EditkitError(str(error).encode(errors="backslashreplace").decode()) from error
        except (OSError, ValueError, UnidentifiedImageError) as error:  # UnicodeDecodeError is a ValueError
            raise EditkitError(f"The {where} cannot be read ({first_sentence(error)}).") from error

    def _check_columns(self, config: DataConfig) -> None:
        known = layouts.names(self.rows) if config.columns and self.rows else None
        for field, column in config.columns.items():
            if known is not None and column not in known:
                raise EditkitError(
                    f"data.columns.{field} names {column!r}, which no record of {self.path} has; it has "
                    f"{', '.join(sorted(known))}."
                )

    def _record(self, row: Mapping[str, Any], where: str) -> Record:
        found = {field: row.get(column) for field, column in self.columns.items()}
        words = found.get("instruction")
        if isinstance(words, list | tuple) and words:
            words = words[0]  # of several wordings
        if not isinstance(words, str):
            raise EditkitError(f"The {where} has no instruction under {self.columns['instruction']!r}.")
        read = Reading(self._loaded)
        answer = read.one(found.get("answer"), f"answer of {where}")
        if answer is None:
            raise EditkitError(f"The {where} has no answer under {self.columns['answer']!r}.")
        sources = read.several(found.get("source"), f"source of {where}")
        source = sources[0] if sources else None
        references = (*sources[1:], *read.several(found.get("references"), f"reference of {where}"))
        height, width = (answer if source is None else source).shape[:2]
        mask = self._loaded(found.get("mask"), f"mask of {where}")
        kind, task = _kind(found.get("kind")), found.get("task")
        if task is not None and not isinstance(task, str):
            raise EditkitError(f"The {where} has a task that is no text.")
        for field, text in (("instruction", words), ("kind", kind), ("task", task or "")):
            if text != text.encode(errors="ignore").decode():
                raise EditkitError(f"The {field} of {where} is no Unicode text; mend it or leave it out.")
        return Record(
            answer=answer,
            instruction=words,
            source=source,
            mask=None if mask is None else _mask(mask, (width, height), self.masks_cut_out),
            references=references,
            kind=kind,
            task=task or self.tasks.get(kind),
            transparent=read.transparent,
            notes=(*read.notes, *(f"the mask: {note}" for note in (mask.notes if mask else ()))),
        )

    def digest(self) -> str:
        """Of all that records are made from: their rows, and the path, size and time of each file.

        Not of the files' content: all of it would have to be read before each run, and a memory of hashes
        would trust size and time just the same. A file that was copied or touched is thus a new one.
        """
        known = getattr(self.rows, "_fingerprint", None)  # Hugging Face keeps one of its own
        made = hashlib.blake2b(f"{READING} {known}".encode(), digest_size=16)
        for place in () if known else self.places:
            made.update(json.dumps(self._stamped(self.rows[place]), default=str).encode())
        return made.hexdigest()

    def _stamped(self, row: Mapping[str, Any]) -> list[Any]:
        if isinstance(row, folders.Fault):
            return [row.problem]
        if isinstance(row, layouts.Member):
            return [(name, *_stamp(place[0]), *place[1:]) for name, place in row.places.items()]
        folder = self.path if self.path.is_dir() else self.path.parent
        fields = ("answer", "source", "mask", "references")
        pictures = [row.get(self.columns[field]) for field in fields if field in self.columns]
        paths = [each for value in pictures for each in (value if isinstance(value, list) else [value])]
        files = [_stamp(folder / path) for path in paths if path and isinstance(path, str)]
        held = [hashlib.blake2b(data).hexdigest() for each in paths if (data := _held(each))]
        return [{name: value for name, value in row.items() if isinstance(value, str | list)}, files, held]

    def _wanted(self, row: Mapping[str, Any], types: Sequence[str]) -> bool:
        try:
            kind = _kind(row.get(self.columns.get("kind", "kind")))
        except (EditkitError, ValueError):  # it is told when the record is read
            return True
        return any(re.search(pattern, kind) for pattern in types)

    def _loaded(self, value: Any, what: str) -> images.Picture | None:
        """A picture from a path, bytes as Hugging Face keeps them, or one that is decoded already."""
        if isinstance(value, Mapping):  # an image column that was not decoded
            value = value.get("bytes") or value.get("path")
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            try:
                value = Image.open(io.BytesIO(value))
            except (UnidentifiedImageError, OSError) as error:
                raise EditkitError(f"The {what} is no picture; leave the record out.") from error
        if isinstance(value, str | Path):
            folder = self.path if self.path.is_dir() else self.path.parent
            value = folder / value
        return images.load(value, what)


class Reading:
    """Reads the pictures of a record, what is clear in them as white, and keeps count of it.

    Attributes:
        transparent: pixels so far that are not opaque.
        notes: on what had to be decided on their pictures.
    """

    def __init__(self, load: Callable[[Any, str], images.Picture | None]) -> None:
        self.load, self.transparent, self.notes = load, 0, list[str]()

    def one(self, value: Any, what: str) -> NDArray[np.uint8] | None:
        """A picture; None where there is none."""
        found = self.load(value, what)
        if found is None:
            return None
        if found.alpha is not None:
            self.transparent += int((found.alpha < 255).sum())
        self.notes += [f"the {what.partition(' ')[0]}: {note}" for note in found.notes]
        return images.flattened(found)

    def several(self, value: Any, what: str) -> list[NDArray[np.uint8]]:
        """One picture, or those of a list, which has no gaps.

        Raises:
            EditkitError: where the list has.
        """
        if not isinstance(value, list | tuple):
            found = self.one(value, what)
            return [] if found is None else [found]
        pictures = [self.one(each, what) for each in value]
        if any(picture is None for picture in pictures):
            raise EditkitError(f"One {what} is empty; give a picture, or a shorter list.")
        return [picture for picture in pictures if picture is not None]


def _kind(value: Any) -> str:
    """Numbers are kinds too."""
    return "" if value is None else str(value)


def _held(value: Any) -> bytes:
    """A picture that a row holds in itself, as Hugging Face has them."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return data if isinstance(data, bytes) else b""


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # absent, or no path at all
        return str(path), 0, 0
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _mask(picture: images.Picture, size: tuple[int, int], cut_out: bool) -> NDArray[np.uint8]:
    """255 where the edit lies, at the picture's size: released data have masks of another.

    Read as masks of requests are, or by what is clear where the dataset cuts the place of the edit out.
    """
    values_HW = masks.cut_out(picture) if cut_out else masks.read(picture).values_HW
    gray = Image.fromarray(np.round(values_HW * 255).astype(np.uint8))
    return np.array(gray if gray.size == size else gray.resize(size, Image.Resampling.NEAREST))
