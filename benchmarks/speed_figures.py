"""Figures of techniques, as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed_edits import EXACT, Edited, Example
from editkit.shapesworld.scores import score

LOCAL = 0.2
"""Largest share of a picture that a local edit changes."""
BANDS = (0.0, 0.05, 0.1, LOCAL, 1.0)
REGION = "region after 2 steps"
"""Technique that is shown by the share of the picture that changes."""
SAME = 60.0
"""PSNR of pictures that are equal in all levels."""

Rows = Mapping[str, Sequence[Edited]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Means over edits.

    Attributes:
        gflops: operations of the transformer in an edit, in 1e9.
        saves: ratio of the full edit's operations to these.
        successes: 1 for each edit that succeeded, else 0.
        psnr: to the full edit, in dB.
        seconds: of an edit; 0 where not timed.
        peak: resident memory of the process, in bytes; NaN where it was not measured.
    """

    gflops: float
    saves: float
    successes: tuple[float, ...]
    psnr: float
    seconds: float
    peak: float = math.nan

    @property
    def success(self) -> float:
        """Share of edits that succeeded."""
        return float(np.mean(self.successes))


def figures(examples: Sequence[Example], edits: Sequence[Edited], full: Sequence[Edited]) -> Figures:
    """Return the figures of a technique's edits, beside the full ones."""
    right = [
        float(score(example.source, example.answer, edit.pixels, example.category).success)
        for example, edit in zip(examples, edits, strict=True)
    ]
    psnr = [decibels(edit.pixels, whole.pixels) for edit, whole in zip(edits, full, strict=True)]
    flops, whole = (float(np.mean([each.flops for each in row])) for row in (edits, full))
    return Figures(
        gflops=flops / 1e9,
        saves=whole / flops,
        successes=tuple(right),
        psnr=float(np.mean(psnr)),
        seconds=float(np.mean([edit.seconds for edit in edits])),
        peak=max(edit.peak for edit in edits),
    )


def decibels(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the PSNR of two pictures in [0, 1]."""
    error = float(np.square(one - other).mean())
    return SAME if error < 10 ** (-SAME / 10) else -10 * float(np.log10(error))


def by_technique(examples: Sequence[Example], rows: Rows, places: Sequence[int] | None = None) -> str:
    """Make the table of all techniques, over the edits at some places."""
    chosen = range(len(examples)) if places is None else places
    full = _picked(rows[EXACT], chosen)
    timed = any(edit.seconds for edit in full)
    lines = [
        "| technique | GFLOP an edit | saves | success | PSNR to full | peak MB |" + " seconds |" * timed
    ]
    lines.append("| --- " * (6 + timed) + "|")
    for name, edits in rows.items():
        found = figures(_picked(examples, chosen), _picked(edits, chosen), full)
        line = f"| {name} | {found.gflops:.2f} | {found.saves:.2f} | {found.success:.3f} | {found.psnr:.1f} |"
        memory = "not measured" if math.isnan(found.peak) else f"{found.peak / 1e6:.0f}"
        lines.append(line + f" {memory} |" + f" {found.seconds:.3f} |" * timed)
    return "\n".join(lines)


def by_share(examples: Sequence[Example], rows: Rows) -> str:
    """Make the table of one technique by the share of the picture that changes."""
    lines = ["| share | edits | saves | success | success in full | PSNR to full |", "| --- " * 6 + "|"]
    for least, most in pairwise(BANDS):
        places = [place for place, example in enumerate(examples) if _within(example.share, least, most)]
        if not places:
            continue
        some, full = (_picked(rows[name], places) for name in (REGION, EXACT))
        own = _picked(examples, places)
        found, whole = figures(own, some, full), figures(own, full, full)
        lines.append(
            f"| {least:.0%} to {most:.0%} | {len(places)} | {found.saves:.2f} | {found.success:.3f} | "
            f"{whole.success:.3f} | {found.psnr:.1f} |"
        )
    return "\n".join(lines)


def local(examples: Sequence[Example]) -> list[int]:
    """Return the places of the local edits."""
    return [place for place, example in enumerate(examples) if example.share <= LOCAL]


def _within(share: float, least: float, most: float) -> bool:
    """Whether a share lies in a band; an edit of nothing lies in the first."""
    return least < share <= most or share == least == BANDS[0]


def _picked(rows: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [rows[place] for place in places]
