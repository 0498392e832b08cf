"""MagicBrush: METHOD/SESSION/SESSION_1.png and so on, and one JSON of final turns and all turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from editkit.evaluation.exports import pictures
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder

COLUMNS = {"l1": "l1", "l2": "l2", "clip-i": "clip_i", "dino": "dino", "clip-t": "clip_t"}
"""Its names of figures, and editkit's columns."""


def write(found: Frame, folder: RunFolder, out: Path, place: Path) -> list[str]:
    """Write pictures and means; a figure whose metric was left out is absent."""
    notes = []
    for method in found.methods:
        rows = found.of(method)
        pictures.copy(folder, rows, out / method)
        chained = any("_iter_" in row.item["published"] for row in rows)
        part, counted = "all_turn", rows
        if chained:
            part, counted = "final_turn", [row for row in rows if row.item["last"]]
        means = {part: _means(counted)}
        path = out / f"{method}_evaluated_metrics.json"
        path.write_text(json.dumps(means, indent=4) + "\n", encoding="utf-8")
        if failures := sum(row.error is not None for row in counted):
            notes.append(
                f"{method} failed for {failures} of {len(counted)} results, which its means leave out."
            )
        absent = [name for name in COLUMNS if name not in means[part]]
        if absent:
            notes.append(f"{method} has no {', '.join(absent)}, as their metrics were left out.")
    return notes


def _means(rows: Sequence[Row]) -> dict[str, float]:
    found = {}
    for name, column in COLUMNS.items():
        values = [row.values[column] for row in rows if column in row.values]
        if values:
            found[name] = sum(values) / len(values)
    return found
