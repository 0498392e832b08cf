"""Tables of measured figures within pages that people write: found, filled in, compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from editkit.evaluation.report.statistics import Estimate

BETWEEN = " / "
"""Separator of several figures in one cell."""
Figures = tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """The measured figures of one table, which stands in one page or in several.

    Attributes:
        first: what the first column of the table is called, and no other table of the page.
        rows: figures by the names of row and column. Other cells of a page are left as they are.
        examples: number of examples by row, for a column `examples`.
    """

    first: str
    rows: Mapping[str, Mapping[str, Figures]]
    examples: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a figure in a page.

    Attributes:
        line: number of the line, from 0 on.
        cell: number of the cell in it.
        row: name of the row.
        column: name of the column.
        text: what stands there.
    """

    line: int
    cell: int
    row: str
    column: str
    text: str


def places(text: str, first: str) -> list[Place]:
    """The cells of the table whose first column is called so; none where the page has no such table.

    Raises:
        ValueError: where two tables begin so.
    """
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines) if _cells(line)[:1] == [first]]
    if len(heads) > 1:
        raise ValueError(f"{len(heads)} tables have the first column {first!r}; rename one.")
    found: list[Place] = []
    for head in heads:
        columns = _cells(lines[head])
        for number in range(head + 2, len(lines)):
            cells = _cells(lines[number])
            if not cells:
                break
            found += [
                Place(line=number, cell=cell, row=cells[0], column=columns[cell], text=cells[cell])
                for cell in range(1, len(cells))
            ]
    return found


def filled(text: str, table: PageTable) -> str:
    """A page with a table's measured figures in place of those that stand there."""
    lines = text.splitlines(keepends=True)
    for place in places(text, table.first):
        figures = table.rows.get(place.row, {}).get(place.column)
        if figures is not None:
            value = BETWEEN.join(f"{each.mean:.3f}" for each in figures)
        elif place.column == "examples" and place.row in table.examples:
            value = str(table.examples[place.row])
        else:
            continue
        cells = _cells(lines[place.line])
        cells[place.cell] = value
        lines[place.line] = f"| {' | '.join(cells)} |\n".replace("|  |", "| |")
    return "".join(lines)


def differences(name: str, text: str, table: PageTable) -> Iterator[str]:
    """A page's figures that lie outside the measured intervals or were not measured, in words."""
    found = places(text, table.first)
    for row in dict.fromkeys(place.row for place in found):
        if row not in table.rows:
            yield f"{name}, {row}: not measured; take more examples, or the row out"
    for column in {column for row in table.rows.values() for column in row}:
        if column not in {place.column for place in found}:
            yield f"{name}: {column} was measured and is no column of the page"
    for place in found:
        figures = table.rows.get(place.row, {}).get(place.column)
        if figures is None:
            continue
        told = [part.strip() for part in place.text.split(BETWEEN.strip())]
        where = f"{name}, {place.row}, {place.column}"
        if len(told) != len(figures) or not all(map(_is_number, told)):
            yield f"{where}: {place.text!r} is not {len(figures)} figures"
        elif not all(_holds(each, part) for each, part in zip(figures, told, strict=True)):
            yield f"{where}: {place.text} against {BETWEEN.join(map(_interval, figures))}"


def shown(text: str, first: str) -> list[str]:
    """The lines of a page's table, without its head."""
    lines = text.splitlines()
    return [lines[number] for number in sorted({place.line for place in places(text, first)})]


def published(pages: Sequence[Path], table: PageTable) -> list[Path]:
    """The pages that have a table.

    Raises:
        ValueError: where none has it.
    """
    having = [page for page in pages if places(page.read_text(), table.first)]
    if not having:
        raise ValueError(f"No page has a table with the first column {table.first!r}.")
    return having


def _holds(measured: Estimate, told: str) -> bool:
    """Whether an interval holds a figure, which is rounded to its last digit."""
    half = 0.5 * 10.0 ** -len(told.partition(".")[2])
    return measured.low - half - 1e-9 <= float(told) <= measured.high + half + 1e-9


def _interval(each: Estimate) -> str:
    return f"{each.mean:.3f} [{each.low:.3f}, {each.high:.3f}]"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def _cells(line: str) -> list[str]:
    stripped = line.strip()
    if not stripped.startswith("|"):
        return []
    return [cell.strip() for cell in stripped[1:-1].split("|")]
