"""A dataset's latents, computed once and kept on disk: chunk by chunk, so that what was stopped goes on."""

import hashlib
import json
import os
import shutil
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from editkit import atomic_files
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data.buckets import Bucket, encode_records, laid_out, shape_of
from editkit.data.datasets import Dataset, Guarded
from editkit.data.records import Record
from editkit.errors import EditkitError, EditkitWarning, first_sentence
from editkit.method import Conditioner, Trainer
from editkit.precision import bf16_pays
from editkit.types import Plan

CHUNK, CHUNK_VALUES = 64, 64 * 128 * 128 * 3
"""Records that are encoded together: so many, or so many values of their pictures."""
READERS, AHEAD = 8, 128
"""Processes that read or draw records, at most, and records that they are ahead by, all together."""
WAITING_VALUES = 256 * 1024 * 1024
"""Values of decoded pictures that wait for others of their size."""
VERSION = 4
"""Of the files' meaning."""
KEPT = {"weights_BL": torch.float32}
"""What is not kept in bf16: in it a sample's weights would not sum to what it counts."""
LEFT_OUT = "left out.txt"
"""The file that says which records are not there or had to be changed; empty where all are as they were."""

Arrange = Callable[[Sequence[Record]], tuple[Plan, dict[str, Tensor]]]
Count = Callable[[int, int], None]
"""Function that is called with the numbers of records encoded and to encode."""


def buckets(
    dataset: Dataset,
    backbone: Backbone,
    conditioner: Conditioner[Options],
    trainer: Trainer[Options],
    key: Any,
    folder: Path,
    count: Count = lambda done, total: None,
) -> list[Bucket]:
    """All of a dataset, from disk where the same dataset, weights and options were arranged before.

    Several processes may do this at once; each encodes all, and one of them keeps it.

    Args:
        key: everything JSON-able that the latents depend on.
        folder: where they are kept.
        count: called after each record.

    Raises:
        EditkitError: where nothing of it can be read and arranged, or kept.
    """
    kept = folder / f"latents-{_digest([VERSION, key])}"
    chunks = kept.with_suffix(".chunks")

    def arranged(records: Sequence[Record]) -> tuple[Plan, dict[str, Tensor]]:
        # Kept in bf16, so they may be computed in it.
        kind = backbone.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=bf16_pays(kind)):
            return encode_records(records, backbone, conditioner, trainer)

    if not kept.is_dir():
        said = Encoder(dataset, arranged, kept, chunks, count)()
        with _room(kept, chunks):
            _join(chunks, kept, said)
    shutil.rmtree(chunks, ignore_errors=True)
    if said := (kept / LEFT_OUT).read_text():
        warnings.warn(said, EditkitWarning, stacklevel=2)
    loaded = []
    for path in sorted(kept.glob("*.json")):
        about = json.loads(path.read_text())
        plan, _ = encode_records([dataset[about["first"]]], backbone, conditioner, trainer)
        tensors = load_file(path.with_suffix(".safetensors"))
        loaded.append(Bucket(plan=plan, tensors=tensors, instructions=about["instructions"]))
    return loaded


