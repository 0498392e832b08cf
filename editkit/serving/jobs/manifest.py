"""Items of a manifest: each names a picture to edit and how."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.data import columns, layouts
from editkit.data.folders import BadRow
from editkit.errors import EditkitError, unknown
from editkit.imaging import images
from editkit.request import FIELDS, PICTURES, EditRequest
from editkit.serving import request_fields
from editkit.serving.jobs import rows
from editkit.serving.jobs.rows import ID

NAME = re.compile(r"[^\W_][\w.-]{0,120}")
COLUMNS = (ID, *FIELDS)
Shared = Mapping[str, Any]
"""Fields that all items have where their rows do not say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One edit of a manifest.

    Attributes:
        name: of the picture that is made, without its suffix; no two items share one.
        row: its columns, by the fields of `EditRequest`.
        shared: fields that the row may leave open.
        folder: where the pictures' paths start.
        problem: why its row is none, so that the item fails; None where it is one.
    """

    name: str
    row: Mapping[str, Any]
    shared: Shared
    folder: Path
    problem: str | None = None

    def request(self) -> EditRequest:
        """Make the edit.

        Raises:
            EditkitError: for a value of a wrong type, without an instruction, or for a row that is none.
        """
        if self.problem is not None:
            raise EditkitError(self.problem)
        made = dict(self.shared)
        for field, value in self.row.items():
            if value is None or value == "":
                continue
            made[field] = self._picture(field, value) if field in PICTURES else self._value(field, value)
        if "instruction" not in made:
            raise EditkitError("It has no instruction; add one to its row, or give --instruction.")
        made.setdefault("image", None)
        return EditRequest(**made)

    def digest(self) -> str:
        """Hash what the item is made from; of pictures their paths and contents."""
        told = {**self.shared, **self.row, "problem": self.problem}
        stamped = {name: self._stamp(value, name in PICTURES) for name, value in sorted(told.items())}
        text = json.dumps(stamped, default=str)
        return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()

    def _value(self, field: str, value: Any) -> Any:
        if field == "instruction" and isinstance(value, list) and value:
            value = value[0]
        return request_fields.read_field(field, value)

    def _picture(self, field: str, value: Any) -> Any:
        if field == "references":
            return [self._opened(field, each) for each in (value if isinstance(value, list) else [value])]
        return self._opened(field, value)

    def _opened(self, field: str, value: Any) -> Any:
        """A path, or a picture that the row holds in itself as Hugging Face keeps it."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return images.from_bytes(value, "Its picture")
        if not isinstance(value, str):
            raise EditkitError(f"{field}={str(value)[:40]} is not allowed; give the path of a picture.")
        return str(self.folder / value)

    def _stamp(self, value: Any, picture: bool) -> Any:
        if isinstance(value, list | tuple):
            return [self._stamp(each, picture) for each in value]
        if isinstance(value, Mapping):
            return {name: self._stamp(each, picture) for name, each in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        if picture and isinstance(value, str) and os.path.isfile(file := self.folder / value):
            with suppress(EditkitError):  # what cannot be read fails when it is edited
                return [value, atomic_files.sha256(file)]
        return value


def read_manifest(source: Path, shared: Shared, named: Mapping[str, str], preset: str | None) -> list[Item]:
    """Read a manifest.

    Args:
        source: JSONL, CSV or TSV, parquet or arrow, a Hugging Face dataset on disk, or a folder of pictures.
        shared: fields that rows may leave open.
        named: columns by field, where they are called otherwise.
        preset: of `editkit.data.columns`, or None.

    Raises:
        EditkitError: where it cannot be read, has a column that no edit has, or no row that is one.
    """
    if not os.path.exists(source):
        raise EditkitError(
            f"The manifest {source} cannot be read (No such file or directory); check the path."
        )
    known = _columns(named, preset)
    if source.is_dir() and not (source / "dataset_info.json").is_file():
        if named or preset:
            raise EditkitError("A folder of pictures has no columns; leave --column and --preset out.")
        found: Sequence[Mapping[str, Any]] = rows.pictures(source)
        folder = source
    else:
        found = rows.read_rows(source, known["instruction"], known["image"])
        folder = source.parent if source.is_file() else source
    items = _items(found, known, shared, folder)
    if not items:
        raise EditkitError(f"The manifest {source} has no items.")
    _check_columns(found, source, named, preset)
    if all(item.problem for item in items):
        raise EditkitError(str(items[0].problem))
    return items


def _columns(named: Mapping[str, str], preset: str | None) -> dict[str, str]:
    """Columns by field."""
    found = {field: field for field in COLUMNS}
    if preset is not None:
        if preset not in columns.COLUMNS:
            raise EditkitError(unknown("preset of columns called", preset, columns.COLUMNS))
        given = dict(columns.COLUMNS[preset])
        given["image"] = given.pop("source")
        found |= {field: column for field, column in given.items() if field in COLUMNS}
    if strange := [field for field in named if field not in COLUMNS]:
        raise EditkitError(unknown("field called", strange[0], COLUMNS))
    return found | dict(named)


def _items(
    found: Sequence[Mapping[str, Any]], known: Mapping[str, str], shared: Shared, folder: Path
) -> list[Item]:
    """Name the rows; one that is wrong, or whose id another has, becomes an item that fails."""
    taken: set[str] = set()
    named = [_fields(row, known, taken) for row in found]
    items = []
    for place, (fields, problem) in enumerate(named):
        name = fields.pop(ID, None) or rows.unused(f"{place:06d}", taken)
        items.append(Item(name=name, row=fields, shared=shared, folder=folder, problem=problem))
    return items


def _fields(
    row: Mapping[str, Any], known: Mapping[str, str], taken: set[str]
) -> tuple[dict[str, Any], str | None]:
    """A row's columns by field, with an id that is free, and what is wrong with the row."""
    if isinstance(row, BadRow):
        return {}, row.problem
    found = {field: row[column] for field, column in known.items() if column in row}
    given = found.pop(ID, None)
    name = "" if given is None else str(given)
    if not name:
        return found, None
    if not NAME.fullmatch(name):
        return {}, f"The id {name[:80]!r} is no file name; use letters, digits, dots and dashes."
    if name.casefold() in taken:
        return {}, f"Two items are called {name}; give each an id of its own."
    return {**found, ID: rows.unused(name, taken)}, None


def _check_columns(
    found: Sequence[Mapping[str, Any]], source: Path, named: Mapping[str, str], preset: str | None
) -> None:
    """Check that a manifest has the columns that are named, and where none are, no others than an edit's."""
    names = layouts.column_names(found) or set()
    for field, column in named.items():
        if column not in names:
            raise EditkitError(
                f"{source}: {unknown('column called', column, sorted(names))[:-1]}; --column "
                f"{field}={column} names none."
            )
    if named or preset:
        return
    if strange := sorted(names - set(COLUMNS)):
        problem = unknown("column called", strange[0], COLUMNS)
        raise EditkitError(f"{source}: {problem[:-1]}; --column FIELD=COLUMN or --preset names others.")
