"""Encode a dataset chunk by chunk into files, and continue where an earlier run was stopped."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from editkit import atomic_files
from editkit.data.buckets import layout_key, shape_key
from editkit.data.datasets import CheckedDataset, Dataset
from editkit.data.records import Record
from editkit.errors import EditkitError, first_sentence
from editkit.types import Plan

CHUNK, CHUNK_VALUES = 64, 64 * 128 * 128 * 3
"""Most records of a chunk, and number of pixel values at which a chunk is full."""
READERS, AHEAD = 8, 128
"""Most processes that read or draw records, and number of records that all of them read ahead."""
WAITING_VALUES = 256 * 1024 * 1024
"""Most pixel values of decoded records that wait for others of their shape."""
KEPT_DTYPES = {"weights_BL": torch.float32}
"""Tensors that are not kept in bf16. In bf16, a sample's weights would not sum to its share of the loss."""

Encode = Callable[[Sequence[Record]], tuple[Plan, dict[str, Tensor]]]
Count = Callable[[int, int], None]
"""Function that is called with the numbers of records encoded and to encode."""
Header = dict[str, Any]
"""What a chunk's file says about itself: bucket, indices, instructions, number of transparent records."""


class ChunkEncoder:
    """Encodes the records of a dataset that are not in a folder of chunks yet.

    Args:
        dataset: all records.
        encode: returns the plan and tensors of records of one shape.
        kept: the cache that the chunks will be joined into.
        chunks: folder of the chunks.
        count: called after each record.
    """

    def __init__(self, dataset: Dataset, encode: Encode, kept: Path, chunks: Path, count: Count) -> None:
        self.dataset, self.encode, self.kept, self.chunks = dataset, encode, kept, chunks
        self.count = count
        self.bad: list[str] = []

    def __call__(self) -> str:
        """Encode, and return remarks on records that were left out or changed; empty if none were.

        Raises:
            EditkitError: if every record was left out, or the folder cannot be written.
        """
        waiting: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
        for index, record in self._missing_records():
            if isinstance(record, str):
                self.bad.append(record)
                continue
            shape = shape_key(record)
            waiting[shape].append((index, record))
            if len(waiting[shape]) * record.answer.size >= CHUNK_VALUES or len(waiting[shape]) == CHUNK:
                self._write_chunk(waiting.pop(shape))
            if sum(len(each) * each[0][1].answer.size for each in waiting.values()) > WAITING_VALUES:
                self._write_chunk(waiting.pop(max(waiting, key=lambda each: len(waiting[each]))))
        for members in waiting.values():
            self._write_chunk(members)
        return " ".join(filter(None, (self._left_out(), self._transparent())))

    def _left_out(self) -> str:
        if not self.bad:
            return ""
        count = len(self.dataset)
        remark = f"{len(self.bad)} of {count} records were left out; the first: {self.bad[0]}"
        if len(self.bad) == count:
            raise EditkitError(remark)
        return f"{remark} All are named by `editkit data check`." if len(self.bad) > 1 else remark

    def _transparent(self) -> str:
        count = sum(header.get("transparent", 0) for _, header in headers(self.chunks))
        remark = f"{count} of {len(self.dataset)} records have transparent pixels, which are learnt as white."
        return remark if count else ""

    def _missing_records(self) -> Iterator[tuple[int, Record | str]]:
        """Read the records that are in no chunk; a bad one is the sentence that says what is wrong."""
        done = {index for _, header in headers(self.chunks) for index in header["indices"]}
        missing = [index for index in range(len(self.dataset)) if index not in done]
        source: Any = CheckedDataset(self.dataset)  # any sequence will do, despite the loader's types
        keep_arrays: Any = _keep_arrays
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(READERS, cores)
        loader: Iterable[Record | str] = DataLoader(
            source,
            batch_size=None,
            sampler=missing,
            num_workers=workers,
            prefetch_factor=AHEAD // workers,
            collate_fn=keep_arrays,
        )
        self.count(len(done), len(self.dataset))
        for number, (index, record) in enumerate(zip(missing, loader, strict=True), len(done) + 1):
            yield index, record
            self.count(number, len(self.dataset))

    def _write_chunk(self, members: Sequence[tuple[int, Record]]) -> None:
        """Encode records of one shape, and write them to a file."""
        indices, records = zip(*members, strict=True)
        try:
            plan, tensors = self.encode(records)
        except EditkitError as error:
            if len(members) == 1:
                self.bad.append(f"record {indices[0]}: {error}")
            else:  # one by one, to find those that the method cannot encode
                for pair in members:
                    self._write_chunk([pair])
            return
        # Pictures of different sizes can have the same canvas.
        key = records[0].task, layout_key(plan), [(name, each.shape[1:]) for name, each in tensors.items()]
        header = {
            "bucket": digest(key),
            "indices": indices,
            "instructions": [record.instruction for record in records],
            "transparent": sum(record.transparent > 0 for record in records),
        }
        held = {name: each.to("cpu", KEPT_DTYPES.get(name, torch.bfloat16)) for name, each in tensors.items()}
        path = self.chunks / f"{digest(indices)}.safetensors"
        with disk_errors(self.kept, self.chunks), atomic_files.beside(path) as partial:
            save_file(held, partial, {"about": json.dumps(header)})


def digest(key: Any) -> str:
    """Hash a key in JSON's types."""
    text = json.dumps(key, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def headers(chunks: Path) -> Iterator[tuple[Path, Header]]:
    """Read the header of each chunk's file; skip damaged files and those that another process removes."""
    for path in chunks.glob("*.safetensors"):
        with suppress(FileNotFoundError, SafetensorError), safe_open(path, "pt") as file:
            yield path, json.loads(file.metadata()["about"])


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


def _keep_arrays(record: Record | str) -> Record | str:
    """Return a record as it is: as tensors, its pictures would fill the workers' shared memory."""
    return record
