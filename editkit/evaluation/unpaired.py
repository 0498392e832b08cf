"""Items of two runs that cannot be compared: in one run alone, with another edit, or without a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit.evaluation.comparison import method_pairs
from editkit.evaluation.metrics.cost import Cost
from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder


def sentences(
    first: str | Path, second: str | Path, methods: Sequence[str] = (), columns: Sequence[str] = ()
) -> list[str]:
    """Say what not both runs have, and what to do; without a full stop, and empty where nothing is missing.

    Raises:
        EditkitError: as `lacking` and `unscored`, which explain the arguments.
    """
    return [
        *(
            f"{told}; run both on the same items"
            for told in [*lacking(first, second), *changed(first, second)]
        ),
        *(f"{told}; run again what failed" for told in unscored(first, second, methods, columns)),
    ]


def lacking(first: str | Path, second: str | Path) -> list[str]:
    """Say what each run lacks of the other's items, without a full stop; empty where both have the same.

    Raises:
        EditkitError: where the items of a run cannot be read.
    """
    names = {str(path): {item["id"]: None for item in RunFolder(path).items()} for path in (first, second)}
    told = []
    for path, other in ((str(first), str(second)), (str(second), str(first))):
        if missing := [identity for identity in names[other] if identity not in names[path]]:
            told.append(
                f"The run in {path} lacks {len(missing)} of the {len(names[other])} items of {other}, "
                f"such as {missing[0]!r}"
            )
    return told


def changed(first: str | Path, second: str | Path) -> list[str]:
    """Say how many items of one id ask for another edit in the second run; empty where none does.

    Raises:
        EditkitError: where the items of a run cannot be read.
    """
    before, after = ({item["id"]: item for item in RunFolder(path).items()} for path in (first, second))
    shared = [identity for identity in before if identity in after]
    others = [identity for identity in shared if _asks_otherwise(before[identity], after[identity])]
    if not others:
        return []
    return [
        f"{len(others)} of the {len(shared)} items that both runs have ask for another edit in {second} than "
        f"in {first}, such as {others[0]!r}"
    ]


def _asks_otherwise(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether words or pictures differ, or one edits the result before; older runs tell the words alone."""
    chained = {bool(item["chained"]) for item in (old, new) if "chained" in item}
    first, second = old.get("pictures") or {}, new.get("pictures") or {}
    pictures = any(first[name] != second[name] for name in first.keys() & second.keys())
    return old["instruction"] != new["instruction"] or len(chained) > 1 or pictures


def unscored(
    first: str | Path, second: str | Path, methods: Sequence[str] = (), columns: Sequence[str] = ()
) -> list[str]:
    """Say which figures too few items have in both runs, without a full stop.

    One result without a score of a metric is told, as no other figure counts it. Results without a picture
    are counted by `failed`, and told where they leave less than half of the items.

    Args:
        first: folder of the run that is compared with.
        second: folder of the run in question.
        methods: as `comparison.compare` takes them.
        columns: figures; all but costs where empty.

    Raises:
        EditkitError: where a folder holds no run, or a method is not there.
    """
    before, after = (frame.read_frame(RunFolder(path)) for path in (first, second))
    metrics = {**_metrics(before), **_metrics(after)}
    costs = {column.name for column in Cost.columns}
    names = [name for name in columns or metrics if name in metrics and (columns or name not in costs)]
    return [
        f"{name} of {old if old == new else f'{old} -> {new}'} {sentence}"
        for old, new in method_pairs(before, after, methods)
        for name in names
        if (sentence := _gap(before.of(old), after.of(new), name, metrics[name])) is not None
    ]


def _metrics(found: Frame) -> dict[str, str]:
    """The metric of each column."""
    return {
        column["name"]: metric
        for metric, told in found.settings["metrics"].items()
        for column in told["columns"]
    }


def _gap(before: Sequence[Row], after: Sequence[Row], column: str, metric: str) -> str | None:
    second = {row.item["id"]: row for row in after}
    pairs = [(row, second[row.item["id"]]) for row in before if row.item["id"] in second]
    apart = [[row for row in pair if column not in row.values] for pair in pairs]
    silent = sum(any(_note(row, metric).get("error") is not None for row in rows) for rows in apart)
    lost = sum(
        any(row.error is not None or _note(row, metric).get("error") for row in rows) for rows in apart
    )
    if not silent and 2 * lost <= len(pairs):
        return None
    rest = sum(not rows for rows in apart)
    return f"rests on {rest} of {len(pairs)} items, since {lost} lack a score in one run or both"


def _note(row: Row, metric: str) -> Mapping[str, object]:
    note = row.notes.get(metric)
    return note if isinstance(note, dict) else {}
