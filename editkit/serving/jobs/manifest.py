"""Items of a manifest: each names a picture to edit and how."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from editkit.data import columns, layouts
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, unknown
from editkit.request import FIELDS, PICTURES, EditRequest
from editkit.serving import request_fields

LAYOUTS = {".jsonl": "jsonl", ".csv": "table", ".tsv": "table", ".parquet": "huggingface"}
LAYOUTS |= {".arrow": "huggingface"}
"""Layouts of `editkit.data` by a file's suffix; a folder of Hugging Face has a `dataset_info.json`."""
NAME = re.compile(r"[^\W_][\w.-]{0,120}")
ID = "id"
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
    """

    name: str
    row: Mapping[str, Any]
    shared: Shared
    folder: Path

    def request(self) -> EditRequest:
        """Make the edit.

        Raises:
            EditkitError: for a value of a wrong type, or without an instruction.
        """
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
        """Hash what the item is made from; of files their paths and sizes."""
        told = {**self.shared, **self.row}
        text = json.dumps({name: self._stamp(value) for name, value in sorted(told.items())}, default=str)
        return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()

    def _value(self, field: str, value: Any) -> Any:
        if field != "instruction":
            return request_fields.read(field, value)
        return value[0] if isinstance(value, list) and value else value

    def _picture(self, field: str, value: Any) -> Any:
        if field == "references":
            return [self._opened(each) for each in (value if isinstance(value, list) else [value])]
        return self._opened(value)

    def _opened(self, value: Any) -> Any:
        """A path, or a picture that the row holds in itself as Hugging Face keeps it."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            try:
                return Image.open(BytesIO(value))
            except (UnidentifiedImageError, OSError) as error:
                raise EditkitError("Its picture is in no known format; give a PNG, JPEG or WebP.") from error
        return str(self.folder / value) if isinstance(value, str) else value

    def _stamp(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._stamp(each) for each in value]
        if isinstance(value, Mapping):
            return {name: self._stamp(each) for name, each in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        if isinstance(value, str) and len(value) < 1024 and "\0" not in value:
            file = self.folder / value
            return [value, file.stat().st_size] if file.is_file() else value
        return value


def read(source: Path, shared: Shared, named: Mapping[str, str], preset: str | None) -> list[Item]:
    """Read a manifest.

    Args:
        source: JSONL, CSV or TSV, parquet or arrow, a Hugging Face dataset on disk, or a folder of pictures.
        shared: fields that rows may leave open.
        named: columns by field, where they are called otherwise.
        preset: of `editkit.data.columns`, or None.

    Raises:
        EditkitError: where it cannot be read, has a column that no edit has, or a name twice.
    """
    if not source.exists():
        raise EditkitError(
            f"The manifest {source} cannot be read (No such file or directory); check the path."
        )
    known = _columns(named, preset)
    if source.is_dir() and not (source / "dataset_info.json").is_file():
        if named or preset:
            raise EditkitError("A folder of pictures has no columns; leave --column and --preset out.")
        rows: Sequence[Mapping[str, Any]] = _pictures(source)
        folder = source
    else:
        layout = "huggingface" if source.is_dir() else LAYOUTS.get(source.suffix.lower())
        if layout is None:
            raise EditkitError(f"The manifest {source} must be a folder or end in {', '.join(LAYOUTS)}.")
        config = DataConfig(name=layout, path=str(source), columns=_told(known))
        rows = layouts.LAYOUTS[layout](source, config)
        folder = source.parent if source.is_file() else source
    items = [_item(place, row, known, shared, folder) for place, row in enumerate(rows)]
    if not items:
        raise EditkitError(f"The manifest {source} has no items.")
    if not (named or preset):
        _check_columns(rows, source)
    _check_names(items)
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


def _told(known: Mapping[str, str]) -> dict[str, str]:
    """The columns of which a row has one at least, as `editkit.data` calls their fields."""
    return {"instruction": known["instruction"], "source": known["image"]}


def _item(place: int, row: Mapping[str, Any], known: Mapping[str, str], shared: Shared, folder: Path) -> Item:
    found = {field: row[column] for field, column in known.items() if column in row}
    name = found.pop(ID, None)
    name = f"{place:06d}" if name is None or name == "" else str(name)
    if not NAME.fullmatch(name):
        raise EditkitError(f"The id {name[:80]!r} is no file name; use letters, digits, dots and dashes.")
    return Item(name=name, row=found, shared=shared, folder=folder)


def _pictures(folder: Path) -> list[dict[str, str]]:
    registered = Image.registered_extensions()
    readable = {suffix for suffix, form in registered.items() if form in Image.OPEN}
    files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in readable)
    return [{ID: _plain(Path(file).stem), "image": file} for file in files]


def _plain(stem: str) -> str:
    """A picture's name as an item's, without what no file name of every system has."""
    return re.sub(r"[^\w.-]", "-", stem).lstrip("_.-")[:120] or "picture"


def _check_columns(rows: Sequence[Mapping[str, Any]], source: Path) -> None:
    names = layouts.column_names(rows) or set()
    if strange := sorted(names - set(COLUMNS)):
        problem = unknown("column called", strange[0], COLUMNS)
        raise EditkitError(f"{source}: {problem[:-1]}; --column FIELD=COLUMN or --preset names others.")


def _check_names(items: Sequence[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.name.casefold() in seen:
            raise EditkitError(f"Two items are called {item.name}; give each an id of its own.")
        seen.add(item.name.casefold())
