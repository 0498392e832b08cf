"""List the tables of docs/tiny.md and the README: their commands, and which figures go where."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.page_tables import Figures, PageTable
from benchmarks.table_sources import run, share
from editkit.evaluation.report.statistics import Estimate

SCORES = ("success", "sharp")
BOTH = " / ".join(SCORES)
ADAPTERS = ("LoRA-MoE", "LoRA", "none")
MODELS = ("LoRAs", "no adapter", "full model")
TASKS = {
    "local editing": "local editing under a mask",
    "repainting": "repainting under a mask from a description",
    "instruction": "free instruction, no mask",
    "instruction beside": "the same, the picture as a reference",
    "diptych": "the same, under ICEdit's prompt",
    "recolouring": "recolouring from gray",
    "mosaic": "from a mosaic",
    "character": "character from a reference",
    "style": "style from a reference",
    "local reference": "reference's thing into a masked slot",
}
"""Rows of ACE++'s table by the names of `editkit eval masked`."""
ON_SCENE = ("local", "global", "text")
"""Columns of ICEdit's table, which takes no references."""
DRIFT = "drift of pixels that no turn should have changed"


@dataclass(frozen=True, kw_only=True)
class PageSource:
    """The command that measures figures of a page's tables.

    Attributes:
        commands: what is run for so many examples, as the page tells it; without the folder of results.
        read: makes the tables of the commands' reports, in their order.
        n: number of examples unless told otherwise.
    """

    commands: Callable[[int], list[str]]
    read: Callable[[Sequence[Mapping[str, Any]]], list[PageTable]]
    n: int

    def make(self, folder: Path, n: int) -> list[PageTable]:
        """Run the commands, and read their reports."""
        reports = []
        for number, command in enumerate(self.commands(n)):
            out = folder / str(number)
            run(f"{command} -o {out}")
            reports.append(json.loads((out / "report.json").read_text()))
        return self.read(reports)


def kontext(reports: Sequence[Mapping[str, Any]]) -> list[PageTable]:
    """Success by category and kind, compound edits, sessions, and drift by turn."""
    (report,) = reports
    sessions = report["sessions"]
    more = {"two or three edits at once": report["compound"], "five turns in a row": sessions}
    categories = {"overall": report["overall"], **report["categories"], **more}
    turns = zip(sessions["drift"], sessions["drift_error"], strict=True)
    drift = {str(turn): (_standard(*each, sessions["n"]),) for turn, each in enumerate(turns, 1)}
    return [
        _by_score("category", categories),
        _by_score("kind", report["kinds"]),
        PageTable(first="turn", rows={DRIFT: drift}),
    ]


def icedit(reports: Sequence[Mapping[str, Any]]) -> list[PageTable]:
    """Success and sharpness by adapter and category."""
    rows: dict[str, dict[str, Figures]] = {}
    for name, report in zip(ADAPTERS, reports, strict=True):
        parts = {"all": report["overall"], **{part: report["categories"][part] for part in ON_SCENE}}
        rows[name] = {part: _shares(row) for part, row in parts.items() if row["n"]}
    return [PageTable(first="adapter", rows=rows, examples=dict.fromkeys(rows, reports[0]["n"]))]


def aceplus(reports: Sequence[Mapping[str, Any]]) -> list[PageTable]:
    """Success and sharpness by task and model; of local editing, by kind."""
    rows: dict[str, dict[str, Figures]] = {row: {} for row in TASKS.values()}
    for model, report in zip(MODELS, reports, strict=True):
        for name, row in report["kinds"].items():
            rows[TASKS[name]][model] = _shares(row)
    kinds = reports[0]["kinds"]["local editing"]["kinds"]
    return [
        PageTable(first="task", rows=rows),
        PageTable(first="local editing", rows={BOTH: {kind: _shares(row) for kind, row in kinds.items()}}),
    ]


def _by_score(first: str, rows: Mapping[str, Mapping[str, Any]]) -> PageTable:
    found = {name: row for name, row in rows.items() if row["n"]}
    return PageTable(
        first=first,
        rows={
            name: {score: (share(row[score], row["n"]),) for score in SCORES} for name, row in found.items()
        },
        examples={name: row["n"] for name, row in found.items()},
    )


def _shares(row: Mapping[str, Any]) -> Figures:
    return tuple(share(row[score], row["n"]) for score in SCORES)


def _standard(mean: float, error: float, n: int) -> Estimate:
    return Estimate(mean=mean, low=mean - 2 * error, high=mean + 2 * error, n=n)


def _kontext_commands(n: int) -> list[str]:
    return [f"editkit eval shapesworld --n {n} --sessions {max(2, n // 8)} --compound {max(2, n // 8)}"]


def _icedit_commands(n: int) -> list[str]:
    command = f"editkit eval shapesworld -m icedit --n {n}"
    return [command, f"{command} --option adapter=lora", f"{command} --option adapter=null"]


def _aceplus_commands(n: int) -> list[str]:
    command = "editkit eval masked -m aceplus"
    return [
        f"{command} --n {n}",
        f"{command} --n {n} --option adapter=null",
        f"{command} --n {2 * n // 3} --option model=full --option reference=height",
    ]


PAGE_SOURCES: Mapping[str, PageSource] = {
    "kontext": PageSource(commands=_kontext_commands, read=kontext, n=400),
    "icedit": PageSource(commands=_icedit_commands, read=icedit, n=200),
    "aceplus": PageSource(commands=_aceplus_commands, read=aceplus, n=60),
}
