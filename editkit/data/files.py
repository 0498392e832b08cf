"""Read training pairs from files and folders."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from editkit.data import layouts
from editkit.data.columns import CUT_OUT, columns
from editkit.data.records import DataConfig, Record, UnreachableError
from editkit.data.row_hashes import hashes
from editkit.errors import EditkitError, first_sentence
from editkit.imaging import images, masks

WORDS = {"instruction", "kind", "task"}
"""Fields of a record that hold text."""
OTHERS = 8
"""Most columns of a row that are named where it lacks one."""


class FileDataset:
    """Records in files; their pictures are read when a record is asked for.

    Raises:
        EditkitError: if the path is missing or cannot be read, a column is unknown, or no record is left.
    """

    def __init__(self, config: DataConfig) -> None:
        if config.path is None:
            raise EditkitError(f"data.name={config.name} needs data.path; set it to the file or folder.")
        self.config = config
        self.path, self.tasks = Path(config.path), config.tasks
        self.columns = columns(config)
        self.masks_cut_out = config.preset in CUT_OUT
        self.needs_source = "source" in self.columns and not config.text_to_image
        self.rows = layouts.LAYOUTS[config.name](self.path, config)
        if not self.rows:
            raise EditkitError(f"There are no records in {self.path}; give a file or folder that has some.")
        self._check_columns(config)
        self.places: Sequence[int] = range(len(self.rows))
        if config.types:
            self.places = [place for place in self.places if self._wanted(self.rows[place], config.types)]
        self.places = self.places[: config.count]
        if not self.places:
            raise EditkitError(f"There are no records of the wanted kinds in {self.path}; check data.types.")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Record:
        where = f"record {index} of {self.path}"
        try:
            return self._record(self.rows[self.places[index]], where)
        except UnreachableError:
            raise
        except EditkitError as error:
            # A file name that is not valid Unicode cannot be printed as it is.
            raise EditkitError(str(error).encode(errors="backslashreplace").decode()) from error
        except (OSError, ValueError, UnidentifiedImageError) as error:  # UnicodeDecodeError is a ValueError
            problem = first_sentence(error)
            raise EditkitError(
                f"The {where} cannot be read ({problem}); correct it or leave it out."
            ) from error

    def _check_columns(self, config: DataConfig) -> None:
        known = layouts.column_names(self.rows) if config.columns and self.rows else None
        for field, column in config.columns.items():
            if column and known is not None and column not in known:
                raise EditkitError(
                    f"data.columns.{field} names {column!r}, which no record of {self.path} has; give one of "
                    f"{', '.join(sorted(known))}."
                )

    def _record(self, row: Mapping[str, Any], where: str) -> Record:
        found = {field: row.get(column) for field, column in self.columns.items()}
        found |= {field: _text(found[field]) for field in WORDS & found.keys()}
        words = found.get("instruction")
        wordings = tuple(words) if isinstance(words, list | tuple) else (words,)
        if not wordings or not all(isinstance(each, str) for each in wordings):
            raise EditkitError(f"The {where} has no {self._absent('instruction', row)}.")
        words = wordings[0]
        read = PictureReader(self._load)
        sources = read.several(found.get("source"), f"source of {where}")
        source = sources[0] if sources else None
        references = (*sources[1:], *read.several(found.get("references"), f"reference of {where}"))
        if self.needs_source and source is None and not references:
            raise EditkitError(
                f"The {where} has no {self._absent('source', row)}, or set data.text_to_image=true to learn "
                "from words alone."
            )
        answer = read.one(found.get("answer"), f"answer of {where}")
        if answer is None:
            raise EditkitError(f"The {where} has no {self._absent('answer', row)}.")
        height, width = (answer if source is None else source).shape[:2]
        mask = self._load(found.get("mask"), f"mask of {where}")
        kind, task = _kind(found.get("kind")), found.get("task")
        if task is not None and not isinstance(task, str):
            raise EditkitError(f"The {where} has a task that is not text; give its name.")
        texts = [("instruction", each) for each in wordings]
        for field, text in (*texts, ("kind", kind), ("task", task or "")):
            if text != text.encode(errors="ignore").decode():
                raise EditkitError(f"The {field} of {where} is not Unicode text; correct it or leave it out.")
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
            wordings=wordings if len(wordings) > 1 else (),
        )

    def _absent(self, field: str, row: Mapping[str, Any]) -> str:
        """Say what is absent from a row, and what to do."""
        column = self.columns.get(field, "")
        others = [repr(name) for name in row if name not in self.columns.values()][:OTHERS]
        known = f", such as {', '.join(others)}" if others and column not in row else ""
        return f"{field} under {column!r}; add it, or name its column in data.columns.{field}{known}"

    def unused_columns(self) -> list[str]:
        """Name the columns that no field of a record is read from; of shards, those of the first row."""
        found = layouts.column_names(self.rows)
        if found is None:
            with suppress(ValueError):  # of JSON, told when the record is read
                found = set(self.rows[self.places[0]]) - {"json"}
        return sorted((found or set()) - set(self.columns.values()))

    def digest(self) -> str:
        """Hash the rows, and the path, size and time of each file.

        The content is not hashed, since every file would have to be read before each run. So a file that was
        copied or touched counts as new.
        """
        return self._hashes[0]

    def content(self) -> str:
        return self._hashes[1]

    @cached_property
    def _hashes(self) -> tuple[str, str]:
        folder = self.path if self.path.is_dir() else self.path.parent
        return hashes(self.rows, self.places, self.columns, folder, chosen=bool(self.config.types))

    def _wanted(self, row: Mapping[str, Any], types: Sequence[str]) -> bool:
        try:
            kind = _kind(row.get(self.columns.get("kind", "kind")))
        except UnreachableError:
            raise
        except (EditkitError, ValueError):  # reported when the record is read
            return True
        return any(re.search(pattern, kind) for pattern in types)

    def _load(self, value: Any, what: str) -> images.Picture | None:
        return load_picture(value, self.path if self.path.is_dir() else self.path.parent, what)


def load_picture(value: Any, folder: Path, what: str) -> images.Picture | None:
    """Load a picture from a path below a folder, bytes as Hugging Face keeps them, or a decoded picture.

    Returns None where the value is empty.

    Raises:
        EditkitError: if the picture cannot be read.
    """
    if isinstance(value, Mapping):  # an image column that was not decoded
        value = value.get("bytes") or value.get("path")
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bytes):
        value = images.from_bytes(value, f"The {what}")
    if isinstance(value, str | Path):
        value = folder / value
    return images.load_image(value, what)


class PictureReader:
    """Reads the pictures of a record on white, and counts their transparent pixels.

    Attributes:
        transparent: number of pixels so far that are not opaque.
        notes: remarks on what was assumed about the pictures.
    """

    def __init__(self, load: Callable[[Any, str], images.Picture | None]) -> None:
        self.load, self.transparent, self.notes = load, 0, list[str]()

    def one(self, value: Any, what: str) -> NDArray[np.uint8] | None:
        """Read one picture; None if there is none."""
        found = self.load(value, what)
        if found is None:
            return None
        if found.alpha is not None:
            self.transparent += int((found.alpha < 255).sum())
        self.notes += [f"the {what.partition(' ')[0]}: {note}" for note in found.notes]
        return images.flatten(found)

    def several(self, value: Any, what: str) -> list[NDArray[np.uint8]]:
        """Read one picture, or all pictures of a list.

        Raises:
            EditkitError: if one of a list is empty.
        """
        if not isinstance(value, list | tuple):
            found = self.one(value, what)
            return [] if found is None else [found]
        pictures = [self.one(each, what) for each in value]
        if any(picture is None for picture in pictures):
            raise EditkitError(f"One {what} is empty; give a picture, or a shorter list.")
        return [picture for picture in pictures if picture is not None]


def _text(value: Any) -> Any:
    """Return bytes as text: shards hold a class in digits, and words under endings of any name."""
    return value.decode("utf-8-sig").strip() if isinstance(value, bytes) else value


def _kind(value: Any) -> str:
    """Return a kind as text; datasets may number them."""
    return "" if value is None else str(_text(value))


def _mask(picture: images.Picture, size: tuple[int, int], cut_out: bool) -> NDArray[np.uint8]:
    """Return a mask at the picture's size, (H, W) in 0 to 255; released data have masks of other sizes.

    With `cut_out`, the edit lies where the mask is transparent.
    """
    values_HW = masks.cut_out(picture) if cut_out else masks.read_mask(picture).values_HW
    gray = Image.fromarray(np.round(values_HW * 255).astype(np.uint8))
    return np.array(gray if gray.size == size else gray.resize(size, Image.Resampling.NEAREST))
