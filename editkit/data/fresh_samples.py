"""Samples whose pictures are read and encoded by each step, with the posterior sampled anew."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from editkit.data import chunk_files
from editkit.data.buckets import shape_key
from editkit.data.datasets import Dataset
from editkit.data.records import Record
from editkit.data.samples import StoredSamples, Wordings

READERS = 8
"""Number of records of a batch that are read at once."""

Encode = Callable[[Sequence[Record], Sequence[torch.Generator]], dict[str, Tensor]]


class FreshSamples:
    """Samples of a bucket that are encoded when they are read.

    Args:
        places: says which records the bucket has.
        dataset: all records.
        encode: encodes records of one shape, with a generator for each one's posterior.
    """

    def __init__(self, places: StoredSamples, dataset: Dataset, encode: Encode) -> None:
        self.places, self.dataset, self.encode = places, dataset, encode
        self._readers = ThreadPoolExecutor(READERS)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, places: Sequence[int], seeds: Sequence[int]) -> tuple[dict[str, Tensor], list[Wordings]]:
        records = list(self._readers.map(lambda place: self.dataset[self._index(place)], places))
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, record in enumerate(records):
            alike[shape_key(record)].append(number)
        rows: dict[int, dict[str, Tensor]] = {}
        for numbers in alike.values():
            # Another stream than the noise's, which is drawn from the seed itself.
            generators = [torch.Generator().manual_seed(hash((seeds[n], 1)) % 2**63) for n in numbers]
            encoded = self.encode([records[number] for number in numbers], generators)
            for row, number in enumerate(numbers):
                rows[number] = {name: tensor[row] for name, tensor in encoded.items()}
        tensors = {name: torch.stack([rows[n][name] for n in range(len(records))]) for name in rows[0]}
        return tensors, [record.all_wordings for record in records]

    def wordings(self) -> Iterator[Wordings]:
        return self.places.wordings()

    def _index(self, place: int) -> int:
        """Return the index of a sample's record in the dataset."""
        path, row = self.places.place(place)
        with chunk_files.opened(path) as chunk:
            return int(chunk.header["indices"][row])
