"""One worker for everything that computes, and what the page keeps for each visitor."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from editkit import api
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference.progress import Progress, Watch
from editkit.types import EditRequest, EditResult

if TYPE_CHECKING:
    from editkit.sessions.session import Session

QUEUE = "device"
"""Handlers that compute share this concurrency id, and so run one at a time."""
USUAL = EditRequest(image=None, instruction="").method
"""The method where none is chosen."""
WAITING = 16
"""How many requests may wait; further ones are told to come back."""
TOLD_EVERY, SHOWN_EVERY, SHARE = 0.1, 0.5, 4
"""Seconds between reports and between previews at least, and a preview's pause as a multiple of its cost."""


class StoppedError(Exception):
    """The visitor asked to stop."""


@dataclass(kw_only=True)
class Visit:
    """What the page keeps for one visitor.

    Attributes:
        stop: set where what runs or waits now is to end; None where nothing does.
        editor: with the adapters that the visitor tries.
        folder: of the files made for the visitor.
        results: of the last comparison with their source, by method.
        session: edits in a row.
        search: the picture, the request and the previews of the last search over seeds.
    """

    stop: threading.Event | None = None
    editor: Editor | None = None
    folder: Path | None = None
    results: dict[str, tuple[Image.Image, EditResult]] = field(default_factory=dict)
    session: Session | None = None
    search: tuple[EditRequest, dict[int, Image.Image]] | None = None

    def place(self) -> Path:
        """A new folder for the visitor's files, below the only one that the page serves files from."""
        self.folder = self.folder or Path(tempfile.mkdtemp(prefix="visit-", dir=served()))
        return Path(tempfile.mkdtemp(dir=self.folder))


def served() -> Path:
    """The folder that the page serves files from."""
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget(visit: Visit) -> None:
    """Delete a visitor's files, and end what runs for them."""
    if visit.stop:
        visit.stop.set()
    if visit.folder:
        shutil.rmtree(visit.folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A report from within an edit.

    Attributes:
        step: how many are done.
        steps: of how many.
        seeds: of the pictures that are being made.
        pictures: where the edit points now, one a seed; empty where it is too early for new ones.
    """

    step: int
    steps: int
    seeds: tuple[int, ...]
    pictures: list[Image.Image] = field(default_factory=list)


Tell = Callable[[Any], None]
Work = Callable[[Tell, Watch], None]


class Device:
    """Runs one visitor's work at a time and reports from it."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")

    def warm(self) -> None:
        """Load what a first edit by each method needs; what is missing is said where it is asked for."""

        def load() -> None:
            for method in api.methods():
                with suppress(EditkitError):
                    self.editor.load(EditRequest(image=None, instruction="warm", method=method.name))

        self._worker.submit(load)

    def remarks(self, picture: Image.Image) -> list[str]:
        """What a visitor should know before a picture is edited here."""
        return self.editor.backbone.remarks_on_picture(np.asarray(picture.convert("RGB")))

    def editor_of(self, visit: Visit) -> Editor:
        """The visitor's own editor of the one backbone."""
        visit.editor = visit.editor or self.editor.configured({})
        return visit.editor

    def stream(self, visit: Visit, work: Work) -> Iterator[Any]:
        """What the work tells, as it comes, `Step`s among it; ends with an EditkitError or StoppedError told.

        Work that nobody listens to any more is stopped.
        """
        told: SimpleQueue[Any] = SimpleQueue()
        stop = visit.stop = visit.stop or threading.Event()

        def run() -> None:
            try:
                _check(stop)
                work(told.put, _watch(told.put, stop))
            except (EditkitError, StoppedError) as error:
                told.put(error)
            finally:
                told.put(None)

        running = self._worker.submit(run)
        try:
            while (event := told.get()) is not None:
                yield event
            running.result()
        finally:
            stop.set()
            wait([running])
            visit.stop = None


def ask_to_stop(visit: Visit) -> bool:
    """End what runs or waits for a visitor within one step; whether there is anything."""
    if visit.stop is None:
        return False
    visit.stop.set()
    return True


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError


def _watch(tell: Tell, stop: threading.Event) -> Watch:
    """Reports steps now and then, and pictures more rarely the longer they take to make."""
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
