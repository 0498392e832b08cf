"""The data that the page keeps for each visitor."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from editkit.editor import Editor
from editkit.types import EditRequest, EditResult

if TYPE_CHECKING:
    from editkit.sessions.session import Session


@dataclass(kw_only=True)
class Visit:
    """The data that the page keeps for one visitor.

    Attributes:
        key: secret of the visitor's browser, by which what the page keeps is found again; empty at first,
            since Gradio copies one `Visit` for every visitor.
        stop: event that ends the running work; None where there is none.
        waiting: events that end work which was begun and waits for its turn, the earliest first, by the name
            of its controls.
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
    waiting: dict[str, list[threading.Event]] = field(default_factory=dict)
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

    def begin(self, name: str) -> None:
        """Let work of some controls wait for its turn; from now on it can be stopped."""
        self.waiting.setdefault(name, []).append(threading.Event())

    def drop(self, name: str) -> None:
        """Forget the work of some controls that was begun last, if it still waits."""
        if events := self.waiting.get(name):
            events.pop()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Give the work of some controls that was begun first its turn, for as long as the block lasts."""
        events = self.waiting.get(name)
        stop = self.stop = events.pop(0) if events else threading.Event()
        try:
            yield
        finally:
            if self.stop is stop:
                self.stop = None

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
    ask_to_stop(visit)
    if visit.folder:
        shutil.rmtree(visit.folder, ignore_errors=True)


def ask_to_stop(visit: Visit) -> bool:
    """Stop a visitor's work, running and waiting, within one step; return whether there is any."""
    events = [event for each in visit.waiting.values() for event in each]
    if visit.stop is not None:
        events.append(visit.stop)
    for event in events:
        event.set()
    return bool(events)
