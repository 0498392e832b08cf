"""The worker that runs all edits of the page, and the data that the page keeps for each visitor."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
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


@dataclass(kw_only=True)
class Visit:
    """The data that the page keeps for one visitor.

    Attributes:
        key: secret of the visitor's browser, by which what the page keeps is found again; empty at first,
            since Gradio copies one `Visit` for every visitor.
        stop: event that ends the running or waiting work; None where there is none.
        editor: an editor with the adapters that the visitor tries.
        folder: folder of the files made for the visitor.
        results: source and result of the last comparison, by method.
        session: the session of the Session tab.
        started: file of the picture that the session started from; empty for none of this visit.
        sessions: folders of the earlier sessions on the page, in its order.
        search: request and previews of the last search over seeds.
        listed: files of the results in the gallery, in its order.
        chosen: file of the chosen result.
        thumbnails: files made for the gallery, by those of the results.
    """

    key: str = ""

    stop: threading.Event | None = None
    editor: Editor | None = None
    folder: Path | None = None
    results: dict[str, tuple[Image.Image, EditResult]] = field(default_factory=dict)
    session: Session | None = None
    started: str = ""
    sessions: tuple[Path, ...] = ()
    search: tuple[EditRequest, dict[int, Image.Image]] | None = None
    listed: tuple[Path, ...] = ()
    chosen: Path | None = None
    thumbnails: dict[Path, str] = field(default_factory=dict)

    def secret(self) -> str:
        """Return the key, and make one where the browser brought none."""
        self.key = self.key or secrets.token_hex(16)
        return self.key

    def new_folder(self) -> Path:
        """Make a new folder for the visitor's files, below the one that the page serves files from."""
        self.folder = self.folder or Path(tempfile.mkdtemp(prefix="visit-", dir=served()))
        return Path(tempfile.mkdtemp(dir=self.folder))


def served() -> Path:
    """Return the folder that the page serves files from."""
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget(visit: Visit) -> None:
    """Delete a visitor's files and stop the visitor's work."""
    if visit.stop:
        visit.stop.set()
    if visit.folder:
        shutil.rmtree(visit.folder, ignore_errors=True)


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

        The work is stopped when the caller no longer listens.
        """
        reports: SimpleQueue[Any] = SimpleQueue()
        stop = visit.stop = visit.stop or threading.Event()

        def run() -> None:
            try:
                _check(stop)
                work(reports.put, _watch(reports.put, stop))
            except (EditkitError, VisitorStoppedError) as error:
                reports.put(error)
            finally:
                reports.put(None)

        running = self._worker.submit(run)
        try:
            while (event := reports.get()) is not None:
                yield event
            running.result()
        finally:
            stop.set()
            wait([running])
            visit.stop = None


def ask_to_stop(visit: Visit) -> bool:
    """Stop a visitor's work within one step; return whether there is any."""
    if visit.stop is None:
        return False
    visit.stop.set()
    return True


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
