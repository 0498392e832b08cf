"""A report as one HTML file, its pictures inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation import file_shapes
from editkit.evaluation.file_shapes import fits
from editkit.evaluation.report import gallery, markdown, plots, tables
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.report.tables import Line
from editkit.evaluation.run_folder import RunFolder

TEMPLATE = Path(__file__).with_name("page.html.j2")
SHOWN = ("source", "result before", "mask", "result", "answer")


def html(folder: RunFolder, found: Frame, lines: Sequence[Line]) -> str:
    """The page: tables to sort, results to filter, and the best and worst pictures.

    Raises:
        EditkitError: where jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise EditkitError("report.html needs a package: pip install 'editkit[eval]'.") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    benchmark = found.settings["benchmark"]
    return template.render(
        title=benchmark["title"] or benchmark["name"],
        benchmark=benchmark,
        summary=[_code(sentence) for sentence in markdown.summary(found)],
        means=markdown.MEANS,
        columns=list(found.columns.values()),
        arrows=markdown.ARROWS,
        parts=[(title, _lines(found, part)) for title, part in markdown.parts(lines)],
        plots=plots.plots(found),
        failures=list(markdown.failed(found)),
        depends=list(markdown.depends(found)),
        gallery=_gallery(folder, found),
        methods=found.methods,
        categories=found.categories,
        places=["method", "item", *(["category"] if found.categories else []), "instruction"],
        rows=[_row(row, found) for row in found.rows],
    )


def _code(sentence: str) -> list[tuple[bool, str]]:
    """A sentence in parts; those between backticks are code."""
    return [(number % 2 == 1, part) for number, part in enumerate(sentence.split("`"))]


def _lines(found: Frame, lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [
        {
            "method": line.method,
            "n": line.n,
            "failed": line.failed,
            "cells": [_cell(line, name) for name in found.columns],
        }
        for line in lines
    ]


def _cell(line: Line, name: str) -> dict[str, Any]:
    estimate = line.cells.get(name)
    if estimate is None:
        return {"mean": "–", "interval": "", "rests": "", "value": "", "balanced": ""}  # noqa: RUF001
    balanced = f"categories {tables.number(line.balanced[name])}" if name in line.balanced else ""
    low, high = tables.number(estimate.low), tables.number(estimate.high)
    return {
        "mean": tables.number(estimate.mean),
        "interval": "" if low == high else f"{low} to {high}",
        "rests": tables.rests(estimate, line.n),
        "value": estimate.mean,
        "balanced": balanced,
    }


def _row(row: Row, found: Frame) -> dict[str, Any]:
    return {
        "method": row.method,
        "item": row.item["id"],
        "category": row.item["category"],
        "instruction": row.item["instruction"],
        "error": row.error or "",
        "values": [row.values.get(name) for name in found.columns],
    }


def _gallery(folder: RunFolder, found: Frame) -> dict[str, Any]:
    path = folder.path / gallery.INDEX
    if not path.is_file():
        return {"column": "", "missing": "", "methods": []}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        index = None
    if not fits(index, file_shapes.GALLERY):
        raise EditkitError(f"{path} is damaged; delete it, and run again to make it anew.")
    rows = {(row.method, row.item["id"]): row for row in found.rows}
    methods = [
        (
            method,
            [
                _shown(folder, rows[method, each["item"]], each, index["column"])
                for each in entries
                if (method, each["item"]) in rows  # its lines of the logs may have been deleted
            ],
        )
        for method, entries in index["methods"].items()
    ]
    return {"column": index["column"], "missing": _missing(index, methods), "methods": methods}


def _missing(index: dict[str, Any], methods: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    """A sentence on what the gallery lacks; empty where it is whole."""
    shown = [card for _, cards in methods for card in cards]
    results = sum(map(len, index["methods"].values())) - len(shown)
    pictures = sum(card["missing"] for card in shown)
    told = {"results that the logs do not hold": results, "pictures whose files cannot be read": pictures}
    missing = [f"{what} ({count})" for what, count in told.items() if count]
    return f"The gallery lacks {', '.join(missing)}; run again to make it anew." if missing else ""


def _shown(folder: RunFolder, row: Row, entry: dict[str, Any], column: str) -> dict[str, Any]:
    pictures = {name: path and _inline(folder.path / path) for name, path in entry["pictures"].items()}
    return {
        "which": entry["which"],
        "item": row.item["id"],
        "category": row.item["category"],
        "instruction": row.item["instruction"],
        "figure": f"{column} {tables.number(row.values[column])}" if column in row.values else "",
        "notes": [line for metric, told in row.notes.items() for line in _noted(metric, told)],
        "pictures": [(name, pictures[name]) for name in SHOWN if pictures.get(name)],
        "missing": sum(not picture for picture in pictures.values()),
    }


def _noted(metric: str, told: Any) -> list[str]:
    """A judge's own words, one reply a line; of other metrics what they noted."""
    if isinstance(told, dict) and told.get("said") is not None:
        return [f"{metric}, {said}" for said in told["said"]]
    return [f"{metric}: {_words(told)}"]


def _words(told: Any) -> str:
    if isinstance(told, dict):
        return "; ".join(f"{key} {_words(value)}" for key, value in told.items())
    return ", ".join(map(str, told)) if isinstance(told, list) else str(told)


def _inline(path: Path) -> str | None:
    """A picture as a URL; None where its file cannot be read."""
    try:
        return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        return None