class Encoder:
    """Encodes what of a dataset is not in a folder of chunks yet.

    Args:
        dataset: all records.
        arranged: gives the plan and tensors of records of one shape.
        kept: where the chunks will stand together.
        chunks: the folder.
        count: called after each record.
    """

    def __init__(self, dataset: Dataset, arranged: Arrange, kept: Path, chunks: Path, count: Count) -> None:
        self.dataset, self.arranged, self.kept, self.chunks = dataset, arranged, kept, chunks
        self.count = count
        self.bad: list[str] = []

    def __call__(self) -> str:
        """Encode, and say what was left out or changed; nothing where nothing was.

        Raises:
            EditkitError: where everything was, or the folder cannot be written.
        """
        waiting: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
        for index, record in self._records():
            if isinstance(record, str):
                self.bad.append(record)
                continue
            shape = shape_of(record)
            waiting[shape].append((index, record))
            if len(waiting[shape]) * record.answer.size >= CHUNK_VALUES or len(waiting[shape]) == CHUNK:
                self.chunk(waiting.pop(shape))
            if sum(len(each) * each[0][1].answer.size for each in waiting.values()) > WAITING_VALUES:
                self.chunk(waiting.pop(max(waiting, key=lambda each: len(waiting[each]))))
        for members in waiting.values():
            self.chunk(members)
        return " ".join(filter(None, (self._left_out(), self._shown_on_white())))

    def _left_out(self) -> str:
        if not self.bad:
            return ""
        count = len(self.dataset)
        said = f"{len(self.bad)} of {count} records were left out; the first: {self.bad[0]}"
        if len(self.bad) == count:
            raise EditkitError(said)
        return f"{said} All are named by `editkit data check`." if len(self.bad) > 1 else said

    def _shown_on_white(self) -> str:
        count = sum(about.get("transparent", 0) for _, about in _read(self.chunks))
        told = f"{count} of {len(self.dataset)} records have transparent pixels, which are learnt as white."
        return told if count else ""

    def _records(self) -> Iterator[tuple[int, Record | str]]:
        """Those that are in no chunk, or what is wrong with them."""
        done = {index for _, about in _read(self.chunks) for index in about["indices"]}
        missing = [index for index in range(len(self.dataset)) if index not in done]
        source: Any = Guarded(self.dataset)  # any sequence serves; torch's Dataset is no base class of ours
        as_it_is: Any = _as_it_is  # records stay numpy arrays, so that workers share no tensors
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(READERS, cores)
        loader: Iterable[Record | str] = DataLoader(
            source,
            batch_size=None,
            sampler=missing,
            num_workers=workers,
            prefetch_factor=AHEAD // workers,
            collate_fn=as_it_is,
        )
        self.count(len(done), len(self.dataset))
        for number, (index, record) in enumerate(zip(missing, loader, strict=True), len(done) + 1):
            yield index, record
            self.count(number, len(self.dataset))

    def chunk(self, members: Sequence[tuple[int, Record]]) -> None:
        """Encode records of one shape, and keep them in a file."""
        indices, records = zip(*members, strict=True)
        try:
            plan, tensors = self.arranged(records)
        except EditkitError as error:
            if len(members) == 1:
                self.bad.append(f"record {indices[0]}: {error}")
            else:  # one by one, to tell which the method cannot encode
                for pair in members:
                    self.chunk([pair])
            return
        # Pictures of different sizes may come to stand on the same canvas.
        key = records[0].task, laid_out(plan), [(name, each.shape[1:]) for name, each in tensors.items()]
        about = {
            "bucket": _digest(key),
            "indices": indices,
            "instructions": [record.instruction for record in records],
            "transparent": sum(record.transparent > 0 for record in records),
        }
        held = {name: each.to("cpu", KEPT.get(name, torch.bfloat16)) for name, each in tensors.items()}
        path = self.chunks / f"{_digest(indices)}.safetensors"
        with _room(self.kept, self.chunks), atomic_files.beside(path) as partial:
            save_file(held, partial, {"about": json.dumps(about)})


def _as_it_is(record: Record | str) -> Record | str:
    return record


def _digest(key: Any) -> str:
    told = json.dumps(key, sort_keys=True, default=str)
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


def _read(chunks: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of chunks and what they say about themselves, but for damaged ones and those that go."""
    for path in chunks.glob("*.safetensors"):
        with suppress(FileNotFoundError, SafetensorError), safe_open(path, "pt") as file:
            yield path, json.loads(file.metadata()["about"])


def _join(chunks: Path, kept: Path, said: str) -> None:
    """Put chunks of one bucket together, each record at its place, whatever order they were encoded in."""
    together: dict[str, list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
    for path, about in _read(chunks):
        together[about["bucket"]].append((path, about))
    partial = chunks / os.urandom(8).hex()  # where it goes with them if this process is killed
    partial.mkdir()
    for members in together.values():
        words = {
            index: words
            for _, about in members
            for index, words in zip(about["indices"], about["instructions"], strict=True)
        }
        order = sorted(words)
        places = {index: place for place, index in enumerate(order)}
        tensors: dict[str, Tensor] = {}
        for path, about in members:
            for name, tensor in load_file(path).items():
                whole = tensors.setdefault(name, tensor.new_empty(len(order), *tensor.shape[1:]))
                whole[[places[index] for index in about["indices"]]] = tensor
        save_file(tensors, partial / f"{order[0]:09d}.safetensors")
        bucket = {"first": order[0], "instructions": [words[index] for index in order]}
        (partial / f"{order[0]:09d}.json").write_text(json.dumps(bucket))
    (partial / LEFT_OUT).write_text(said)
    os.replace(partial, kept)


@contextmanager
def _room(kept: Path, chunks: Path) -> Iterator[None]:
    """Says why files cannot be written, unless another process was faster to make what they are for."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            chunks.rmdir()  # which goes only where it is empty
        if kept.is_dir():
            return
        problem = first_sentence(error)
        raise EditkitError(
            f"Latents cannot be kept in {kept.parent} ({problem}); free some space or give another cache."
        ) from error
