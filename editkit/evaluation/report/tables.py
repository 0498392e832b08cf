"""The tables of a report: methods by columns, whole, by category and by turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.report.statistics import Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a table.

    Attributes:
        part: `all`, `category NAME`, `turn N` or `last turn`.
        method: who made the results.
        n: number of results.
        failed: those without picture or score.
        cells: mean and interval by column.
        balanced: mean of the categories' means by column; empty but for `all`.
    """

    part: str
    method: str
    n: int
    failed: int
    cells: dict[str, Estimate]
    balanced: dict[str, float]


def lines(found: Frame) -> list[Line]:
    """All lines, the whole first, then by category, then by turn."""
    return [_line(found, part, method, rows) for part, method, rows in _parts(found) if rows]


def _parts(found: Frame) -> Iterator[tuple[str, str, list[Row]]]:
    for method in found.methods:
        yield "all", method, found.of(method)
    for category in found.categories:
        for method in found.methods:
            rows = [row for row in found.of(method) if row.item["category"] == category]
            yield f"category {category}", method, rows
    for turn in found.turns:
        for method in found.methods:
            yield f"turn {turn}", method, [row for row in found.of(method) if row.item["turn"] == turn]
    if found.turns:
        for method in found.methods:
            yield "last turn", method, [row for row in found.of(method) if row.item["last"]]


def _line(found: Frame, part: str, method: str, rows: Sequence[Row]) -> Line:
    cells = {name: value for name in found.columns if (value := frame.mean(rows, name)) is not None}
    return Line(
        part=part,
        method=method,
        n=len(rows),
        failed=sum(row.error is not None for row in rows),
        cells=cells,
        balanced=_balanced(found, rows, cells) if part == "all" and len(found.categories) > 1 else {},
    )


def _balanced(found: Frame, rows: Sequence[Row], cells: dict[str, Estimate]) -> dict[str, float]:
    made = {}
    for name in cells:
        sums: dict[str, list[float]] = {}
        for row in rows:
            if name in row.values and row.item["category"]:
                sums.setdefault(row.item["category"], []).append(row.values[name])
        if sums:
            made[name] = sum(sum(each) / len(each) for each in sums.values()) / len(sums)
    return made


def number(value: float) -> str:
    """A figure with as many digits as a table has room for."""
    size = abs(value)
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.4f}"


def cell(estimate: Estimate | None, of: int | None = None) -> str:
    """A mean with its interval, and with how many of the results it rests on, unless on all; a dash for none.

    Args:
        estimate: the mean.
        of: number of results; None where the table tells what the mean rests on elsewhere.
    """
    if estimate is None:
        return "–"  # noqa: RUF001
    told = f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"
    rest = "" if of is None else rests(estimate, of)
    return f"{told} ({rest})" if rest else told


def rests(estimate: Estimate, of: int) -> str:
    """Say how many results a mean is of; empty where it is of all."""
    return "" if estimate.n == of else f"{estimate.n} of {of}"


def plain(found: Frame) -> list[dict[str, Any]]:
    """All lines in JSON's types."""
    return [
        {
            "part": line.part,
            "method": line.method,
            "n": line.n,
            "failed": line.failed,
            "columns": {
                name: {"mean": each.mean, "low": each.low, "high": each.high, "n": each.n}
                for name, each in line.cells.items()
            },
            "mean_of_categories": line.balanced,
        }
        for line in lines(found)
    ]
