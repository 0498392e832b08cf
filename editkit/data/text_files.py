"""Read the rows of a dataset from text files: JSON lines, fields between `#;#`, and tables."""

import codecs
import csv
import io
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    known = set(columns(config).values())
    starts = array("q")
    for number, start, line in _places(path):
        row = parse_json(line, f"Line {number} of {path}")
        if not isinstance(row, dict) or not known & set(row):
            keys = ", ".join(sorted(known))
            raise EditkitError(
                f"Line {number} of {path} is not an object with any of the keys {keys}; mend or remove it."
            )
        starts.append(start)
    return JsonLines(path, starts)


class JsonLines(Sequence[Mapping[str, Any]]):
    """The objects in a file's lines, parsed when they are asked for; memory holds 8 bytes a line.

    Args:
        path: the file.
        starts: the place in bytes at which each line starts.
    """

    def __init__(self, path: Path, starts: Sequence[int]) -> None:
        self.path, self.starts = path, starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self.starts[place])
            return json.loads(file.readline())


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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one sentence why a file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise EditkitError(f"There are no records at {path}; set data.path to a file that exists.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def _text(path: Path) -> str:
    with _reading(path):
        return path.read_text(encoding="utf-8-sig")


def _places(path: Path) -> Iterator[tuple[int, int, str]]:
    """Read the lines that are not empty, each with its number, from 1, and its start in bytes."""
    with _reading(path), path.open("rb") as file:
        start = 0
        for number, line in enumerate(file, start=1):
            own = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if own.strip():
                yield number, start + len(line) - len(own), own.decode()
            start += len(line)


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
