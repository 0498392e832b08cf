"""A device with its editor, which a worker runs batches on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Protocol

from editkit import notes
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference.inputs import PreparedRequest
from editkit.inference.progress import Progress
from editkit.serving import adapters
from editkit.serving.refusals import ClosedError
from editkit.types import EditRequest, EditResult

log = logging.getLogger("editkit.serving")


class StoppedError(Exception):
    """An error that ends a batch which nobody waits for; after an `EditkitError` it would run again."""


class Edit(Protocol):
    """The parts of a job that a lane needs."""

    @property
    def prepared(self) -> PreparedRequest:
        """The edit."""

    @property
    def adapter(self) -> str | None:
        """Name of an adapter, or None."""

    @property
    def stopped(self) -> Event:
        """Set when nobody waits for it any more."""


class Lane:
    """One device: an editor of its backbone, and one for each adapter that was asked for.

    Args:
        editor: of the device.
        folder: of the adapters that may be asked for.
    """

    def __init__(self, editor: Editor, folder: Path | None = None) -> None:
        self.editor, self._folder = editor, folder
        self._adapted: dict[tuple[str, str], tuple[tuple[int, int], Editor]] = {}

    @property
    def device(self) -> str:
        """The device's name."""
        return str(self.editor.backbone.device)

    def warm(self, method: str) -> None:
        """Load a method's weights.

        Raises:
            EditkitError: where they cannot be loaded.
        """
        self.editor.load(EditRequest(image=None, instruction="warm", method=method))

    def edit(self, batch: Sequence[Edit]) -> Sequence[EditResult | Exception]:
        """Edit a batch of one group and one adapter; return a result, or what went wrong, for each."""

        def watch(_: Progress) -> None:
            if all(each.stopped.is_set() for each in batch):
                raise StoppedError

        try:
            with notes.collected() as told:
                editor = self._editor(batch[0].adapter, batch[0].prepared.request.method)
                results = editor.run_batch([each.prepared for each in batch], watch=watch)
        except StoppedError:
            return [ClosedError()] * len(batch)
        except EditkitError as error:
            return [error] * len(batch)
        except Exception as error:  # the worker goes on; the answer says no more than that
            log.exception("An edit failed unexpectedly.")
            return [error] * len(batch)
        return [replace(result, notes=(*told, *result.notes)) for result in results]

    def _editor(self, adapter: str | None, method: str) -> Editor:
        """Return the editor that uses an adapter, loaded again where its file has changed."""
        if adapter is None:
            return self.editor
        path = adapters.path(self._folder, adapter)
        status = path.stat()
        stamp = status.st_size, status.st_mtime_ns
        known = self._adapted.get((adapter, method))
        if known is None or known[0] != stamp:
            editor = self.editor.configured({})
            editor.load_adapter(path, method)
            known = self._adapted[adapter, method] = stamp, editor
        return known[1]
