"""ImgEdit-Bench: METHOD/KEY.png, and JSON of a judge's replies and their averages."""

from __future__ import annotations

import json
from pathlib import Path

from editkit.evaluation.exports import pictures
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder

METRIC, AVERAGE = "imgedit judge", "imgedit"
"""The scoring judge under ImgEdit's rubric: its name, and the column of its average."""


def write(found: Frame, folder: RunFolder, out: Path, place: Path) -> list[str]:
    """Write pictures and, where a judge has scored, its replies and averages by key."""
    notes = []
    for method in found.methods:
        rows = found.of(method)
        pictures.copy(folder, rows, out / method)
        scored = [row for row in rows if AVERAGE in row.values]
        if not scored:
            notes.append(f"{method} has no scores of a judge under ImgEdit's rubric, so no JSON is written.")
            continue
        replies = {_key(row): row.notes.get(METRIC, {}).get("reply", "") for row in scored}
        averages = {_key(row): row.values[AVERAGE] for row in scored}
        (out / method / "result.json").write_text(json.dumps(replies, indent=4), encoding="utf-8")
        (out / method / "average_score.json").write_text(json.dumps(averages, indent=2), encoding="utf-8")
    return notes


def _key(row: Row) -> str:
    """The published name of a result without its suffix; turns of one session share the edit's key."""
    return str(row.item["published"]).removesuffix(".png")
