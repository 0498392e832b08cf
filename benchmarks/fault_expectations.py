"""List the faults that each figure is made to see in ShapesWorld's flat colours, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

SEEN = 0.9
"""Share from which on a figure sees a fault."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The faults that some figures are made to see.

    Attributes:
        figures: their names.
        faults: what they must see.
        why: what they look at, and what they therefore miss.
    """

    figures: tuple[str, ...]
    faults: tuple[str, ...]
    why: str


EXPECTATIONS = (
    Expectation(
        figures=("l1", "l2", "psnr", "ssim", "lpips"),
        faults=("colour", "moved", "ground", "blur", "shift", "copy"),
        why="they compare all of the picture with the true answer",
    ),
    Expectation(
        figures=("inside",),
        faults=("colour", "ground", "blur", "shift", "copy"),
        why="it compares with the true answer where the edit belongs; the moved thing is elsewhere",
    ),
    Expectation(
        figures=("outside_answer",),
        faults=("moved", "ground", "blur", "shift"),
        why="it compares with the true answer elsewhere; a wrong colour and a copy leave that as it was",
    ),
    Expectation(
        figures=("success",),
        faults=("colour", "ground", "copy"),
        why="its limits are on mean errors; what is wrong along edges alone can stay below them",
    ),
    Expectation(
        figures=("sharp",),
        faults=("colour", "moved", "ground", "shift", "copy"),
        why="it counts wrong cells; a blur that is narrower than a cell can leave the cell's mean right",
    ),
    Expectation(
        figures=("source_l1", "source_l2", "source_psnr", "source_ssim", "source_lpips"),
        faults=("moved", "ground", "shift"),
        why="the source is all that they know; less change is always better, so a copy of it wins",
    ),
    Expectation(
        figures=("outside", "tone"),
        faults=(),
        why="without a mask they leave out every pixel that differs by more than a tenth, as an edit may "
        "have changed it. Between flat colours all of these faults differ by more, and so hide themselves",
    ),
    Expectation(
        figures=("outside, masked",),
        faults=("moved", "ground", "blur", "shift"),
        why="the mask says where the edit belongs, so that all else counts",
    ),
    Expectation(
        figures=("tone, masked",),
        faults=("ground",),
        why="it is the mean difference of a channel, to which only a large area adds",
    ),
    Expectation(figures=("shift",), faults=("shift",), why="it measures motion"),
    Expectation(figures=("scale",), faults=(), why="it measures a stretch, which none of these is"),
    Expectation(
        figures=("judge preserve",),
        faults=("copy",),
        why="an edit that changed nothing loses; else it compares what `outside` does without a mask",
    ),
    Expectation(
        figures=("judge tiny",),
        faults=("colour", "ground", "copy"),
        why="it was trained on right and wrong contents, not on soft or moved ones",
    ),
)


def unseen(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Figures that should see a fault and do not, in words."""
    return [
        f"{name} should see {fault}, and does in {row[fault]:.2f}"
        for name, row in shares.items()
        for each in EXPECTATIONS
        if name in each.figures
        for fault in each.faults
        if row[fault] < SEEN
    ]


def explained(names: Iterable[str]) -> Iterator[str]:
    """Describe what the figures of these names are made to see, and why; one line for each group."""
    here = set(names)
    for each in EXPECTATIONS:
        if figures := [name for name in each.figures if name in here]:
            yield f"{', '.join(figures)}: {', '.join(each.faults) or 'none of these'}; {each.why}."
