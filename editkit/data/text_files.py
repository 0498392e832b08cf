"""Read the rows of a dataset from lines of text: JSON, and fields between `#;#`."""

import codecs
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from editkit.data import folders
from editkit.data.columns import Rows, columns
from editkit.data.decoding import check_decoded, reading, whole_text
from editkit.data.placed_rows import PlacedRows
from editkit.data.records import DataConfig
from editkit.errors import EditkitError

SEPARATOR = "#;#"


def json_lines(path: Path, config: DataConfig) -> Rows:
    """Read one JSON object from each line.

    Raises:
        EditkitError: if a line is not an object, has a key twice, or has none of the columns.
    """
    known = set(columns(config).values())
    starts = array("q")
    for number, start, line in _places(path):
        row = parse_json(line, f"Line {number} of {path}")
        if not isinstance(row, dict) or not known & set(row):
            keys = ", ".join(sorted(known))
            raise EditkitError(
                f"Line {number} of {path} is not an object with any of the keys {keys}; correct or remove it."
            )
        starts.append(start)
    return PlacedRows(path, starts, _object)


def _object(file: BinaryIO) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(file.readline())
    return found


def lenient_json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read one JSON object of any keys from each line; a line that is not one becomes a `BadRow`.

    Raises:
        EditkitError: if the file cannot be read at all.
    """
    for number, line in _lines(path, undecoded="surrogateescape"):
        where = f"Line {number} of {path}"
        try:
            check_decoded(line, where)
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
    starts = array("q")
    for number, start, line in _places(path):
        cells = _cells(line)
        if len(cells) != len(config.fields):
            raise EditkitError(
                f"Line {number} of {path} has {len(cells)} fields between {SEPARATOR}, and data.fields names "
                f"{len(config.fields)}; correct the line or data.fields."
            )
        starts.append(start)
    return PlacedRows(path, starts, partial(_fields, names=tuple(config.fields)))


def _fields(file: BinaryIO, names: Sequence[str]) -> Mapping[str, Any]:
    return dict(zip(names, _cells(file.readline().decode()), strict=True))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(SEPARATOR)]


def _places(path: Path) -> Iterator[tuple[int, int, str]]:
    """Read the lines that are not empty, each with its number, from 1, and its start in bytes."""
    with reading(path), path.open("rb") as file:
        start = 0
        for number, line in enumerate(file, start=1):
            own = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if own.strip():
                yield number, start + len(line) - len(own), own.decode()
            start += len(line)


def _lines(path: Path, undecoded: str) -> Iterator[tuple[int, str]]:
    """Number the lines that are not empty, from 1."""
    for number, line in enumerate(whole_text(path, undecoded).split("\n"), start=1):
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
