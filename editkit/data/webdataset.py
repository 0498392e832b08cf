"""Read the rows of a dataset from tar shards in the webdataset layout, here or at a URL that fsspec opens."""

import hashlib
import io
import json
import lzma
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from editkit import atomic_files
from editkit.data import shard_names
from editkit.data.columns import Rows
from editkit.data.records import DataConfig, UnreachableError, is_url
from editkit.errors import EditkitError, first_sentence

PROBLEMS = (OSError, ValueError, ImportError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError)
"""Errors of file systems, of their packages, and of damaged archives."""
WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further try to read a row."""
LAYOUT = 2
"""Version of what counts as a row; with a new one, shards are read through again."""
VERSIONS = ("mtime", "ETag", "etag", "LastModified", "updated", "created")
"""Names under which file systems tell when a file was written, or its version."""


def rows(path: Path, config: DataConfig) -> Rows:
    """Find the rows of a shard, a folder of shards, shards of a pattern, or a URL of any of them.

    Members of one stem are one row; its columns are named by what follows a member's first dot, in small
    letters. Hidden members do not count, such as those that macOS adds.

    Raises:
        EditkitError: if a shard cannot be read or is not a tar file, or members of a row are apart.
    """
    where = config.path if config.path and is_url(config.path) else str(path)
    try:
        return ShardRows([Shard(each) for each in shard_names.find(where)])
    except EditkitError:
        raise
    except Exception as error:  # of a file system: each has classes of its own
        raise EditkitError(_unreadable(where, error)) from error


class Shard:
    """A tar file and the places of its rows, which are kept on this machine for the next time.

    A compressed one is unpacked on this machine, since rows are read out of order.

    Args:
        url: where it is.

    Attributes:
        size: in bytes.
        stamp: its URL, size and time or version.
        spans_N2: start and end in bytes of each row.
    """

    def __init__(self, url: str) -> None:
        self.url = self._place = url
        system, place = fsspec.core.url_to_fs(url)
        about = system.info(place)
        version = next((about[key] for key in VERSIONS if about.get(key)), None)
        self.size: int = about["size"]
        self.stamp = f"{url} {self.size} {version}"
        name = hashlib.blake2b(f"{LAYOUT} {self.stamp}".encode(), digest_size=16).hexdigest()
        kept = user_cache_path("editkit") / "shards" / f"{name}.st"
        if compression := shard_names.compression(url):
            unpacked = kept.with_suffix(".tar")
            if version is None or not unpacked.is_file():
                self._unpack(compression, unpacked)
            self._place = str(unpacked)
        found = None
        with suppress(OSError, SafetensorError, KeyError):
            found = load_file(kept)["spans_N2"] if version is not None else None
        if found is not None:
            self.spans_N2: NDArray[np.int64] = found
            return
        self.spans_N2 = np.array(list(self._spans()), np.int64).reshape(-1, 2)
        if version is not None:
            # Where it cannot be kept, only the next start takes longer.
            with suppress(OSError, SafetensorError), atomic_files.beside(kept) as partial:
                save_file({"spans_N2": self.spans_N2}, partial)

    def read(self, start: int, end: int) -> bytes:
        """Read a range of bytes; what fails is tried again, since connections break.

        Raises:
            UnreachableError: where it fails each time.
        """
        for wait in WAITS:
            with suppress(Exception):  # of a file system: each has classes of its own
                return self._read(start, end)
            time.sleep(wait)
        try:
            return self._read(start, end)
        except Exception as error:
            raise UnreachableError(
                f"The shard {self.url} cannot be reached ({first_sentence(error)}); try again later, and the "
                "same command goes on."
            ) from error

    def _read(self, start: int, end: int) -> bytes:
        # Opened anew in each process: file systems do not outlive a fork.
        with fsspec.open(self._place, "rb") as file:
            file.seek(start)
            return bytes(file.read(end - start))

    def _unpack(self, compression: str, path: Path) -> None:
        with (
            fsspec.open(self.url, "rb", compression=compression) as file,
            atomic_files.beside(path) as partial,
            partial.open("wb") as out,
        ):
            shutil.copyfileobj(file, out, 1 << 20)

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Find start and end of each row: of neighbouring members with one stem."""
        before, seen, start, end = "", set[str](), 0, 0
        try:
            with fsspec.open(self._place, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    stem, column = _name(member)
                    if not (member.isfile() and column):
                        continue
                    if stem != before:
                        if stem in seen:
                            raise EditkitError(
                                f"The shard {self.url} holds the files of {stem!r} apart from each other; "
                                "make it again with tar --sort=name."
                            )
                        if before:
                            yield start, end
                        before, start = stem, member.offset
                        seen.add(stem)
                    end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        except PROBLEMS as error:
            raise EditkitError(_unreadable(self.url, error)) from error
        if before:
            yield start, end


class ShardRows(Sequence[Mapping[str, Any]]):
    """The rows of all shards, in the order of the shards' names; memory holds 16 bytes a row."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.starts_N = np.cumsum([0, *(len(shard.spans_N2) for shard in shards)])

    def __len__(self) -> int:
        return int(self.starts_N[-1])

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = int(np.searchsorted(self.starts_N, place, side="right")) - 1
        shard = self.shards[number]
        start, end = shard.spans_N2[place - int(self.starts_N[number])].tolist()
        return ShardRow(shard, start, end)

    @property
    def stamp(self) -> str:
        """Return a text that differs between versions of the shards."""
        return " ".join(shard.stamp for shard in self.shards)

    @property
    def listing(self) -> str:
        """The names and sizes of the shards, wherever they are."""
        return " ".join(f"{shard.url.rpartition('/')[2]} {shard.size}" for shard in self.shards)


class ShardRow(Mapping[str, Any]):
    """A row in a shard, read when one of its columns is looked up; text and JSON are decoded.

    The keys of a column `json` are columns too, if no member has their name.

    Args:
        shard: the shard.
        start: first byte of the row.
        end: byte behind the row.
    """

    def __init__(self, shard: Shard, start: int, end: int) -> None:
        self.shard, self.start, self.end = shard, start, end

    @cached_property
    def members(self) -> dict[str, bytes]:
        """The bytes of each column."""
        data = io.BytesIO(self.shard.read(self.start, self.end))
        found = {}
        with tarfile.open(fileobj=data) as archive:
            for member in archive:
                content = archive.extractfile(member)  # None for a folder
                if content is not None and (column := _name(member)[1]):
                    found[column] = content.read()
        return found

    def __getitem__(self, column: str) -> Any:
        if (small := column.lower()) not in self.members:
            return self._json()[column]
        data, column = self.members[small], small
        if column.endswith("json"):
            return json.loads(data)
        return data.decode("utf-8-sig").strip() if column.endswith(("txt", "text", "caption")) else data

    def __iter__(self) -> Iterator[str]:
        return iter(self._json() | self.members)

    def __len__(self) -> int:
        return len(self._json() | self.members)

    def _json(self) -> dict[str, Any]:
        found = self["json"] if "json" in self.members else None
        return found if isinstance(found, dict) else {}


def _name(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return a member's stem, with its folder, and its column; no column for a hidden member."""
    folder, _, name = member.name.rpartition("/")
    stem, _, column = name.partition(".")
    return f"{folder}/{stem}", column.lower() if stem else ""


def _unreadable(where: str, error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"The shard {where} needs a package ({first_sentence(error)}); install it."
    return f"The shard {where} cannot be read ({first_sentence(error)}); give tar files of webdataset."
