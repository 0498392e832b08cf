"""GEdit-Bench: METHOD/fullset/GROUP/LANGUAGE/KEY.png, and a CSV of a judge's scores a group."""

from __future__ import annotations

import csv
from pathlib import Path

from editkit.evaluation.exports import pictures
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder

SEMANTICS, QUALITY = "sc", "pq"
"""Columns of the scoring judge that GEdit calls semantics and quality."""
HEAD = (
    "source_image",
    "edited_image",
    "instruction",
    "sementics_score",
    "quality_score",
    "intersection_exist",
    "instruction_language",
)
"""Columns of its CSV, spelt as there."""


def write(found: Frame, folder: RunFolder, out: Path, place: Path) -> list[str]:
    """Write pictures and, where a judge has scored, CSVs."""
    notes = []
    for method in found.methods:
        rows = found.of(method)
        copied = {
            item: place / path.relative_to(out)
            for item, path in pictures.copy(folder, rows, out / method).items()
        }
        scored = [row for row in rows if SEMANTICS in row.values and QUALITY in row.values]
        if not scored:
            notes.append(f"{method} has no scores of a judge ({SEMANTICS}, {QUALITY}), so no CSV is written.")
            continue
        groups: dict[tuple[str | bool, ...], list[Row]] = {}
        for row in scored:
            names = ("task_type", "instruction_language")
            groups.setdefault(tuple(row.item_field(name) for name in names), []).append(row)
        for (group, language), members in groups.items():
            _csv(out / f"{method}_{group}_{language}_vie_score.csv", members, copied)
    return notes


def _csv(path: Path, rows: list[Row], copied: dict[str, Path]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        for row in rows:
            edited = copied.get(row.item["id"], "")
            writer.writerow(
                {
                    "source_image": str(edited).replace(".png", "_SRCIMG.png"),
                    "edited_image": edited,
                    "instruction": row.item["instruction"],
                    "sementics_score": row.values[SEMANTICS],
                    "quality_score": row.values[QUALITY],
                    "intersection_exist": row.item_field("Intersection_exist"),
                    "instruction_language": row.item_field("instruction_language"),
                }
            )
