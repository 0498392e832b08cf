"""Arranged plans and target latents, computed once for a dataset and kept on disk."""

import hashlib
import json
import os
import shutil
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from editkit.data.datasets import Dataset
from editkit.data.records import MixedConfig, Record
from editkit.errors import EditkitError, EditkitWarning, first_sentence
from editkit.method import Backbone, Conditioner, Trainer
from editkit.types import EditInputs, Plan

CHUNK, CHUNK_VALUES = 64, 64 * 128 * 128 * 3
"""Records that are encoded together: so many, or so many values of their pictures."""
WAITING_VALUES = 256 * 1024 * 1024
"""Values of decoded pictures that wait for others of their size."""
VERSION = 3
"""Of the files' meaning."""
KEPT = {"weights_BL": torch.float32}
"""What is not kept in bf16: in it a sample's weights would not sum to what it counts."""
LEFT_OUT = "left out.txt"
"""The file that says which records are not there; empty where all are."""
SLOTS = ("channel_BLC", "sequence_BSC")


@dataclass(frozen=True, kw_only=True)
class EditBatch:
    """What one training step needs.

    Attributes:
        plan: arranged, without text.
        x0_BLC: packed latents of the whole canvas as it should come out.
        worded: for samples that share a plan of their own, that plan and their instructions, reworded by the
            method's trainer.
        weights_BL: loss weights, or None.
        seeds: one per sample, for its noise and time.
        places: where each sample's own tokens are, where the batch is padded.
        mixed: how its dataset is mixed in.
    """

    plan: Plan
    x0_BLC: Tensor
    worded: list[tuple[Plan, list[str]]]
    weights_BL: Tensor | None
    seeds: list[int]
    places: list[Tensor] | None = None
    mixed: MixedConfig = field(default_factory=MixedConfig)


@dataclass(kw_only=True)
class Bucket:
    """Samples that share a canvas and slots, stacked; `mixed` as in `EditBatch`."""

    plan: Plan
    tensors: dict[str, Tensor]
    instructions: list[str]
    mixed: MixedConfig = field(default_factory=MixedConfig)

    def take(self, places: Sequence[int], device: torch.device) -> tuple[Plan, dict[str, Tensor]]:
        """The plan and tensors of some samples, on the device that trains."""
        chosen = {name: tensor[list(places)].to(device).float() for name, tensor in self.tensors.items()}
        slots: dict[str, Any] = {name: chosen[name] for name in SLOTS if name in chosen}
        return replace(self.plan, conditioning=replace(self.plan.conditioning, **slots)), chosen


def collate(records: Sequence[Record]) -> tuple[EditInputs, Tensor]:
    """Records of one shape as inputs and answers BCHW in [0, 1]."""

    def stack(pictures: Sequence[Any]) -> Tensor:
        return torch.stack([torch.from_numpy(p) for p in pictures]).permute(0, 3, 1, 2).float() / 255

    first = records[0]
    height, width = first.answer.shape[:2]
    inputs = EditInputs(
        prompts=tuple(record.instruction for record in records),
        task=first.task,
        size=None if first.source is not None else (width, height),
        source_BCHW=stack([r.source for r in records]) if first.source is not None else None,
        mask_B1HW=stack([r.mask[..., None] for r in records if r.mask is not None])
        if first.mask is not None
        else None,
        references=tuple(stack(pictures) for pictures in zip(*(r.references for r in records), strict=True)),
    )
    return inputs, stack([record.answer for record in records])


def shape_of(record: Record) -> tuple[Any, ...]:
    """What records must share to stand in one batch."""
    pictures = (record.source, record.mask, record.answer, *record.references)
    return record.task, *(None if picture is None else picture.shape for picture in pictures)


@torch.no_grad()
def arrange(
    records: Sequence[Record], backbone: Backbone, conditioner: Conditioner, trainer: Trainer
) -> tuple[Plan, dict[str, Tensor]]:
    """The plan of some records and what is stacked of it: x0, filled slots, loss weights."""
    inputs, answer_BCHW = collate(records)
    plan = conditioner.arrange(inputs)
    tensors = {"x0_BLC": conditioner.target_tokens(inputs, answer_BCHW)}
    tensors |= {name: slot for name in SLOTS if (slot := getattr(plan.conditioning, name)) is not None}
    weights_BL = trainer.weights(plan, inputs)
    return plan, tensors | ({"weights_BL": weights_BL} if weights_BL is not None else {})


