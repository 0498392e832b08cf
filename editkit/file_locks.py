"""Lock open files against other processes, and against other openings in this one.

The operating system frees a lock when its process ends, however it does. Importing this loads no torch.
"""

from __future__ import annotations

import errno
import sys
from enum import Enum
from typing import BinaryIO


class Outcome(Enum):
    """What came of asking for a lock."""

    HELD = "held"
    TAKEN = "taken by another"
    UNSUPPORTED = "the file system has no locks"


if sys.platform == "win32":
    import msvcrt

    def lock(file: BinaryIO, *, wait: bool) -> Outcome:
        """Lock a file, after whoever has it where `wait` is true."""
        while True:
            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return Outcome.HELD
            except OSError as error:
                if isinstance(error, PermissionError) and not wait:
                    return Outcome.TAKEN
                if error.errno != errno.EDEADLOCK:  # by which it ends after ten seconds of waiting
                    return Outcome.UNSUPPORTED

    def unlock(file: BinaryIO) -> None:
        """Free a lock before its file is closed, for a fork may have the file open too."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock(file: BinaryIO, *, wait: bool) -> Outcome:
        """Lock a file, after whoever has it where `wait` is true."""
        try:
            # Not lockf, whose locks all threads of a process share.
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Outcome.TAKEN
        except OSError:
            return Outcome.UNSUPPORTED
        return Outcome.HELD

    def unlock(file: BinaryIO) -> None:
        """Free a lock before its file is closed, for a fork may have the file open too."""
        fcntl.flock(file, fcntl.LOCK_UN)
