"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from editkit.errors import EditkitError


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to fill that appears at `path`, over what is there, when it is complete; folders are made.

    Raises:
        EditkitError: where it cannot be written; an older file is then still there, untouched.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, ValueError, SystemError) as error:  # the last from Pillow's older encoders
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "choose another place or format"
        problem = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise EditkitError(f"The output {path} cannot be written ({problem}); {advice}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that appears at `folder`, instead of what is there, when it is complete.

    Raises:
        EditkitError: where it cannot be written; an older folder is then still there.
    """
    mark = os.urandom(8).hex()
    partial, old = (folder.with_name(f".{mark}.{kind}") for kind in ("part", "old"))
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise EditkitError(
            f"The folder {folder} cannot be written ({error.strerror}); choose another place."
        ) from error
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
