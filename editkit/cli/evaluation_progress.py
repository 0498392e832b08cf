"""Progress of an evaluation's phases, as a bar or, where nobody watches, as a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from editkit.cli import terminal
from editkit.cli.options import say
from editkit.cli.terminal import Bar

EVERY = 60.0
"""Seconds between lines."""


class Phases:
    """Shows one phase after the other."""

    def __init__(self, stack: ExitStack) -> None:
        self._outer, self._inner = stack, ExitStack()

    def begin(self, label: str, total: int) -> Callable[[int], None]:
        """Begin a phase of so many results; returns what counts them."""
        self._inner.close()
        self._inner = self._outer.enter_context(ExitStack())
        bar = self._inner.enter_context(terminal.progress(label, total))
        return Pace(label, total, bar).count


class Pace:
    """Counts a phase's results and says how long the rest will take."""

    def __init__(self, label: str, total: int, bar: Bar) -> None:
        self._label, self._total, self._bar, self._done = label, total, bar, 0
        self._begun = self._said = time.monotonic()

    def count(self, more: int) -> None:
        """Add results that are done."""
        self._bar.advance(more)
        self._done += more
        now = time.monotonic()
        if sys.stderr.isatty() or now - self._said < EVERY or not self._done:
            return
        self._said = now
        left = (now - self._begun) / self._done * max(0, self._total - self._done)
        say([f"{self._label}: {self._done} of {self._total}, about {timedelta(seconds=round(left))} left"])


@contextmanager
def phases() -> Iterator[Phases]:
    """Phases whose bars go away at the end."""
    with ExitStack() as stack:
        yield Phases(stack)
