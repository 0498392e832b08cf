"""Pictures of the best and worst results, small, kept in the run's folder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.metrics.base import LOWER
from editkit.evaluation.records import Item, StoredPicture
from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder

EACH = 6
"""Best results that are shown of each method, and as many of its worst."""
SIDE = 256
"""Longest side of a picture in it."""
INDEX, FOLDER = "gallery.json", "gallery"


def collect(folder: RunFolder, benchmark: Benchmark, limit: int | None) -> None:
    """Choose results by the benchmark's primary column, and keep their pictures.

    Raises:
        EditkitError: where they cannot be written.
    """
    found = frame.read_frame(folder)
    column = primary(found)
    if column is None:
        return
    chosen = {method: _chosen(found, method, column) for method in found.methods}
    wanted = {row.item["id"] for rows in chosen.values() for _, row in rows}
    kept = {item.id: _inputs(folder, item) for item in _items(benchmark, limit, wanted)}
    index = {
        "column": column,
        "methods": {
            method: [
                {
                    "which": which,
                    "item": row.item["id"],
                    "pictures": _pictures(folder, found, row, kept.get(row.item["id"], {})),
                }
                for which, row in rows
            ]
            for method, rows in chosen.items()
        },
    }
    folder.write(INDEX, json.dumps(index, indent=2) + "\n")


def primary(found: Frame) -> str | None:
    """The column that results are chosen by: a judge's, the benchmark's, or the first with a direction."""
    for name, metric in found.settings["metrics"].items():
        if name.endswith(" judge") and (column := metric["columns"][-1]["name"]) in found.columns:
            return str(column)
    wanted = found.settings["benchmark"]["primary"]
    if wanted in found.columns:
        return str(wanted)
    return next((name for name, column in found.columns.items() if column.better != "neither"), None)


def _chosen(found: Frame, method: str, column: str) -> list[tuple[str, Row]]:
    scored = [row for row in found.of(method) if column in row.values and row.picture and row.error is None]
    ranked = sorted(scored, key=lambda row: row.values[column], reverse=found.columns[column].better != LOWER)
    half = min(EACH, len(ranked) // 2)
    worst = ranked[len(ranked) - min(EACH, len(ranked) - half) :]
    return [*(("best", row) for row in ranked[:half]), *(("worst", row) for row in reversed(worst))]


def _items(benchmark: Benchmark, limit: int | None, wanted: Iterable[str]) -> Iterator[Item]:
    left = set(wanted)
    for item in benchmark.items(limit):
        if not left:
            return
        if isinstance(item, Item) and item.id in left:
            left.remove(item.id)
            yield item


def _inputs(folder: RunFolder, item: Item) -> Mapping[str, Any]:
    pictures = {"source": item.source, "answer": item.answer, "mask": item.mask}
    found: dict[str, str] = {}
    for name, stored in pictures.items():
        if stored is not None and (path := _kept(folder, stored, f"{FOLDER}/{item.stem}-{name}.jpg")):
            found[name] = path
    return found


def _pictures(folder: RunFolder, found: Frame, row: Row, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A result's pictures; of a later turn without a source of its own, the result that it edited."""
    session, turn = row.item["session"], row.item["turn"]
    before = [
        each
        for each in found.of(row.method)
        if "source" not in inputs
        and each.picture
        and (each.item["session"], each.item["turn"] + 1) == (session, turn)
    ]
    kept = {"result before": _result(folder, before[0])} if before else {}
    return {**inputs, **kept, "result": _result(folder, row)}


def _result(folder: RunFolder, row: Row) -> str | None:
    stored = StoredPicture(value=Path(row.picture), folder=folder.path, what="result")
    return _kept(folder, stored, f"{FOLDER}/{row.method}/{row.item['stem']}.jpg")


def _kept(folder: RunFolder, stored: StoredPicture, path: str) -> str | None:
    """Keep a small copy; None where the picture cannot be read, which its row says already."""
    try:
        picture = stored.picture()
    except EditkitError:
        return None
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    target = folder.path / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    return path
