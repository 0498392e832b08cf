"""Read the rows of a dataset from a table: values between commas, semicolons or tabs."""

import codecs
import csv
import json
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from editkit.data import folders
from editkit.data.columns import Rows, columns
from editkit.data.decoding import check_decoded, reading
from editkit.data.placed_rows import PlacedRows
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, first_sentence


def table(path: Path, config: DataConfig) -> Rows:
    """Read values under a row of names (DiffSynth), between commas, semicolons or tabs.

    A cell may be a JSON list.

    Raises:
        EditkitError: if a name comes twice, or a row is not one.
    """
    known, starts = set(columns(config).values()), array("q")
    delimiter, names = _delimiter(path, known), list[str]()
    for start, row in _placed(path, delimiter):
        if isinstance(row, folders.BadRow):
            raise EditkitError(row.problem)
        names = names or list(row)
        starts.append(start)
    return PlacedRows(path, starts, partial(_row_at, delimiter=delimiter, names=tuple(names)))


def lenient_table(path: Path, known: Set[str] = frozenset()) -> Iterator[Mapping[str, Any]]:
    """Read a table as `table` does; a row that is not one becomes a `BadRow`.

    Args:
        path: the file.
        known: names by which the sign between cells is recognised, where the first row has several signs.

    Raises:
        EditkitError: if a name comes twice, or where the rows cannot be told apart.
    """
    for _, row in _placed(path, _delimiter(path, known)):
        yield row


def _placed(path: Path, delimiter: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read the rows below the names, each with its start in bytes."""
    with reading(path), path.open("rb") as file:
        lines = Lines(file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        names: list[str] = []
        while True:
            place, start = lines.place, reader.line_num + 1
            where = f"Line {start} of {path}"
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                check_decoded("".join(cells), where)
            except csv.Error as error:
                problem = f"{where} is not a row ({first_sentence(error)}); check its quotes."
                if not names or reader.line_num > start:  # open quotes hide the rows behind them
                    raise EditkitError(problem) from error
                yield place, folders.BadRow(problem)
            except EditkitError as error:
                if not names:
                    raise
                yield place, folders.BadRow(str(error))
            else:
                if names and cells:
                    yield place, _table_row(cells, names, where)
                elif not names:
                    names = cells
                    if twice := [name for name in names if names.count(name) > 1]:
                        raise EditkitError(f"The table {path} has a column {twice[0]!r} twice; rename one.")


class Lines(Iterator[str]):
    """A file's lines from where it stands, whatever ends them; bytes that are no UTF-8 become surrogates.

    Attributes:
        place: where the next line starts, in bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.place = file, file.tell()
        self.waiting: deque[bytes] = deque()

    def __next__(self) -> str:
        # A line between two \n holds several where \r alone ends them.
        while not self.waiting:
            line = self.file.readline()
            if not line:
                raise StopIteration
            if self.place == 0 and line.startswith(codecs.BOM_UTF8):
                self.place, line = len(codecs.BOM_UTF8), line.removeprefix(codecs.BOM_UTF8)
            self.waiting.extend(line.splitlines(keepends=True))
        line = self.waiting.popleft()
        self.place += len(line)
        return line.decode(errors="surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def _row_at(file: BinaryIO, delimiter: str, names: Sequence[str]) -> Mapping[str, Any]:
    cells = next(csv.reader(Lines(file), delimiter=delimiter, strict=True))
    return {name: _cell(value) for name, value in zip(names, cells, strict=True)}


def _table_row(cells: list[str], names: list[str], where: str) -> Mapping[str, Any]:
    if len(cells) != len(names):
        return folders.BadRow(
            f"{where} has {len(cells)} cells, and its first row has {len(names)}; make them equal."
        )
    return {name: _cell(value) for name, value in zip(names, cells, strict=True)}


def _delimiter(path: Path, known: Set[str]) -> str:
    """Choose the sign between a table's cells: the one by which the first row has most known names."""
    if path.suffix.lower() == ".tsv":
        return "\t"

    def names(delimiter: str) -> tuple[int, bool]:
        cells: list[str] = []
        with path.open("rb") as file, suppress(csv.Error):  # told with its line when rows are read
            cells = next(csv.reader(Lines(file), delimiter=delimiter), cells)
        return len(known & set(cells)), len(cells) > 1

    with reading(path):
        return max((",", ";", "\t"), key=names)  # the first of those that are alike


def _cell(value: str) -> Any:
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value
