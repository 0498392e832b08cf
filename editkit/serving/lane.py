"""A device with its editor, which a worker runs batches on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Protocol

from editkit import notes
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference.inputs import PreparedRequest
from editkit.inference.progress import Progress
from editkit.serving import adapters
from editkit.serving.refusals import ClosedError, RefusedError
from editkit.types import EditRequest, EditResult

log = logging.getLogger("editkit.serving")
KEPT = 4
"""Adapters that stay loaded on a device; of more, the one that was asked for the longest ago is unloaded."""


class AbandonedBatchError(Exception):
    """An error that ends a batch which nobody waits for; after an `EditkitError` it would run again."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """An editor that uses one adapter.

    Attributes:
        stamp: size and time of the adapter's file when it was loaded.
        editor: the editor.
        loaded: role and name under which the adapter was loaded, by method.
    """

    stamp: tuple[int, int]
    editor: Editor
    loaded: dict[str, tuple[str, str]] = field(default_factory=dict)

    def load(self, path: Path, method: str) -> None:
        """Load the adapter for a method, unless that was done.

        Raises:
            EditkitError: where it does not fit.
        """
        if method not in self.loaded:
            name = self.editor.load_adapter(path, method)
            self.loaded[method] = self.editor.role(method), name

    def unload(self) -> None:
        """Remove the adapter from the backbone; the editor cannot be used any more."""
        for role, name in set(self.loaded.values()):
            self.editor.backbone.unload_adapter(role, name)


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
    """One device: an editor of its backbone, and one for each of the adapters last asked for.

    Args:
        editor: of the device.
        folder: of the adapters that may be asked for.
    """

    def __init__(self, editor: Editor, folder: Path | None = None) -> None:
        self.editor, self._folder = editor, folder
        self._adapted: dict[str, Adapted] = {}

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
                raise AbandonedBatchError

        try:
            with notes.collected() as told:
                editor = self._editor(batch[0].adapter, batch[0].prepared.request.method)
                results = editor.run_batch([each.prepared for each in batch], watch=watch)
        except AbandonedBatchError:
            return [ClosedError()] * len(batch)
        except EditkitError as error:
            return [error] * len(batch)
        except Exception as error:  # the worker goes on; the answer says no more than that
            log.exception("An edit failed unexpectedly.")
            return [error] * len(batch)
        return [replace(result, notes=(*told, *result.notes)) for result in results]

    def _editor(self, adapter: str | None, method: str) -> Editor:
        """Return the editor that uses an adapter, loaded again where its file has changed.

        Raises:
            RefusedError: where the adapter is not offered, or cannot be used with the method.
        """
        if adapter is None:
            return self.editor
        path = adapters.path(self._folder, adapter)
        status = path.stat()
        stamp = status.st_size, status.st_mtime_ns
        known = self._adapted.pop(adapter, None)
        if known is not None and known.stamp != stamp:
            known.unload()
            known = None
        known = known or Adapted(stamp=stamp, editor=self.editor.configured(None))
        try:
            known.load(path, method)
        except EditkitError as error:  # its message has the file's path, which is for the operator alone
            log.warning("adapter refused", extra={"told": {"name": adapter, "problem": str(error)}})
            raise RefusedError(
                f"The adapter {adapter} cannot be used with {method} here; name another, or leave it out.",
                param="adapter",
            ) from error
        finally:
            if known.loaded:
                self._adapted[adapter] = known  # the newest is last
        while len(self._adapted) > KEPT:
            self._adapted.pop(next(iter(self._adapted))).unload()
        return known.editor
