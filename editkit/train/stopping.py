"""Stop a run on SIGTERM or Ctrl-C: at once, or after the step that is being taken."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from editkit.errors import EditkitError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
KILLED = "Training was stopped at once; fit.resume=latest goes on from its last checkpoint, if there is one."

Handler = Callable[[int, FrameType | None], None]


class RunStoppedError(EditkitError):
    """An error for a run that was told to stop, and has saved what there was to save.

    Args:
        sentence: what is left of the run, and how it goes on.
        number: the signal.
    """

    def __init__(self, sentence: str, number: int = signal.SIGTERM) -> None:
        super().__init__(sentence)
        self.status = 128 + number
        """Exit status of a process that this signal ended: 143 for SIGTERM, 130 for Ctrl-C."""


class StopRequest(KeyboardInterrupt):
    """A signal that stops at once. It is no `Exception`, so that no part takes it for its own failure."""

    def __init__(self, number: int) -> None:
        super().__init__("Training was stopped before it took a step; give the same command again to go on.")
        self.number = number


@contextmanager
def at_once() -> Iterator[None]:
    """Raise `StopRequest` on a signal within the block."""

    def raised(number: int, _: FrameType | None) -> None:
        raise StopRequest(number)

    with _handled(raised):
        yield


@contextmanager
def noted() -> Iterator[list[int]]:
    """Note signals within the block in the list; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and number in asked:
            raise KeyboardInterrupt(KILLED)
        asked.append(number)

    with _handled(note):
        yield asked


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    """Handle the signals within the block; outside the main thread, which alone gets them, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a data loader's worker, which its parent ends
            raise KeyboardInterrupt
        handler(number, frame)

    before = [signal.signal(number, handle) for number in SIGNALS]
    try:
        yield
    finally:
        for number, each in zip(SIGNALS, before, strict=True):
            signal.signal(number, each)
