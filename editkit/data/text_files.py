"""Read the rows of a dataset from text files: JSON lines, fields between `#;#`, and tables."""

import codecs
import csv
import io
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
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

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        with self.path.open("rb") as file:
            for start in self.starts:
                file.seek(start)
                yield json.loads(file.readline())


def lenient_json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read one JSON object of any keys from each line; a line that is not one becomes a `BadRow`.

    Raises:
        EditkitError: if the file cannot be read at all.
    """
    for number, line in _lines(path, undecoded="surrogateescape"):
        where = f"Line {number} of {path}"
        try:
            _check_decoded(line, where)
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


def table(path: Path, config: DataConfig) -> Rows:
    """Read values under a row of names (DiffSynth), between commas, semicolons or tabs.

    A cell may be a JSON list.

    Raises:
        EditkitError: if a name comes twice, or a row is not one.
    """
    rows = []
    for row in lenient_table(path, set(columns(config).values())):
        if isinstance(row, folders.BadRow):
            raise EditkitError(row.problem)
        rows.append(row)
    return rows


def lenient_table(path: Path, known: Set[str] = frozenset()) -> Iterator[Mapping[str, Any]]:
    """Read a table as `table` does; a row that is not one becomes a `BadRow`.

    Args:
        path: the file.
        known: names by which the sign between cells is recognised, where the first row has several signs.

    Raises:
        EditkitError: if a name comes twice, or where the rows cannot be told apart.
    """
    text = _text(path, undecoded="surrogateescape")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        where = f"Line {(start := reader.line_num + 1)} of {path}"
        try:
            cells = next(reader, None)
            if cells is None:
                return
            _check_decoded("".join(cells), where)
        except csv.Error as error:
            problem = f"{where} is not a row ({first_sentence(error)}); check its quotes."
            if not names or reader.line_num > start:  # open quotes hide the rows behind them
                raise EditkitError(problem) from error
            yield folders.BadRow(problem)
        except EditkitError as error:
            if not names:
                raise
            yield folders.BadRow(str(error))
        else:
            if names and cells:
                yield _table_row(cells, names, where)
            elif not names:
                names = cells
                if twice := [name for name in names if names.count(name) > 1]:
                    raise EditkitError(f"The table {path} has a column {twice[0]!r} twice; rename one.")


def _table_row(cells: list[str], names: list[str], where: str) -> Mapping[str, Any]:
    if len(cells) != len(names):
        return folders.BadRow(
            f"{where} has {len(cells)} cells, and its first row has {len(names)}; make them equal."
        )
    return {name: _cell(value) for name, value in zip(names, cells, strict=True)}


LENIENT = {"jsonl": lenient_json_lines, "table": lenient_table}
"""Readers of layouts by name, whose wrong rows are `BadRow`, not errors."""


def _delimiter(text: str, known: Set[str]) -> str:
    """Choose the sign between a table's cells: the one by which the first row has most known names."""

    def names(delimiter: str) -> tuple[int, bool]:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        return len(known & set(cells)), len(cells) > 1

    return max((",", ";", "\t"), key=names)  # the first of those that are alike


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one sentence why a file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise EditkitError(f"There are no records at {path}; set data.path to a file that exists.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def _text(path: Path, undecoded: str = "strict") -> str:
    with _reading(path):
        return path.read_text(encoding="utf-8-sig", errors=undecoded)


def _check_decoded(text: str, where: str) -> None:
    """Refuse text with bytes in it that are no UTF-8, which `surrogateescape` keeps as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EditkitError(f"{where} is not UTF-8 text; save the file as UTF-8.") from error


def _places(path: Path) -> Iterator[tuple[int, int, str]]:
    """Read the lines that are not empty, each with its number, from 1, and its start in bytes."""
    with _reading(path), path.open("rb") as file:
        start = 0
        for number, line in enumerate(file, start=1):
            own = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if own.strip():
                yield number, start + len(line) - len(own), own.decode()
            start += len(line)


def _lines(path: Path, undecoded: str = "strict") -> Iterator[tuple[int, str]]:
    """Number the lines that are not empty, from 1."""
    for number, line in enumerate(_text(path, undecoded).split("\n"), start=1):
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