def buckets(
    dataset: Dataset, backbone: Backbone, conditioner: Conditioner, trainer: Trainer, key: Any, folder: Path
) -> list[Bucket]:
    """All of a dataset, from disk where the same dataset, weights and options were arranged before.

    Args:
        key: everything JSON-able that the latents depend on.
        folder: where they are kept.
    """
    digest = hashlib.blake2b(
        json.dumps([VERSION, key], sort_keys=True, default=str).encode(), digest_size=12
    ).hexdigest()
    kept = folder / f"latents-{digest}"
    if not kept.is_dir():
        _write(kept, *_arrange_all(dataset, backbone, conditioner, trainer))
    if said := (kept / LEFT_OUT).read_text():
        warnings.warn(said, EditkitWarning, stacklevel=2)
    loaded = []
    for path in sorted(kept.glob("*.json")):
        about = json.loads(path.read_text())
        plan, _ = arrange([dataset[about["first"]]], backbone, conditioner, trainer)
        tensors = load_file(path.with_suffix(".safetensors"))
        loaded.append(Bucket(plan=plan, tensors=tensors, instructions=about["instructions"]))
    return loaded


def _arrange_all(
    dataset: Dataset, backbone: Backbone, conditioner: Conditioner, trainer: Trainer
) -> tuple[list[tuple[dict[str, Any], dict[str, Tensor]]], str]:
    """For each shape: what is said about its bucket, and its stacked tensors; and what was left out."""
    source: Any = Guarded(dataset)  # any sequence serves; torch's Dataset is no base class of ours
    as_it_is: Any = _as_it_is  # records stay numpy arrays, so that workers share no tensors
    workers = min(2, os.cpu_count() or 1)
    loader: Iterable[Record | str] = DataLoader(
        source, batch_size=None, num_workers=workers, prefetch_factor=CHUNK, collate_fn=as_it_is
    )
    about: dict[tuple[Any, ...], dict[str, Any]] = {}
    waiting: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
    parts: dict[tuple[Any, ...], list[dict[str, Tensor]]] = defaultdict(list)
    bad: list[str] = []

    def encode(chunk: Sequence[tuple[int, Record]]) -> None:
        indices, records = zip(*chunk, strict=True)
        try:
            # Kept in bf16, so they may be computed in it.
            with torch.autocast(backbone.device.type, torch.bfloat16):
                plan, tensors = arrange(records, backbone, conditioner, trainer)
        except EditkitError as error:
            if len(chunk) == 1:
                bad.append(f"record {indices[0]}: {error}")
            else:  # one by one, to tell which the method cannot arrange
                for pair in chunk:
                    encode([pair])
            return
        # Pictures of different sizes may come to stand on the same canvas.
        key = records[0].task, _laid_out(plan), *((name, each.shape[1:]) for name, each in tensors.items())
        bucket = about.setdefault(key, {"first": indices[0], "instructions": []})
        bucket["instructions"] += [record.instruction for record in records]
        parts[key].append(
            {name: tensor.to("cpu", KEPT.get(name, torch.bfloat16)) for name, tensor in tensors.items()}
        )

    for index, record in enumerate(track(loader, "encoding", total=len(dataset))):
        if isinstance(record, str):
            bad.append(record)
            continue
        shape = shape_of(record)
        waiting[shape].append((index, record))
        if len(waiting[shape]) * record.answer.size >= CHUNK_VALUES or len(waiting[shape]) == CHUNK:
            encode(waiting.pop(shape))
        if sum(len(each) * each[0][1].answer.size for each in waiting.values()) > WAITING_VALUES:
            encode(waiting.pop(max(waiting, key=lambda each: len(waiting[each]))))
    for chunk in waiting.values():
        encode(chunk)
    said = f"{len(bad)} of {len(dataset)} records were left out; the first: {bad[0]}" if bad else ""
    if not about:
        raise EditkitError(said)
    return [
        (about[s], {name: torch.cat([p[name] for p in parts[s]]) for name in parts[s][0]}) for s in about
    ], said


def _laid_out(plan: Plan) -> tuple[Any, ...]:
    """What samples of one bucket must share besides the shapes of their tensors."""
    ids = (plan.conditioning.ids_L3, plan.conditioning.sequence_ids_S3)
    places = tuple(None if each is None else tuple(each.flatten().tolist()) for each in ids)
    return plan.canvas.width, plan.canvas.height, plan.canvas.answer, places


def _as_it_is(record: Record | str) -> Record | str:
    return record


class Guarded:
    """A dataset whose bad records are the sentences that say what is wrong with them.

    An exception in a worker would end the run, with the worker's traceback for its message.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | str:
        try:
            return self.dataset[index]
        except EditkitError as error:
            return str(error)


def _write(folder: Path, filled: list[tuple[dict[str, Any], dict[str, Tensor]]], said: str) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for number, (about, tensors) in enumerate(filled):
            save_file(tensors, partial / f"{number:04d}.safetensors")
            (partial / f"{number:04d}.json").write_text(json.dumps(about))
        (partial / LEFT_OUT).write_text(said)
        if not folder.is_dir():  # which another process may have been faster to make
            os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if folder.is_dir():
            return
        problem = first_sentence(error)
        raise EditkitError(
            f"Latents cannot be kept in {folder.parent} ({problem}); free some space or give another cache."
        ) from error
