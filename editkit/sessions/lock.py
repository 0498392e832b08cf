"""Let one writer at a time change a session's folder; readers need no lock."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from editkit.errors import EditkitError

FILE = ".lock"


@contextmanager
def alone(folder: Path, *, new: bool = False) -> Iterator[None]:
    """Wait until no other writer, of this process or another, has the folder, and keep it from them.

    The operating system frees it when the process ends, however it does. The file stays: removing it would
    give two writers a lock each.

    Args:
        folder: of the session.
        new: whether to make the folder where it is missing.

    Raises:
        EditkitError: where the folder is gone or cannot be written to.
    """
    try:
        if new:
            folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+b")
    except OSError as error:
        problem = "is gone" if isinstance(error, FileNotFoundError) else "cannot be written"
        raise EditkitError(
            f"The session {folder} {problem} ({error.strerror}); start or load another one."
        ) from error
    with file:
        locked = _lock(file)
        try:
            yield
        finally:
            if locked:
                _unlock(file)  # closing is not enough where a fork of this process has the file open too


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> bool:
        while True:
            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                return True
            except OSError as error:
                if error.errno != errno.EDEADLOCK:  # by which it ends after ten seconds of waiting
                    return False

    def _unlock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # not lockf, whose locks all threads of a process share
            return True
        except OSError:  # a file system without locks
            return False

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
