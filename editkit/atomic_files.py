"""Write files and folders whole or not at all, and hash them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path

from editkit.errors import EditkitError

HEX = re.compile(r"[0-9a-f]{64}")
KEPT_FROM = 16 << 20
"""Bytes of a file whose digest is worth keeping: reading it takes some hundredths of a second."""
UMASK = os.umask(0o077)
os.umask(UMASK)
"""The process's mask of file modes. Only setting it tells it, for all threads: so it is read once."""
MARKED = re.compile(r"\.[0-9a-f]{16}\.part")
"""Pattern of the names of files and folders that are being written."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a path to write a file or a folder at, which afterwards replaces what is at `path`.

    Folders above it are made. After an error the old content of `path` is still there, untouched. Files get
    the mode that `open` gives.

    Raises:
        OSError: where a folder cannot be made or the old content cannot be replaced.
    """
    mark = os.urandom(8).hex()
    partial, old = (path.with_name(f".{mark}.{kind}") for kind in ("part", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _open_mode(partial)
        if partial.is_dir() and os.path.lexists(path):
            path.rename(old)
        partial.replace(path)
    finally:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
        for left in (old, partial):
            _remove(left)


def clean(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a folder or below it."""
    for left in folder.rglob(".*.part"):
        if MARKED.fullmatch(left.name):
            _remove(left)


def _open_mode(path: Path) -> None:
    """Give files the mode that `open` gives: safetensors makes its files readable for their owner alone."""
    for each in (path, *path.rglob("*")):
        if each.is_file() and not each.is_symlink():
            with suppress(OSError):  # some mounted file systems know no modes
                each.chmod(0o666 & ~UMASK)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears at `path` once it is complete and closed; folders above it are made.

    Raises:
        EditkitError: where it cannot be written; an older file is then still there, untouched.
    """
    try:
        with beside(path) as partial, partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError, SystemError) as error:  # Pillow's older encoders raise SystemError
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "choose another place or format"
        problem = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise EditkitError(f"The output {path} cannot be written ({problem}); {advice}.") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that appears at `folder` once it is complete, instead of an older one.

    Raises:
        EditkitError: where it cannot be written; an older folder is then still there.
    """
    try:
        with beside(folder) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise EditkitError(
            f"The folder {folder} cannot be written ({error.strerror}); choose another place."
        ) from error


def sha256(path: str | Path) -> str:
    """Return the hexadecimal digest of a weights file, cached while its size and time stay the same.

    Large files' digests outlive the process: in the user's cache folder, one small file each. Files in the
    Hub's cache need no reading, as their names are their digests.

    Raises:
        EditkitError: where the file cannot be read.
    """
    path = Path(path)
    try:
        status = path.stat()
        return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise EditkitError(f"The weights {path} cannot be read ({error.strerror}); check it.") from error


def forget() -> None:
    """Forget the digests that this process remembers, as a new one would."""
    _sha256.cache_clear()


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """`size` and `mtime_ns` only tell the caches when the file has changed."""
    in_hub = path.parent.name == "blobs" and path.parent.parent.name.startswith("models--")
    if in_hub and HEX.fullmatch(path.name):  # Git LFS' way; other files go by git's own, shorter hash
        return path.name
    if size < KEPT_FROM:
        return _read_sha256(path)
    entry = user_cache_path("editkit") / "sha256" / hashlib.sha256(os.fsencode(path)).hexdigest()
    known = _known(entry).removeprefix(f"{size} {mtime_ns} ")
    if HEX.fullmatch(known):
        return known
    digest = _read_sha256(path)
    with suppress(OSError), beside(entry) as partial:  # several processes may write the same
        partial.write_text(f"{size} {mtime_ns} {digest}", encoding="ascii")
    return digest


def _known(entry: Path) -> str:
    try:
        return entry.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _read_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
