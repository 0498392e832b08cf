"""The worker that runs all edits of the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
from PIL import Image

from demos.visit import Visit
from editkit import api
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference.progress import Progress, Watch
from editkit.types import EditRequest

QUEUE = "device"
"""Concurrency id of handlers that compute; they run one at a time."""
USUAL = EditRequest(image=None, instruction="").method
"""The default method."""
WAITING = 16
"""Largest number of waiting requests; further ones are refused."""
TOLD_EVERY, SHOWN_EVERY, SHARE = 0.1, 0.5, 4
"""Least seconds between reports and between previews, and the pause after a preview as a multiple of its
duration."""


class VisitorStoppedError(Exception):
    """An error for work that the visitor stopped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A report after a step of an edit.

    Attributes:
        step: number of steps done.
        steps: number of steps to do.
        seeds: seeds of the pictures in the batch.
        pictures: previews, one for each seed; empty where it is too early for new ones.
    """

    step: int
    steps: int
    seeds: tuple[int, ...]
    pictures: list[Image.Image] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """A report that weights are being loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A report that the weights of an edit are there.

    Attributes:
        seconds: how long loading took.
    """

    seconds: float


Tell = Callable[[Any], None]
Work = Callable[[Tell, Watch], None]


def load_weights(editor: Editor, request: EditRequest, tell: Tell) -> None:
    """Load the weights of a request and report it, so that the seconds of its edit are the edit's alone."""
    tell(Loading())
    start = time.perf_counter()
    with suppress(EditkitError):  # the edit says it, too
        editor.load(request)
    tell(Loaded(seconds=time.perf_counter() - start))


class DeviceWorker:
    """Runs work of one visitor at a time and streams its reports.

    Args:
        editor: of the device.
        worker: runs one function at a time; a thread of its own where None.
    """

    def __init__(self, editor: Editor, worker: Executor | None = None) -> None:
        self.editor = editor
        self._worker = worker or ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")

    def warm(self) -> None:
        """Load the weights of every method in the background; an edit reports missing ones itself."""

        def load() -> None:
            for method in api.methods():
                with suppress(EditkitError):
                    self.editor.load(EditRequest(image=None, instruction="warm", method=method.name))

        self._worker.submit(load)

    def remarks(self, picture: Image.Image) -> list[str]:
        """Return warnings about a picture before it is edited here."""
        return self.editor.backbone.remarks_on_picture(np.asarray(picture.convert("RGB")))

    def editor_of(self, visit: Visit) -> Editor:
        """Return the visitor's own editor of the shared backbone."""
        visit.editor = visit.editor or self.editor.configured({})
        return visit.editor

    def stream(self, visit: Visit, work: Work) -> Iterator[Any]:
        """Run work and yield its reports, such as `Step`s; the last may be an error.

        The work is stopped when the caller no longer listens. Work that the device gives up before it begins
        ends with the error that says so.
        """
        reports: SimpleQueue[Any] = SimpleQueue()
        stop = visit.stop = visit.stop or threading.Event()

        def run() -> None:
            try:
                _check(stop)
                work(reports.put, _watch(reports.put, stop))
            except (EditkitError, VisitorStoppedError) as error:
                reports.put(error)

        running = None
        try:
            running = self._worker.submit(run)
            running.add_done_callback(lambda _: reports.put(None))  # also where it never ran
            while (event := reports.get()) is not None:
                yield event
            running.result()
        except EditkitError as error:
            yield error
        finally:
            stop.set()
            wait([running] if running else [])
            if visit.stop is stop:
                visit.stop = None


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise VisitorStoppedError


def _watch(tell: Tell, stop: threading.Event) -> Watch:
    """Make a watcher that reports steps, and previews less often the longer they take."""
    reported = shown = time.perf_counter()
    pause = SHOWN_EVERY

    def watch(progress: Progress) -> None:
        nonlocal reported, shown, pause
        _check(stop)
        now = time.perf_counter()
        pictures: list[Image.Image] = []
        if now - shown >= pause and progress.step < progress.steps:
            pictures = progress.preview()
            shown = time.perf_counter()
            pause = max(SHOWN_EVERY, SHARE * (shown - now))
        if pictures or now - reported >= TOLD_EVERY:
            reported = now
            tell(Step(step=progress.step, steps=progress.steps, seeds=progress.seeds, pictures=pictures))

    return watch
