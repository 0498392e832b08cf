"""Write a report's files: HTML, Markdown, parquet, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.evaluation.report import frame, markdown, page, tables
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder

ABOUT = ("method", "item", "category", "session", "turn", "last", "instruction", "error")


def write(path: str | Path) -> list[Path]:
    """Write all files of a run's report into its folder, and return their paths.

    Raises:
        EditkitError: where the folder holds no run, a package is missing, or the disk refuses.
    """
    folder = RunFolder(path)
    found = frame.read_frame(folder)
    if not found.rows:
        raise EditkitError(f"The run in {path} has no results yet; run it first.")
    lines = tables.lines(found)
    summary = {"settings": found.settings, "lines": tables.plain(found), "problems": found.problems}
    made = [
        folder.write("report.html", page.html(folder, found, lines)),
        folder.write("report.md", markdown.text(found, lines)),
        folder.write("report.json", json.dumps(summary, indent=2) + "\n"),
        folder.write("scores.csv", _csv(found)),
        folder.write("scores.json", json.dumps([_record(row) for row in found.rows], indent=1) + "\n"),
    ]
    return [*made, _parquet(folder, found)]


def _record(row: Row) -> dict[str, Any]:
    return {**_about(row), "values": row.values, "notes": row.notes, "picture": row.picture}


def _about(row: Row) -> dict[str, Any]:
    told = {name: row.item.get(name) for name in ABOUT}
    return {**told, "method": row.method, "item": row.item["id"], "error": row.error}


def _csv(found: Frame) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*ABOUT, *found.columns], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**_about(row), **row.values} for row in found.rows)
    return buffer.getvalue()


def _parquet(folder: RunFolder, found: Frame) -> Path:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise EditkitError("scores.parquet needs a package: pip install 'editkit[eval]'.") from error
    rows = [_about(row) for row in found.rows]
    types = {"turn": pa.int64(), "last": pa.bool_()}
    columns = {name: pa.array([row[name] for row in rows], types.get(name, pa.string())) for name in ABOUT}
    for name in found.columns:
        columns[name] = pa.array([row.values.get(name) for row in found.rows], pa.float64())
    columns["notes"] = pa.array([json.dumps(row.notes) for row in found.rows], pa.string())
    path = folder.path / "scores.parquet"
    with atomic_files.whole(path) as file:
        parquet.write_table(pa.table(columns), file)
    return path
