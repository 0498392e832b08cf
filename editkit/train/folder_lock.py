"""Keep a run's folder to one run. Importing this loads no torch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from editkit import file_locks
from editkit.errors import EditkitError

FILE = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder within the block; the folder is made where it is missing.

    Where the disk or the file system refuses the lock, there is none; what the run writes later tells of a
    disk that refuses.

    Raises:
        EditkitError: where another run has the folder.
    """
    file = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+b")
    with file or nullcontext():
        if file and file_locks.lock(file, wait=False) is file_locks.Outcome.TAKEN:
            raise EditkitError(
                f"Another run trains in {folder} now; wait until it has ended, end it, or give another "
                "fit.output."
            )
        yield
