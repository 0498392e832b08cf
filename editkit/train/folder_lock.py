"""Keep a run's folder to one run. Importing this loads no torch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from editkit.errors import EditkitError

FILE = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder within the block; the folder is made where it is missing.

    The operating system frees it when the process ends, however it does. Where the disk or the file system
    refuses the lock, there is none; what the run writes later tells of a disk that refuses.

    Raises:
        EditkitError: where another run has the folder.
    """
    file = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+b")
    with file or nullcontext():
        if file and _is_taken(file):
            raise EditkitError(
                f"Another run trains in {folder} now; wait until it has ended, end it, or give another "
                "fit.output."
            )
        yield


def _is_taken(file: BinaryIO) -> bool:
    """Take a lock if nobody has it, and say whether somebody has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # EWOULDBLOCK on POSIX, EACCES on Windows; all others are of file systems without locks.
        return isinstance(error, BlockingIOError | PermissionError)
    return False
