"""Plot success over operations: a panel for each method, a colour for what is saved, a mark for the steps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed_edits import Technique
from benchmarks.speed_figures import Figures
from editkit.evaluation.report.plots import COLOURS, MARKS
from editkit.evaluation.report.statistics import estimate

KINDS = ("nothing", "context", "all outside the region", "blocks", "cached context")
"""What a technique saves beside steps, in the order of the colours."""
DISTILLED = "nothing, distilled"
"""The kind of a distilled adapter without another technique."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A technique's place in the plot.

    Attributes:
        kind: what it saves beside steps.
        steps: number of its steps.
        operations: its operations relative to the full edit's.
        successes: 1 for each edit that succeeded, else 0.
    """

    kind: str
    steps: int
    operations: float
    successes: tuple[float, ...]


def point(technique: Technique, steps: int, found: Figures) -> Point:
    """Return the place of a technique's figures; `steps` are those of the full edit."""
    return Point(
        kind=kind(technique),
        steps=technique.taken(steps),
        operations=1 / found.saves,
        successes=found.successes,
    )


def kind(technique: Technique) -> str:
    """Tell what a technique saves beside steps."""
    nothing, context, region, blocks, cached = KINDS
    marks = {"context=cached": cached, "cache=": blocks, "region=false": context, "full_steps": region}
    found = next((name for mark, name in marks.items() if mark in technique.speed), nothing)
    return DISTILLED if technique.adapter and found == nothing else found


def plot(by_method: Mapping[str, Sequence[Point]]) -> bytes:
    """Draw each method's points with 95 % intervals; a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    points = [each for own in by_method.values() for each in own]
    colours = dict(zip((*KINDS, DISTILLED), ("black", *COLOURS), strict=False))
    marks = dict(zip(sorted({each.steps for each in points}, reverse=True), MARKS, strict=False))
    figure = Figure(figsize=(3.9 * len(by_method), 5.2), layout="constrained")
    panels: Any = figure.subplots(1, len(by_method), squeeze=False, sharey=True)[0]
    for axes, (method, own) in zip(panels, by_method.items(), strict=True):
        for each in own:
            _draw(axes, each, colours[each.kind], marks[each.steps])
        axes.set_title(f"{method}, {len(own[0].successes)} edits")
        axes.set_xlabel("operations, relative to the full edit")
        axes.set_xlim(0, 1.05)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("success, with 95 % interval")
    seen = {each.kind for each in points}
    handles = [
        Line2D([], [], color=colour, lw=4, label=name) for name, colour in colours.items() if name in seen
    ]
    figure.legend(handles=handles, title="saves beside steps", loc="outside lower left", ncols=3)
    handles = [
        Line2D([], [], color="black", ls="none", marker=mark, label=str(steps))
        for steps, mark in marks.items()
    ]
    figure.legend(handles=handles, title="steps", loc="outside lower right", ncols=len(marks))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()


def _draw(axes: Any, drawn: Point, colour: str, mark: str) -> None:
    interval = estimate(drawn.successes)
    height = [[interval.mean - interval.low], [interval.high - interval.mean]]
    axes.errorbar([drawn.operations], [interval.mean], yerr=height, color=colour, alpha=0.3, linestyle="none")
    axes.plot([drawn.operations], [interval.mean], color=colour, marker=mark, markersize=6, alpha=0.8)
