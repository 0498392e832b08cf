"""Encode a dataset chunk by chunk into files, and continue where an earlier run was stopped."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader

from editkit import atomic_files
from editkit.data import chunk_files
from editkit.data.buckets import layout_key, shape_key
from editkit.data.chunk_files import Header
from editkit.data.datasets import CheckedDataset, Dataset
from editkit.data.records import Record, UnreachableError
from editkit.errors import EditkitError, first_sentence
from editkit.types import Plan

CHUNK, CHUNK_VALUES = 64, 64 * 128 * 128 * 3
"""Most records of a chunk, and number of pixel values at which a chunk is full."""
SPAN = 256
"""Most neighbouring records that one process encodes before it leaves as many to each other process."""
READERS, AHEAD = 8, 128
"""Most processes that read or draw records, and number of records that all of them read ahead."""
WAITING_VALUES = 256 * 1024 * 1024
"""Most pixel values of decoded records that wait for others of their shape."""
KEPT_DTYPES = {"weights_BL": torch.float32}
"""Tensors that are not kept in bf16. In bf16, a sample's weights would not sum to its share of the loss."""
LEFT_OUT = "left-out-{}.json"
"""Name of the file in which a process says which records it left out, once all of its share is encoded."""

Encode = Callable[[Sequence[Record]], tuple[Plan, dict[str, Tensor]]]
Count = Callable[[int, int], None]
"""Function that is called with the numbers of records encoded and to encode."""


