"""A report as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from editkit.evaluation.report.frame import Frame
from editkit.evaluation.report.tables import Line, cell, number

MEANS = (
    "Means with 95 % bootstrap intervals over items; turns of one session are drawn together. "
    "Where a mean rests on some of the n results, their number stands beside it."
)
"""Contents of the tables."""
ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}


def text(found: Frame, lines: Sequence[Line]) -> str:
    """The report: what was run, tables, failures, and what figures depend on."""
    return "\n".join(_lines(found, lines)) + "\n"


def _lines(found: Frame, lines: Sequence[Line]) -> Iterator[str]:
    benchmark = found.settings["benchmark"]
    yield f"# {benchmark['title'] or benchmark['name']}"
    yield ""
    yield from summary(found)
    for title, part in parts(lines):
        yield ""
        yield f"## {title}"
        yield ""
        yield from _table(found, part)
    yield ""
    yield MEANS
    if failures := list(failed(found)):
        yield ""
        yield "## Failures"
        yield ""
        yield from (f"- {escaped(sentence)}" for sentence in failures)
    yield ""
    yield "## What the figures depend on"
    yield ""
    yield from (f"- **{name}**: {escaped(told)}" for name, told in depends(found))


def parts(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Lines by what they are of, under a title."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault("All items" if line.part == "all" else line.part.capitalize(), []).append(line)
    return list(found.items())


def summary(found: Frame) -> Iterator[str]:
    """Describe the run in sentences."""
    settings, config = found.settings, found.settings["config"]
    told = [f"{settings['contents']['count']} items", f"seed {config['seed']}"]
    if set(settings["methods"]) - set(settings["results"]):
        told.append(f"backbone {config['backbone']}")
        told.append(f"steps {config['steps'] or 'of each method'}")
    yield f"{', '.join(told)}; editkit {settings['made_with']['editkit']}."
    if note := settings["benchmark"]["note"]:
        yield f"{note}"
    for name, reason in settings["left_out"].items():
        yield f"The metric {name} is left out. {reason}"


def failed(found: Frame) -> Iterator[str]:
    """Failures and problems, counted, with the first of each kind."""
    for method in found.methods:
        rows, unanswered = found.of(method), found.unanswered(method)
        errors = [(row.item["id"], row.error) for row in rows if row.error is not None]
        if errors:
            yield f"{method}: {len(errors)} of {len(rows)} failed; {errors[0][0]}: {errors[0][1]}"
        for metric in found.settings["metrics"]:
            notes = [(row.item["id"], _note(row.notes.get(metric))) for row in rows]
            bad = [(item, note["error"]) for item, note in notes if note.get("error") is not None]
            if bad:
                none = " and so has no mean" if metric in unanswered else ""
                yield f"{method}: {metric} gave no score for {len(bad)}{none}; {bad[0][0]}: {bad[0][1]}"
        yield from _problems(method, found)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for problem in found.problems:
        kinds.setdefault(problem["kind"], []).append(problem)
    for kind, each in kinds.items():
        counted = f"{len(each)} bad row{'s' * (len(each) != 1)}"
        yield f"{counted} of the benchmark ({kind}); the first: {each[0]['sentence']}"


def _problems(method: str, found: Frame) -> Iterator[str]:
    """Questions to a judge without a usable answer, by kind."""
    for metric in found.settings["metrics"]:
        counts: Counter[str] = Counter()
        for row in found.of(method):
            counts.update(_note(row.notes.get(metric)).get("problems") or {})
        if counts:
            told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
            yield f"{method}: questions of {metric} without a usable answer: {told}"


def _note(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


def depends(found: Frame) -> Iterator[tuple[str, str]]:
    """List all that each metric's figures depend on."""
    for name, metric in found.settings["metrics"].items():
        told = "; ".join(f"{key}: {_flat(value)}" for key, value in metric["depends on"].items())
        columns = ", ".join(f"{column['name']} ({column['meaning']})" for column in metric["columns"])
        yield name, f"{columns}. {told}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(each)}" for key, each in value.items())
    return str(value)


def _table(found: Frame, lines: Iterable[Line]) -> Iterator[str]:
    lines = list(lines)
    names = [name for name in found.columns if any(name in line.cells for line in lines)]
    heads = [f"{name}{ARROWS[found.columns[name].better]}" for name in names]
    yield f"| method | n | failed | {' | '.join(heads)} |"
    yield f"|---|--:|--:|{'--:|' * len(heads)}"
    for line in lines:
        cells = [cell(line.cells.get(name), line.n) for name in names]
        yield f"| {line.method} | {line.n} | {line.failed} | {' | '.join(cells)} |"
    for line in lines:
        if line.balanced:
            cells = [number(line.balanced[name]) if name in line.balanced else "" for name in names]
            yield f"| {line.method}, mean of categories | | | {' | '.join(cells)} |"


def escaped(sentence: str) -> str:
    """A sentence on one line that is no Markdown but its own words."""
    return " ".join(sentence.split()).replace("|", "\\|").replace("<", "&lt;")
