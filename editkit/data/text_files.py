"""Read the rows of a dataset from text files: JSON lines, fields between `#;#`, and tables."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from editkit.data import folders
from editkit.data.columns import Rows, columns
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, first_sentence

SEPARATOR = "#;#"


def json_lines(path: Path, config: DataConfig) -> Rows:
    """Read one JSON object from each line.

    Raises:
        EditkitError: if a line is not an object, has a key twice, or has none of the columns.
    """
    rows, known = [], set(columns(config).values())
    for number, line in _lines(path):
        row = parse_json(line, f"Line {number} of {path}")
        if not isinstance(row, dict) or not known & set(row):
            keys = ", ".join(sorted(known))
            raise EditkitError(
                f"Line {number} of {path} is not an object with any of the keys {keys}; mend or remove it."
            )
        rows.append(row)
    return rows


def lenient_json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read one JSON object of any keys from each line; a line that is not one becomes a `BadRow`.

    Raises:
        EditkitError: if the file cannot be read at all.
    """
    for number, line in _lines(path):
        where = f"Line {number} of {path}"
        try:
            row = parse_json(line, where)
        except EditkitError as error:
            yield folders.BadRow(str(error))
            continue
        yield (
            row if isinstance(row, dict) else folders.BadRow(f"{where} is not an object; give one a line.")
        )


def parse_json(text: str, where: str) -> Any:
    """Parse JSON whose objects have each key once.

    Raises:
        EditkitError: if the text is not JSON, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except KeyError as error:
        raise EditkitError(f"{where} has {error} twice; keep one of them.") from error
    except (ValueError, RecursionError) as error:
        raise EditkitError(f"{where} is not JSON; give one object a line.") from error


def separated(path: Path, config: DataConfig) -> Rows:
    """Read fields between `#;#`, in the order of `data.fields`; an empty field is absent.

    Raises:
        EditkitError: if a line has another number of fields.
    """
    rows = []
    for number, line in _lines(path):
        cells = [cell.strip() for cell in line.split(SEPARATOR)]
        if len(cells) != len(config.fields):
            raise EditkitError(
                f"Line {number} of {path} has {len(cells)} fields between {SEPARATOR}, and data.fields names "
                f"{len(config.fields)}; mend the line or data.fields."
            )
        rows.append(dict(zip(config.fields, cells, strict=True)))
    return rows


def table(path: Path, _: DataConfig) -> Rows:
    """Read comma- or tab-separated values under a row of names (DiffSynth); a cell may be a JSON list.

    Raises:
        EditkitError: if a name comes twice, or a line has another number of cells or open quotes.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows, start = [], 1
    try:
        for cells in reader:
            if not names:
                names = cells
                if twice := [name for name in names if names.count(name) > 1]:
                    raise EditkitError(f"The table {path} has a column {twice[0]!r} twice; rename one.")
            elif cells and len(cells) != len(names):
                raise EditkitError(
                    f"Line {start} of {path} has {len(cells)} cells, and its first row has {len(names)}; "
                    "make them equal."
                )
            elif cells:
                rows.append({name: _cell(value) for name, value in zip(names, cells, strict=True)})
            start = reader.line_num + 1
    except csv.Error as error:
        problem = first_sentence(error)
        raise EditkitError(f"Line {start} of {path} is not a row ({problem}); check its quotes.") from error
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise EditkitError(f"There are no records at {path}; set data.path to a file that exists.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number the lines that are not empty, from 1."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object whose keys come once; by JSON's own rule, the last one would count."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise KeyError(key)
        made[key] = value
    return made


def _cell(value: str) -> Any:
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value
