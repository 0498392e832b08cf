"""A run's results as rows, from its folder alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.metrics.base import Column
from editkit.evaluation.report.statistics import Estimate, estimate
from editkit.evaluation.run_folder import RunFolder, settled


@dataclass(kw_only=True, slots=True)
class Row:
    """One result.

    Attributes:
        method: who made it.
        item: what the run's folder tells of the item.
        error: why there is no picture or no score.
        values: figures by column, what a failure counts included.
        notes: what metrics say beside their figures, by metric.
        picture: where the result is.
        scored_by: metrics that gave it a score or an error.
        asked_by: metrics whose conditional figures its item asks for, as far as failures told.
    """

    method: str
    item: Mapping[str, Any]
    error: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    picture: str = ""
    scored_by: set[str] = field(default_factory=set)
    asked_by: set[str] = field(default_factory=set)

    def item_field(self, name: str) -> str | bool:
        """Return what the benchmark says of the item under a name of its own.

        Raises:
            EditkitError: where the run's folder does not tell.
        """
        found = self.item["fields"].get(name)
        if not isinstance(found, (str, bool)):
            raise EditkitError(
                f"The item {self.item['id']} has no {name} in the run's items.jsonl; run it again first."
            )
        return found


@dataclass(kw_only=True)
class Frame:
    """All results of a run, in the benchmark's order, method by method.

    Attributes:
        settings: what was run.
        rows: the results.
        problems: bad rows of the benchmark.
    """

    settings: Mapping[str, Any]
    rows: list[Row]
    problems: list[dict[str, Any]]

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The columns that have any figure, by name."""
        found = {
            column["name"]: _column(column)
            for metric in self.settings["metrics"].values()
            for column in metric["columns"]
        }
        used = {name for row in self.rows for name in row.values}
        return {name: column for name, column in found.items() if name in used}

    @cached_property
    def methods(self) -> list[str]:
        """Methods in the order of the run."""
        return [name for name in self.settings["methods"] if any(row.method == name for row in self.rows)]

    @cached_property
    def categories(self) -> list[str]:
        """Categories in the benchmark's order."""
        return list(dict.fromkeys(row.item["category"] for row in self.rows if row.item["category"]))

    @cached_property
    def turns(self) -> list[int]:
        """Numbers of turns, where any item is a later one."""
        found = sorted({row.item["turn"] for row in self.rows})
        return found if len(found) > 1 else []

    def of(self, method: str) -> list[Row]:
        """A method's results."""
        return [row for row in self.rows if row.method == method]

    def failures(self, method: str) -> int:
        """Results of a method without picture or score."""
        return sum(row.error is not None for row in self.of(method))

    def unanswered(self, method: str) -> list[str]:
        """Metrics that gave errors for a method's results, and no figure for any of them."""
        return [
            name
            for name, told in self.settings["metrics"].items()
            if all(_silent(self.of(method), name, column["name"]) for column in told["columns"])
        ]


def _column(told: Mapping[str, Any]) -> Column:
    """A column as the run's settings tell it; what other versions do not tell is the default."""
    names = [each.name for each in fields(Column)]
    return Column(**{name: told[name] for name in names if told.get(name) is not None})


def read_frame(folder: RunFolder) -> Frame:
    """Read a run's folder.

    Raises:
        EditkitError: where it is none.
    """
    settings = folder.settings
    items = {item["id"]: item for item in folder.items()}
    rows = {
        key: Row(method=edit.method, item=items[edit.item], error=edit.error, picture=edit.picture)
        for key, edit in folder.edits().items()
        if edit.item in items
    }
    _add_scores(rows, folder.scores())
    order = {identity: place for place, identity in enumerate(items)}
    methods = {name: place for place, name in enumerate(settings["methods"])}
    found = sorted(rows.values(), key=lambda row: (methods.get(row.method, 0), order[row.item["id"]]))
    _count_failures(found, settings["metrics"])
    return Frame(settings=settings, rows=found, problems=list(folder.problems()))


def _add_scores(rows: Mapping[tuple[str, str], Row], lines: Iterable[Mapping[str, Any]]) -> None:
    """Add logged scores. A failure stands until each metric that it kept off has scored the result.

    Lines of one result may be in the logs of several processes, which tell nothing of their order: one that
    asks for another try is older than one that does not.
    """
    failures: list[tuple[Row, Mapping[str, Any]]] = []
    scored: dict[tuple[str, str], set[str]] = {key: set() for key in rows}
    kept: dict[tuple[str, str], set[str]] = {key: set() for key in rows}
    for line in lines:
        key = (line["method"], line["item"])
        row = rows.get(key)
        if row is None:
            continue
        row.asked_by.update(line.get("asked") or ())
        if line.get("error") is not None:
            failures.append((row, line))
        finals = settled(line.get("scores") or {})
        for metric, scores in (line.get("scores") or {}).items():
            row.scored_by.add(metric)
            error = scores.get("error")
            final = metric in finals
            if not final and metric in (kept if error is None else scored)[key]:
                continue
            if error is None:
                scored[key].add(metric)
            if final:
                kept[key].add(metric)
            row.values.update(scores["values"])
            row.notes.pop(metric, None)
            if told := scores.get("notes") or ({} if error is None else {"error": error}):
                row.notes[metric] = told
    for row, line in failures:
        if not scored[line["method"], line["item"]].issuperset(line.get("metrics") or ()):
            row.error = line["error"]


def _silent(rows: Sequence[Row], metric: str, column: str) -> bool:
    """Whether a metric failed on a method's results, and none of them has its figure."""
    made = [row for row in rows if row.error is None]
    failed = any("error" in (row.notes.get(metric) or {}) for row in made)
    return failed and not any(column in row.values for row in made)


def _count_failures(rows: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Give results without a picture what their failure counts, where the question applies to their item.

    Not in a column whose metric failed on all of the method's pictures, as a judge out of reach does, since
    failures alone would make its mean.
    """
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    columns = [(metric, column) for metric, told in metrics.items() for column in told["columns"]]
    for metric, column in columns:
        if column.get("failed") is None:
            continue
        name = column["name"]
        asked = {row.item["id"] for row in rows if name in row.values or metric in row.asked_by}
        always = column.get("always")
        if always is None:  # older runs do not tell
            always = not asked
        silent = {method for method, own in methods.items() if _silent(own, metric, name)}
        for row in rows:
            if row.error is None or row.method in silent:
                continue
            if always or row.item["id"] in asked:
                row.values[name] = column["failed"]


def mean(rows: Sequence[Row], column: str) -> Estimate | None:
    """A column's mean over results, turns of a session drawn together; None where there are no figures."""
    found = [row for row in rows if column in row.values]
    if not found:
        return None
    groups = [row.item["session"] or row.item["id"] for row in found]
    return estimate([row.values[column] for row in found], groups)