class ChunkEncoder:
    """Encodes the records of a process's share of a dataset that are not in a folder of chunks yet.

    Args:
        dataset: all records.
        encode: returns the plan and tensors of records of one shape.
        kept: the cache that the chunks will become.
        chunks: folder of the chunks.
        count: called after each record.
        share: this process's number, from 0, and the number of processes that share the dataset.
        tensors: whether the tensors are kept; where False, files say only which records a bucket has.
    """

    def __init__(
        self,
        dataset: Dataset,
        encode: Encode,
        kept: Path,
        chunks: Path,
        count: Count,
        share: tuple[int, int] = (0, 1),
        tensors: bool = True,
    ) -> None:
        self.dataset, self.encode, self.kept, self.chunks = dataset, encode, kept, chunks
        self.count, self.share, self.tensors = count, share, tensors
        self.bad: dict[int, str] = {}

    def __call__(self) -> None:
        """Encode, and write which records were left out.

        Raises:
            EditkitError: if the folder cannot be written.
        """
        process, processes = self.share
        for marker in self.chunks.glob(LEFT_OUT.format("*")):
            number = int(marker.stem.rpartition("-")[2])
            if number == process or (process == 0 and number >= processes):
                marker.unlink(missing_ok=True)  # of an earlier run
        waiting: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
        for index, record in self._missing_records():
            if isinstance(record, str):
                self.bad[index] = record
                continue
            shape = shape_key(record)
            waiting[shape].append((index, record))
            if len(waiting[shape]) * record.answer.size >= CHUNK_VALUES or len(waiting[shape]) == CHUNK:
                self._write_chunk(waiting.pop(shape))
            if sum(len(each) * each[0][1].answer.size for each in waiting.values()) > WAITING_VALUES:
                self._write_chunk(waiting.pop(max(waiting, key=lambda each: len(waiting[each]))))
        for members in waiting.values():
            self._write_chunk(members)
        bad = sorted(self.bad)
        about = {"indices": bad, "first": self.bad[bad[0]] if bad else ""}
        marker = self.chunks / LEFT_OUT.format(process)
        with disk_errors(self.kept, self.chunks), atomic_files.beside(marker) as partial:
            partial.write_text(json.dumps(about))

    def _missing_records(self) -> Iterator[tuple[int, Record | str]]:
        """Read this process's records that are in no chunk; a bad one is a sentence that says why.

        Raises:
            UnreachableError: where a record cannot be fetched.
        """
        own_N = share_of(len(self.dataset), *self.share)
        total = int(own_N.sum())
        for _, header in headers(self.chunks):
            own_N[header["indices"]] = False
        missing: list[int] = np.flatnonzero(own_N).tolist()
        # Any sequence will do, despite the loader's types.
        source: Any = _ErrorsAsValues(CheckedDataset(self.dataset))
        keep_arrays: Any = _keep_arrays
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, min(READERS, cores // self.share[1]))
        loader: Iterable[Record | str | UnreachableError] = DataLoader(
            source,
            batch_size=None,
            sampler=missing,
            num_workers=workers,
            prefetch_factor=AHEAD // workers,
            collate_fn=keep_arrays,
        )
        done = total - len(missing)
        self.count(done, total)
        for number, (index, record) in enumerate(zip(missing, loader, strict=True), done + 1):
            if isinstance(record, UnreachableError):
                raise record
            yield index, record
            self.count(number, total)

    def _write_chunk(self, members: Sequence[tuple[int, Record]]) -> None:
        """Encode records of one shape, and write them to a file."""
        indices, records = zip(*members, strict=True)
        try:
            plan, tensors = self.encode(records)
        except EditkitError as error:
            if len(members) == 1:
                self.bad[indices[0]] = f"record {indices[0]}: {error}"
            else:  # one by one, to find those that the method cannot encode
                for pair in members:
                    self._write_chunk([pair])
            return
        # Pictures of different sizes can have the same canvas.
        key = records[0].task, layout_key(plan), [(name, each.shape[1:]) for name, each in tensors.items()]
        header = {
            "bucket": digest(key),
            "indices": indices,
            "instructions": [record.all_wordings for record in records],
            "transparent": sum(record.transparent > 0 for record in records),
        }
        held = {name: each.to("cpu", KEPT_DTYPES.get(name, torch.bfloat16)) for name, each in tensors.items()}
        path = self.chunks / f"{digest(indices)}.safetensors"
        with disk_errors(self.kept, self.chunks):
            chunk_files.write(path, held if self.tensors else {}, header)


def share_of(records: int, process: int, processes: int) -> NDArray[np.bool_]:
    """Say of each record whether a process encodes it; all shares are of about one size.

    Args:
        records: number of records.
        process: the process's number, from 0.
        processes: number of processes.
    """
    turns = -(-records // (processes * SPAN))
    owner_N = np.arange(records) * (processes * turns) // max(records, 1) % processes
    return np.equal(owner_N, process)


def digest(key: Any) -> str:
    """Hash a key in JSON's types."""
    text = json.dumps(key, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def headers(chunks: Path) -> Iterator[tuple[Path, Header]]:
    """Read the header of each chunk's file; skip damaged files and those that another process removes."""
    for path in sorted(chunks.glob("*.safetensors")):
        with suppress(EditkitError), chunk_files.opened(path) as chunk:
            yield path, chunk.header


def left_out(chunks: Path) -> tuple[NDArray[np.int64], str]:
    """Return the indices of all records that processes left out, and the first one's sentence."""
    found: dict[int, str] = {}
    for marker in chunks.glob(LEFT_OUT.format("*")):
        with suppress(OSError, ValueError):
            about = json.loads(marker.read_text())
            found |= dict.fromkeys(about["indices"], about["first"])
    indices = np.array(sorted(found), np.int64)
    return indices, found[int(indices[0])] if len(indices) else ""


@contextmanager
def disk_errors(kept: Path, chunks: Path) -> Iterator[None]:
    """Say in one sentence why files cannot be written, unless another process has made `kept` already."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            chunks.rmdir()  # fails unless it is empty
        if kept.is_dir():
            return
        problem = first_sentence(error)
        raise EditkitError(
            f"Latents cannot be kept in {kept.parent} ({problem}); free some space or give another cache."
        ) from error


class _ErrorsAsValues:
    """Returns an UnreachableError instead of raising it, since a worker would add its traceback."""

    def __init__(self, dataset: CheckedDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Record | str | UnreachableError:
        try:
            return self.dataset[index]
        except UnreachableError as error:
            return error


def _keep_arrays(record: Record | str) -> Record | str:
    """Return a record as it is: as tensors, its pictures would fill the workers' shared memory."""
    return record
