"""The index of a folder of encoded records: which file and row holds each record of each bucket."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from editkit import atomic_files
from editkit.data import chunk_files, latent_chunks
from editkit.errors import EditkitError

FILE = "index.st"
"""Name of the index, safetensors; its ending is not a chunk's."""


@dataclass
class _Entries:
    """The records of one bucket as they are found."""

    indices: array[int] = field(default_factory=lambda: array("q"))
    chunks: array[int] = field(default_factory=lambda: array("i"))
    rows: array[int] = field(default_factory=lambda: array("h"))


@dataclass(frozen=True, kw_only=True)
class BucketIndex:
    """The places of one bucket's records, in the dataset's order.

    Attributes:
        first: index of the first record in the dataset.
        chunks_N: number of each record's file in the index's `names`.
        rows_N: row of each record in its file.
    """

    first: int
    chunks_N: NDArray[np.int32]
    rows_N: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class LatentIndex:
    """The index: buckets in the order of their first records, names of files, and remarks on records."""

    buckets: tuple[BucketIndex, ...]
    names: tuple[str, ...]
    remarks: str


def write(chunks: Path, count: int) -> bool:
    """Write the index of all records of a dataset; return False if some are not encoded yet.

    Args:
        chunks: folder of the chunks of all processes.
        count: number of records of the dataset.

    Raises:
        EditkitError: if every record was left out.
    """
    left_out, sentence = latent_chunks.left_out(chunks)
    covered_N = np.zeros(count, bool)
    found: dict[str, _Entries] = defaultdict(_Entries)
    names: list[str] = []
    transparent = 0
    for path, header in latent_chunks.headers(chunks):
        entries, new = found[header["bucket"]], 0
        for row, index in enumerate(header["indices"]):
            if not covered_N[index]:  # else another run, which shares the cache, encoded it too
                covered_N[index] = True
                entries.indices.append(index)
                entries.chunks.append(len(names))
                entries.rows.append(row)
                new += 1
        transparent += header["transparent"] if new else 0
        names.append(path.name)
    left_out = left_out[~covered_N[left_out]]
    covered_N[left_out] = True
    if not covered_N.all():
        return False
    remarks = _remarks(len(left_out), transparent, count, sentence)
    tensors: dict[str, NDArray[Any]] = {}
    about: list[int] = []
    for entries in sorted((each for each in found.values() if each.indices), key=lambda e: min(e.indices)):
        order = np.argsort(np.frombuffer(entries.indices, np.int64), kind="stable")
        tensors[f"{len(about)}.chunks"] = np.frombuffer(entries.chunks, np.int32)[order]
        tensors[f"{len(about)}.rows"] = np.frombuffer(entries.rows, np.int16)[order]
        about.append(min(entries.indices))
    told = json.dumps({"first": about, "names": names, "remarks": remarks})
    with atomic_files.beside(chunks / FILE) as partial:
        save_file(tensors, partial, {"about": told})
    return True


def read_index(folder: Path) -> LatentIndex:
    """Read the index of a folder.

    Raises:
        EditkitError: where it is damaged or missing.
    """
    with chunk_files.read_errors(folder / FILE), safe_open(folder / FILE, "np") as file:
        about: dict[str, Any] = json.loads(file.metadata()["about"])
        buckets = tuple(
            BucketIndex(
                first=first,
                chunks_N=file.get_tensor(f"{number}.chunks"),
                rows_N=file.get_tensor(f"{number}.rows"),
            )
            for number, first in enumerate(about["first"])
        )
    return LatentIndex(buckets=buckets, names=tuple(about["names"]), remarks=about["remarks"])


def _remarks(left_out: int, transparent: int, count: int, sentence: str) -> str:
    """Say how many records were left out or changed; empty if none were.

    Raises:
        EditkitError: if every record was left out.
    """
    said = []
    if left_out:
        said.append(f"{left_out} of {count} records were left out; the first: {sentence}")
        if left_out == count:
            raise EditkitError(said[0])
    if left_out > 1:
        said.append("All are named by `editkit data check`.")
    if transparent:
        said.append(f"{transparent} of {count} records have transparent pixels, which are learnt as white.")
    return " ".join(said)
