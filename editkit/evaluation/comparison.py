"""Compare two runs item by item, and say whether there were enough items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation import same_metrics
from editkit.evaluation.metrics.base import LOWER, NEITHER, Column
from editkit.evaluation.metrics.cost import Cost
from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.report.statistics import FEWEST, Estimate, estimate, needed
from editkit.evaluation.run_folder import RunFolder

FAILED = Column(name="failed", better=LOWER, meaning="results without picture or score")
"""The share of items that failed, which no metric measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One column of one method, the second run less the first.

    Attributes:
        method: of both runs, or `A -> B` where they differ.
        column: the figure.
        first: its mean in the first run, over the shared items.
        second: its mean in the second run.
        change: the paired difference with its interval.
        of: items that both runs have a result or a failure of; `change.n` of them have the figure in both.
        needed: items that a difference of this size needs at 80 % power; infinite for none.
        verdict: `better`, `worse`, `differs` for a column without a direction, or `unclear`, as all are of
            fewer than `FEWEST` items or sessions.
        judged: whether a loss of it is a regression. A cost is judged only where it was asked for: the same
            edits take other times and memory when they run again.
    """

    method: str
    column: str
    first: float
    second: float
    change: Estimate
    of: int
    needed: float
    verdict: str
    judged: bool = True

    @property
    def enough(self) -> bool:
        """Whether there were enough items for a difference of this size."""
        return self.change.n >= self.needed


def compare(
    first: str | Path, second: str | Path, methods: Sequence[str] = (), columns: Sequence[str] = ()
) -> list[Difference]:
    """Pair the results of two runs by item.

    Args:
        first: folder of the run that is compared with.
        second: folder of the run in question.
        methods: `A` for one that is in both, or `A=B` for two; where empty, all that are in both, or the only
            ones of each run.
        columns: figures; all that both have where empty. Failures are compared wherever there are any. Costs
            are judged only where they are named here.

    Raises:
        EditkitError: where a folder holds no run or half a run, they share no items, methods or columns, or
            a column was not measured alike.
    """
    before, after = (frame.read_frame(RunFolder(path)) for path in (first, second))
    pairs = list(dict.fromkeys(method_pairs(before, after, methods)))
    for old, new in pairs:
        _check_finished(first, before, old)
        _check_finished(second, after, new)
        _check_answered(first, before, old, after.of(new), columns)
        _check_answered(second, after, new, before.of(old), columns)
    shared = {name: column for name, column in before.columns.items() if name in after.columns}
    known = {**shared, FAILED.name: FAILED}
    if unknown := [name for name in columns if name not in known]:
        raise EditkitError(f"Not both runs have the column {unknown[0]!r}; they share {', '.join(known)}.")
    asked = [known[name] for name in dict.fromkeys(columns or shared)]
    same_metrics.check(first, second, before, after, [column.name for column in asked])
    if FAILED not in asked and any(before.failures(old) or after.failures(new) for old, new in pairs):
        asked.append(FAILED)
    costs = {column.name for column in Cost.columns} - set(columns)
    found = [
        replace(difference, judged=column.name not in costs)
        for old, new in pairs
        for column in asked
        if (difference := _difference(before, after, old, new, column)) is not None
    ]
    if not found:
        raise EditkitError("The runs share no scored items; compare runs of one benchmark.")
    return found


def method_pairs(before: Frame, after: Frame, methods: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair the methods of two runs, as `compare` takes them.

    Raises:
        EditkitError: where a method is not there, or the runs share none.
    """
    if not methods:
        both = [name for name in before.methods if name in after.methods]
        alone = len(before.methods) == len(after.methods) == 1
        if not both and not alone:
            raise EditkitError(
                f"The runs share no method: {', '.join(before.methods)} and {', '.join(after.methods)}; give "
                "--method A=B."
            )
        yield from [(name, name) for name in both] or [(before.methods[0], after.methods[0])]
    for method in methods:
        old, _, new = method.partition("=")
        for name, side in ((old, before), (new or old, after)):
            if name not in side.methods:
                raise EditkitError(
                    f"There is no method {name!r} in the run; it has {', '.join(side.methods)}."
                )
        yield old, new or old


def _check_finished(path: str | Path, found: Frame, method: str) -> None:
    """Check that a method has a failure, or a result and what each metric says of it, for each item.

    Raises:
        EditkitError: where some are not there yet.
    """
    rows, count = found.of(method), found.settings["contents"]["count"]
    there = {"results": len(rows)}
    for metric in found.settings["metrics"]:
        there[f"scores of {metric}"] = sum(row.error is not None or metric in row.scored_by for row in rows)
    for what, of_them in there.items():
        if of_them < count:
            raise EditkitError(
                f"The run in {path} is not finished: {method} has {of_them} of {count} {what}; "
                "run it again first."
            )


def _check_answered(
    path: str | Path, found: Frame, method: str, other: Sequence[Row], asked: Sequence[str]
) -> None:
    """Check that no asked metric is silent that has figures in the other run, as of a judge out of reach.

    Raises:
        EditkitError: where one did, so that its loss would not be seen.
    """
    for metric in found.unanswered(method):
        names = [column["name"] for column in found.settings["metrics"][metric]["columns"]]
        names = [name for name in names if not asked or name in asked]
        if any(name in row.values for row in other for name in names):
            raise EditkitError(
                f"The run in {path} has no score of {metric} for any result of {method}; run it again, or "
                "leave its figures out of --columns."
            )


def _difference(before: Frame, after: Frame, old: str, new: str, column: Column) -> Difference | None:
    def scored(rows: Sequence[Row]) -> dict[str, float]:
        if column is FAILED:
            return {row.item["id"]: float(row.error is not None) for row in rows}
        return {row.item["id"]: row.values[column.name] for row in rows if column.name in row.values}

    first, second = scored(before.of(old)), scored(after.of(new))
    sessions = {row.item["id"]: row.item["session"] for row in before.of(old)}
    shared = [identity for identity in first if identity in second]
    if not shared:
        return None
    values = [(first[identity], second[identity]) for identity in shared]
    changes = [b - a for a, b in values]
    groups = [sessions[identity] or identity for identity in shared]
    change = estimate(changes, groups)
    return Difference(
        method=old if old == new else f"{old} -> {new}",
        column=column.name,
        first=math.fsum(a for a, _ in values) / len(values),
        second=math.fsum(b for _, b in values) / len(values),
        change=change,
        of=len(sessions.keys() & {row.item["id"] for row in after.of(new)}),
        needed=needed(changes, groups),
        verdict=_verdict(change, len(set(groups)), column),
    )


def _verdict(change: Estimate, groups: int, column: Column) -> str:
    if groups < FEWEST or change.low <= 0 <= change.high:
        return "unclear"
    if column.better == NEITHER:
        return "differs"
    return "better" if (change.mean < 0) == (column.better == LOWER) else "worse"


def regressions(differences: Sequence[Difference], tolerance: float = 0.0) -> list[Difference]:
    """Return those that are judged, and surely worse by more than a share of the first run's mean."""
    return [
        each
        for each in differences
        if each.judged
        and each.verdict == "worse"
        and min(abs(each.change.low), abs(each.change.high)) > tolerance * abs(each.first)
    ]
