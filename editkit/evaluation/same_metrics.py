"""Check that figures of one name were measured alike in two runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from editkit.errors import EditkitError
from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame
from editkit.evaluation.run_folder import RunFolder

VERSIONS = ("library", "ssim")
"""Keys that hold only a version of software: figures of two versions are compared, with a note."""
LONGEST = 60
"""Largest number of letters of a value in a sentence."""


class Change(NamedTuple):
    """One thing that a metric depends on, and that differs between the runs."""

    metric: str
    columns: tuple[str, ...]
    key: str
    first: Any
    second: Any


def check(first: str | Path, second: str | Path, before: Frame, after: Frame, asked: Sequence[str]) -> None:
    """Check that the asked columns come from the same models, preprocessing, rubrics, and so on.

    Raises:
        EditkitError: where they do not, so that their difference would tell of these and not of the results.
    """
    for change in changes(before, after, asked):
        if change.key not in VERSIONS:
            raise EditkitError(
                f"{', '.join(change.columns)} cannot be compared, since {change.metric} has another "
                f"{change.key}: {_short(change.first)} in {first}, {_short(change.second)} in {second}; "
                "score both runs in the same way, or leave these figures out of --columns."
            )


def version_notes(first: str | Path, second: str | Path, asked: Sequence[str]) -> Iterator[str]:
    """Say which of these columns come from two versions of software, without a full stop.

    Raises:
        EditkitError: where a folder holds no run.
    """
    before, after = (frame.read_frame(RunFolder(path)) for path in (first, second))
    for change in changes(before, after, asked):
        if change.key in VERSIONS:
            yield (
                f"{', '.join(change.columns)} come from two versions: {_short(change.first)} and "
                f"{_short(change.second)}"
            )


def changes(before: Frame, after: Frame, asked: Sequence[str]) -> Iterator[Change]:
    """Yield each thing that the metrics of the asked columns depend on and that differs between the runs."""
    for metric, old in before.settings["metrics"].items():
        new = after.settings["metrics"].get(metric)
        names = tuple(column["name"] for column in old["columns"] if column["name"] in asked)
        if new is None or not names:
            continue
        first, second = old["depends on"], new["depends on"]
        for key in {**first, **second}:
            if first.get(key) != second.get(key):
                yield Change(metric, names, key, first.get(key), second.get(key))


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
