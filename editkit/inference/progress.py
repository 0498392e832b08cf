"""What an edit says while it runs: its steps to a watcher, its seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a watcher is told after each Euler step.

    Attributes:
        step: how many are done.
        steps: how many there are, up to the end or up to a seed search's previews.
        seeds: of the pictures that are being made.
        preview: makes the pictures that the last step points at, in the order of the seeds.
    """

    step: int
    steps: int
    seeds: tuple[int, ...]
    preview: Callable[[], list[Image.Image]]


Watch = Callable[[Progress], None]
"""Called after each step; what it raises ends the edit there."""


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by stage."""

    laps: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under a stage."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now

    def shared(self, count: int) -> dict[str, float]:
        """Seconds by stage for each of this many pictures."""
        return {stage: seconds / count for stage, seconds in self.laps.items()}
