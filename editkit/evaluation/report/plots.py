"""Plots of a report, as SVG that takes the page's text colour: cost against quality, and drift per turn."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.report import frame, gallery
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.report.statistics import Estimate

COST = "seconds"
DRIFT = ("outside_answer", "l1", "outside", "overall")
"""Columns that tell drift, the most telling ones first; those against a true answer add up over turns."""
PANELS = 2
ASIDE = 0.05
"""Shift of each further method along the turns, so that intervals do not cover each other."""
MARGIN = 0.15
"""Space before the first turn and after the last, in turns."""
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#ca8a04", "#dc2626")
MARKS = "osD^vPX*"
INK = "#010203"
"""Stands for the page's own text colour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot with its words.

    Attributes:
        title: above it.
        svg: an SVG element.
        caption: what is drawn.
    """

    title: str
    svg: str
    caption: str


def plots(found: Frame) -> list[Plot]:
    """The plots that a run has figures for.

    Raises:
        EditkitError: where matplotlib is not installed.
    """
    return [each for each in (cost_and_quality(found), drift(found)) if each is not None]


def cost_and_quality(found: Frame) -> Plot | None:
    """Each method's mean quality over its mean time; None where no method has both."""
    column = gallery.primary(found)
    if column is None:
        return None
    points = {
        method: (cost, quality)
        for method in found.methods
        if (cost := frame.mean(found.of(method), COST)) and (quality := frame.mean(found.of(method), column))
    }
    if not points:
        return None
    with _figure(1, "cost") as (drawn, (axes,)):
        for place, (method, (cost, quality)) in enumerate(points.items()):
            axes.errorbar(
                [cost.mean], [quality.mean], xerr=_bars([cost]), yerr=_bars([quality]), label=method,
                **_look(place),
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds an edit")
        axes.set_ylabel(_named(found, column))
        _legend(axes)
        svg = drawn()
    missing = [method for method in found.methods if method not in points]
    left_out = f" Without a measured time, and so not drawn: {', '.join(missing)}." if missing else ""
    partial = _partial([row for row in found.rows if row.method in points], (COST, column))
    return Plot(
        title="Cost and quality",
        svg=svg,
        caption=f"Mean {column} over mean seconds of an edit, with 95 % intervals.{left_out}{partial}",
    )


def drift(found: Frame) -> Plot | None:
    """Means by turn over the sessions; None where no turn edits the result of the turn before."""
    names = [name for name in DRIFT if name in found.columns][:PANELS]
    rows = [row for row in found.rows if row.item["session"]]
    if not names or not any(row.item.get("chained", True) for row in rows if row.item["turn"] > 1):
        return None
    with _figure(len(names), "drift") as (drawn, panels):
        for name, axes in zip(names, panels, strict=True):
            for place, method in enumerate(found.methods):
                _line(axes, [row for row in rows if row.method == method], name, method, place)
            axes.set_xticks(found.turns)
            # Whole markers, also where a figure is there in the first or last turn alone.
            axes.set_xlim(found.turns[0] - MARGIN, found.turns[-1] + MARGIN + ASIDE * len(found.methods))
            axes.set_xlabel("turn")
            axes.set_ylabel(_named(found, name))
        _legend(panels[0])
        svg = drawn()
    told = "; ".join(f"{name}: {found.columns[name].meaning}" for name in names)
    return Plot(
        title="Drift by turn",
        svg=svg,
        caption=f"Means over sessions with 95 % intervals; each turn edits the result before it. {told}."
        + _partial(rows, names),
    )


def _line(axes: Any, rows: Sequence[Row], column: str, method: str, place: int) -> None:
    by_turn: dict[int, Estimate] = {}
    for turn in sorted({row.item["turn"] for row in rows}):
        if (value := frame.mean([row for row in rows if row.item["turn"] == turn], column)) is not None:
            by_turn[turn] = value
    if by_turn:
        values = list(by_turn.values())
        turns = [turn + ASIDE * place for turn in by_turn]
        axes.errorbar(
            turns, [value.mean for value in values], yerr=_bars(values), label=method, **_look(place)
        )


def _partial(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A sentence on means that rest on some of their results; empty where all rest on all."""
    told = list[str]()
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        counts = {column: sum(column in row.values for row in own) for column in columns}
        told += [f"{name} of {method} ({n} of {len(own)})" for name, n in counts.items() if 0 < n < len(own)]
    return f" These rest on some of the results: {', '.join(told)}." if told else ""


def _bars(values: Sequence[Estimate]) -> list[list[float]]:
    """Lengths of the bars below and above the means."""
    return [
        [max(0.0, value.mean - value.low) for value in values],
        [max(0.0, value.high - value.mean) for value in values],
    ]


def _look(place: int) -> dict[str, Any]:
    """Colour and mark of a method: no two alike for as many as there are marks."""
    colour = COLOURS[place % len(COLOURS)]
    return {"color": colour, "marker": MARKS[place % len(MARKS)], "markersize": 6, "capsize": 3, "lw": 1.5}


def _named(found: Frame, column: str) -> str:
    arrows = {"higher": ", higher is better", "lower": ", lower is better", "neither": ""}
    unit = found.columns[column].unit
    return f"{column}{f' ({unit})' if unit else ''}{arrows[found.columns[column].better]}"


def _legend(axes: Any) -> None:
    """Above the axes, where it hides no data."""
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


class _figure:  # noqa: N801
    """A figure of panels one below the other, and a function that gives its SVG."""

    def __init__(self, panels: int, name: str) -> None:
        try:
            import matplotlib
        except ImportError as error:
            raise EditkitError("report.html needs a package: pip install 'editkit[eval]'.") from error
        self._name, self._panels = name, panels
        colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        style: Any = dict.fromkeys(colours, INK)  # matplotlib types each key by itself
        self._context = matplotlib.rc_context(
            style
            | {
                "svg.fonttype": "none",  # text stays text, in the page's own font
                "svg.hashsalt": name,  # the same figure gives the same file
                "font.family": "sans-serif",
                "text.parse_math": False,
                "axes.spines.top": False,
                "axes.spines.right": False,
            }
        )

    def __enter__(self) -> tuple[Any, list[Any]]:
        from matplotlib.figure import Figure

        self._context.__enter__()
        figure = Figure(figsize=(4.8, 3 * self._panels), layout="constrained")
        axes = figure.subplots(self._panels, 1, squeeze=False)[:, 0]
        return lambda: _svg(figure, self._name), list(axes)

    def __exit__(self, *problem: Any) -> None:
        self._context.__exit__(*problem)


def _svg(figure: Any, name: str) -> str:
    """The figure as an element without a size of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf'<svg \1role="img" data-plot="{name}"', text
    )
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)  # ids are the page's, not the figure's
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
