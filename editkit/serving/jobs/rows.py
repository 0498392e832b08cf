"""Rows of a manifest's file, and pictures of a folder, as rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.data import layouts, tables, text_files
from editkit.data.folders import BadRow
from editkit.data.records import DataConfig
from editkit.errors import EditkitError

ID = "id"
LAYOUTS = {".jsonl": "jsonl", ".csv": "table", ".tsv": "table", ".parquet": "huggingface"}
LAYOUTS |= {".arrow": "huggingface"}
"""Layouts of `editkit.data` by a file's suffix; a folder of Hugging Face has a `dataset_info.json`."""


def read_rows(source: Path, instruction: str, image: str) -> Sequence[Mapping[str, Any]]:
    """Read the rows of a file, or of a folder of Hugging Face; of text also wrong ones, as `BadRow`.

    Args:
        source: the file or folder.
        instruction: column of the instructions.
        image: column of the pictures; a row has one of both at least.

    Raises:
        EditkitError: where it cannot be read.
    """
    layout = "huggingface" if source.is_dir() else LAYOUTS.get(source.suffix.lower())
    if layout is None:
        raise EditkitError(f"The manifest {source} must be a folder or end in {', '.join(LAYOUTS)}.")
    if layout == "table":
        return list(tables.lenient_table(source, {instruction, image}))
    if layout != "jsonl":
        columns = {"instruction": instruction, "source": image}
        return layouts.LAYOUTS[layout](source, DataConfig(name=layout, path=str(source), columns=columns))
    found: list[Mapping[str, Any]] = []
    for number, row in enumerate(text_files.lenient_json_lines(source), 1):
        if isinstance(row, BadRow) or instruction in row or image in row:
            found.append(row)
        else:
            found.append(BadRow(f"Row {number} of {source} has no {instruction} and no {image}; add one."))
    return found


def pictures(folder: Path) -> list[dict[str, str]]:
    """Name the pictures of a folder: by their stems, with their suffixes where several share one."""
    registered = Image.registered_extensions()
    readable = {suffix for suffix, form in registered.items() if form in Image.OPEN}
    files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in readable)
    stems = [_plain(Path(file).stem) for file in files]
    often = Counter(stem.casefold() for stem in stems)
    taken: set[str] = set()
    return [
        {ID: unused(stem if often[stem.casefold()] == 1 else _plain(file), taken), "image": file}
        for stem, file in zip(stems, files, strict=True)
    ]


def _plain(name: str) -> str:
    """A picture's name as an item's, without what no file name of every system has."""
    return re.sub(r"[^\w.-]", "-", name).lstrip("_.-")[:110] or "picture"


def unused(name: str, taken: set[str]) -> str:
    """Take a name, with a number behind it where it is taken; not every disk tells capitals from small."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    found = next(each for each in names if each.casefold() not in taken)
    taken.add(found.casefold())
    return found
