"""Read the rows of a dataset from a table: values between commas, semicolons or tabs."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from editkit.data import folders
from editkit.data.columns import Rows, columns
from editkit.data.decoding import check_decoded, whole_text
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, first_sentence


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
    text = whole_text(path, undecoded="surrogateescape")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        where = f"Line {(start := reader.line_num + 1)} of {path}"
        try:
            cells = next(reader, None)
            if cells is None:
                return
            check_decoded("".join(cells), where)
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


def _delimiter(text: str, known: Set[str]) -> str:
    """Choose the sign between a table's cells: the one by which the first row has most known names."""

    def names(delimiter: str) -> tuple[int, bool]:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        return len(known & set(cells)), len(cells) > 1

    return max((",", ";", "\t"), key=names)  # the first of those that are alike


def _cell(value: str) -> Any:
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value
