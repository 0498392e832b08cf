"""Let one writer at a time change a session's folder; readers need no lock."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from editkit import file_locks
from editkit.errors import EditkitError

FILE = ".lock"


@contextmanager
def alone(folder: Path, *, new: bool = False) -> Iterator[None]:
    """Wait until no other writer, of this process or another, has the folder, and keep it from them.

    The file stays: removing it would give two writers a lock each.

    Args:
        folder: of the session.
        new: whether to make the folder where it is missing.

    Raises:
        EditkitError: where the folder is gone or cannot be written to.
    """
    file, locked = _open(folder, new)
    with file:
        try:
            yield
        finally:
            if locked:
                file_locks.unlock(file)


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Keep other writers from a folder that another one takes the place of; no folder need be there.

    Windows renames no folder with an open file, so that there it only waits for the writer at work.

    Raises:
        EditkitError: where the folder cannot be written to.
    """
    with ExitStack() as held:
        if folder.exists():
            held.enter_context(alone(folder))
            if sys.platform == "win32":
                held.close()
        yield


def _open(folder: Path, new: bool) -> tuple[BinaryIO, bool]:
    """Open the lock of a folder as soon as no other writer has it; return also whether it could be locked."""
    while True:
        try:
            if new:
                folder.mkdir(parents=True, exist_ok=True)
            file = (folder / FILE).open("a+b")
        except OSError as error:
            problem = "is gone" if isinstance(error, FileNotFoundError) else "cannot be written"
            raise EditkitError(
                f"The session {folder} {problem} ({error.strerror}); start or load another one."
            ) from error
        locked = file_locks.lock(file, wait=True) is file_locks.Outcome.HELD
        with suppress(OSError):
            if not locked or os.path.samestat(os.fstat(file.fileno()), os.stat(folder / FILE)):
                return file, locked
        file.close()  # of a folder that another one took the place of while this waited
