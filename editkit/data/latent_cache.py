"""Encode a dataset once, by all processes together, into a cache that steps read from.

A cache is a folder of small files (`chunk_files`) with an index (`latent_index`). Steps read the rows that
they need; memory holds the index alone. With `latents: on_the_fly` the files say only which records a
bucket has, and each step encodes its own pictures.
"""

import os
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data import latent_chunks, latent_index
from editkit.data.buckets import Bucket, encode_records, shape_key
from editkit.data.datasets import Dataset
from editkit.data.fresh_samples import FreshSamples
from editkit.data.latent_chunks import ChunkEncoder, Count, digest
from editkit.data.records import Record
from editkit.data.samples import Samples, StoredSamples
from editkit.errors import EditkitError, EditkitWarning
from editkit.method import Conditioner, Trainer
from editkit.precision import bf16_pays
from editkit.types import Plan

VERSION = 5
"""Version of the files' meaning; a new one makes older caches unused."""
POLL = 0.5
"""Seconds between looks at what the other processes have encoded."""


class LatentCache:
    """The cache of one dataset under one method.

    Args:
        dataset: all records.
        backbone: encodes pictures.
        conditioner: arranges them.
        trainer: gives loss weights.
        key: everything that the latents depend on, in JSON's types.
        folder: folder of all caches.
        count: called with the numbers of records encoded and to encode, after each record.
        share: this process's number, from 0, and the number of processes that share the encoding.
        fresh: whether each step encodes its own pictures, sampling the autoencoder's posterior.
    """

    def __init__(
        self,
        dataset: Dataset,
        backbone: Backbone,
        conditioner: Conditioner[Options],
        trainer: Trainer[Options],
        *,
        key: Any,
        folder: Path,
        count: Count = lambda done, total: None,
        share: tuple[int, int] = (0, 1),
        fresh: bool = False,
    ) -> None:
        self.dataset, self.backbone, self.conditioner, self.trainer = dataset, backbone, conditioner, trainer
        self.count, self.share, self.fresh = count, share, fresh
        name = f"latents-{digest([VERSION, key])}" if not fresh else f"sizes-{digest([VERSION, key])}"
        self.kept, self.chunks = folder / name, folder / f"{name}.chunks"
        self._layouts: dict[Any, tuple[Plan, dict[str, Tensor]]] = {}

    def buckets(self) -> list[Bucket]:
        """Return the dataset's buckets; what is not encoded yet is encoded first.

        Encoding goes chunk by chunk, so that a stopped run continues. Each process encodes its share, and
        the first one writes the index when all are done.

        Raises:
            EditkitError: if no record can be read and encoded, or the cache cannot be written or read.
        """
        if not self.kept.is_dir():
            parts = self.dataset, self._layout if self.fresh else self._encode, self.kept, self.chunks
            ChunkEncoder(*parts, self.count, self.share, tensors=not self.fresh)()
            self._complete()
        if self.share[0] == 0:
            shutil.rmtree(self.chunks, ignore_errors=True)
        index = latent_index.read_index(self.kept)
        if index.remarks:
            warnings.warn(index.remarks, EditkitWarning, stacklevel=2)
        paths = [self.kept / name for name in index.names]
        found = []
        for each in index.buckets:
            plan, _ = self._encode([self.dataset[each.first]], low=False)
            stored = StoredSamples(paths, each.chunks_N, each.rows_N)
            samples: Samples = FreshSamples(stored, self.dataset, self._sampled) if self.fresh else stored
            found.append(Bucket(plan=plan, samples=samples))
        return found

    def _complete(self) -> None:
        """Wait until all records are encoded, write the index, and move the chunks into the cache."""
        while not self.kept.is_dir():
            if self.share[0] == 0 and self._indexed():
                with latent_chunks.disk_errors(self.kept, self.chunks):
                    os.replace(self.chunks, self.kept)
            else:
                time.sleep(POLL)

    def _indexed(self) -> bool:
        try:
            with latent_chunks.disk_errors(self.kept, self.chunks):
                return latent_index.write(self.chunks, len(self.dataset))
        except EditkitError:
            if not any(self.chunks.glob("*.safetensors")):
                shutil.rmtree(self.chunks, ignore_errors=True)  # as every record was left out
            raise
        return True

    @torch.no_grad()
    def _encode(self, records: Sequence[Record], low: bool = True) -> tuple[Plan, dict[str, Tensor]]:
        # The cache holds bf16, so the latents may be computed in it.
        kind = self.backbone.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=low and bf16_pays(kind)):
            return encode_records(records, self.backbone, self.conditioner, self.trainer)

    def _layout(self, records: Sequence[Record]) -> tuple[Plan, dict[str, Tensor]]:
        """Return the plan and shapes of records, of which the first of its shape is encoded."""
        shape = shape_key(records[0])
        if shape not in self._layouts:
            plan, tensors = self._encode(records[:1])
            self._layouts[shape] = plan, tensors
        return self._layouts[shape]

    def _sampled(self, records: Sequence[Record], generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        with self.backbone.sampled_latents(generators):
            return self._encode(records)[1]
