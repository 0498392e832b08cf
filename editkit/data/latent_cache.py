"""Cache a dataset's latents on disk, so that they are computed once."""

import json
import os
import shutil
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data import latent_chunks
from editkit.data.buckets import Bucket, encode_records
from editkit.data.datasets import Dataset
from editkit.data.latent_chunks import ChunkEncoder, Count, Header, digest
from editkit.data.records import Record
from editkit.errors import EditkitWarning
from editkit.method import Conditioner, Trainer
from editkit.precision import bf16_pays
from editkit.types import Plan

VERSION = 4
"""Version of the files' meaning; a new one makes older caches unused."""
LEFT_OUT = "left out.txt"
"""The file that says which records were left out or changed; empty if none were."""


def load_or_encode(
    dataset: Dataset,
    backbone: Backbone,
    conditioner: Conditioner[Options],
    trainer: Trainer[Options],
    key: Any,
    folder: Path,
    count: Count = lambda done, total: None,
) -> list[Bucket]:
    """Return a dataset's buckets: from the cache if they are there, otherwise encode and cache them.

    Encoding goes chunk by chunk, so that a stopped run continues. Several processes may do this at once: each
    encodes everything, and the first to finish keeps it.

    Args:
        key: everything that the latents depend on, in JSON's types.
        folder: the cache.
        count: called with the numbers of records encoded and to encode, after each record.

    Raises:
        EditkitError: if no record can be read and encoded, or the cache cannot be written.
    """
    kept = folder / f"latents-{digest([VERSION, key])}"
    chunks = kept.with_suffix(".chunks")

    def encode(records: Sequence[Record]) -> tuple[Plan, dict[str, Tensor]]:
        # The cache holds bf16, so the latents may be computed in it.
        kind = backbone.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=bf16_pays(kind)):
            return encode_records(records, backbone, conditioner, trainer)

    if not kept.is_dir():
        remarks = ChunkEncoder(dataset, encode, kept, chunks, count)()
        with latent_chunks.disk_errors(kept, chunks):
            _join(chunks, kept, remarks)
    shutil.rmtree(chunks, ignore_errors=True)
    if remarks := (kept / LEFT_OUT).read_text():
        warnings.warn(remarks, EditkitWarning, stacklevel=2)
    loaded = []
    for path in sorted(kept.glob("*.json")):
        about = json.loads(path.read_text())
        plan, _ = encode_records([dataset[about["first"]]], backbone, conditioner, trainer)
        tensors = load_file(path.with_suffix(".safetensors"))
        loaded.append(Bucket(plan=plan, tensors=tensors, instructions=about["instructions"]))
    return loaded


def _join(chunks: Path, kept: Path, remarks: str) -> None:
    """Join the chunks of each bucket, records in the dataset's order, and move them into the cache."""
    by_bucket: dict[str, list[tuple[Path, Header]]] = defaultdict(list)
    for path, header in latent_chunks.headers(chunks):
        by_bucket[header["bucket"]].append((path, header))
    partial = chunks / os.urandom(8).hex()  # removed with the chunks if this process is killed
    partial.mkdir()
    for members in by_bucket.values():
        instructions = {
            index: instruction
            for _, header in members
            for index, instruction in zip(header["indices"], header["instructions"], strict=True)
        }
        order = sorted(instructions)
        places = {index: place for place, index in enumerate(order)}
        tensors: dict[str, Tensor] = {}
        for path, header in members:
            for name, tensor in load_file(path).items():
                whole = tensors.setdefault(name, tensor.new_empty(len(order), *tensor.shape[1:]))
                whole[[places[index] for index in header["indices"]]] = tensor
        save_file(tensors, partial / f"{order[0]:09d}.safetensors")
        bucket = {"first": order[0], "instructions": [instructions[index] for index in order]}
        (partial / f"{order[0]:09d}.json").write_text(json.dumps(bucket))
    (partial / LEFT_OUT).write_text(remarks)
    os.replace(partial, kept)
