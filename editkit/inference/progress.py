"""Progress of an edit: its steps for a watcher, and its seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A report after an Euler step of an edit, or of the draft before it.

    Attributes:
        step: number of steps done, 0 in a draft.
        steps: number of steps to do, to the end or to the previews of a seed search.
        seeds: seeds of the pictures in the batch.
        preview: makes previews of the pictures, in the order of the seeds; none in a draft.
    """

    step: int
    steps: int
    seeds: tuple[int, ...]
    preview: Callable[[], list[Image.Image]]


Watch = Callable[[Progress], None]
"""A function that is called after each step; an exception from it ends the edit."""


@dataclass(kw_only=True)
class Stopwatch:
    """Measures seconds by stage."""

    laps: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now

    def shared(self, count: int) -> dict[str, float]:
        """Share the seconds of each stage among this many pictures."""
        return {stage: seconds / count for stage, seconds in self.laps.items()}
