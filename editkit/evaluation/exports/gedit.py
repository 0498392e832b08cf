"""GEdit-Bench: METHOD/fullset/GROUP/LANGUAGE/KEY.png, KEY_SRCIMG.png, and a CSV of a judge's scores a group.

GEdit's own scoring script leaves out a result whose source does not lie beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.exports import pictures
from editkit.evaluation.records import Item
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder
from editkit.imaging import images

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
    results = {method: pictures.copy(folder, found.of(method), out / method) for method in found.methods}
    notes = _sources(found, [result for copied in results.values() for result in copied.items()])
    for method in found.methods:
        rows = found.of(method)
        copied = {item: place / path.relative_to(out) for item, path in results[method].items()}
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


def _sources(found: Frame, results: Sequence[tuple[str, Path]]) -> list[str]:
    """Write the source of each result beside it; return a note where one cannot be read."""
    config = found.settings["config"]
    wanted = {item for item, _ in results}
    try:
        for item in open_benchmark(config["benchmark"], config["data"]).items(config["limit"]):
            if not isinstance(item, Item) or item.id not in wanted or item.source is None:
                continue
            picture = item.source.picture()
            for path in (path for name, path in results if name == item.id):
                images.save(picture, _source_path(path))
            wanted.remove(item.id)
    except EditkitError as error:
        problem = str(error).partition(";")[0]
        return [
            f"{len(wanted)} items have no _SRCIMG.png, which GEdit's own script needs, as their sources "
            f"cannot be read ({problem}); put the data back and export again."
        ]
    return []


def _source_path(result: Path) -> Path:
    return result.with_name(f"{result.stem}_SRCIMG.png")


def _csv(path: Path, rows: list[Row], copied: dict[str, Path]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        for row in rows:
            edited = copied.get(row.item["id"])
            writer.writerow(
                {
                    "source_image": "" if edited is None else _source_path(edited),
                    "edited_image": "" if edited is None else edited,
                    "instruction": row.item["instruction"],
                    "sementics_score": row.values[SEMANTICS],
                    "quality_score": row.values[QUALITY],
                    "intersection_exist": row.item_field("Intersection_exist"),
                    "instruction_language": row.item_field("instruction_language"),
                }
            )
