"""The samples of a bucket: tensors and instructions, read from files when a step needs them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from editkit.data import chunk_files

Wordings = tuple[str, ...]
"""All wordings of one record's instruction."""


class Samples(Protocol):
    """Samples by place."""

    def __len__(self) -> int: ...

    def read(self, places: Sequence[int], seeds: Sequence[int]) -> tuple[dict[str, Tensor], list[Wordings]]:
        """Read the tensors and instructions of some samples; `seeds` are for what is drawn anew."""

    def wordings(self) -> Iterator[Wordings]:
        """Read the instructions of all samples, in no particular order."""


class StoredSamples:
    """Samples in the files of chunks; memory holds their places alone, 6 bytes a sample.

    Args:
        paths: the files of the chunks.
        chunks_N: number of each sample's file in `paths`.
        rows_N: row of each sample in its file.
    """

    def __init__(self, paths: Sequence[Path], chunks_N: NDArray[np.int32], rows_N: NDArray[np.int16]) -> None:
        self.paths, self.chunks_N, self.rows_N = paths, chunks_N, rows_N

    def __len__(self) -> int:
        return len(self.rows_N)

    def read(self, places: Sequence[int], seeds: Sequence[int]) -> tuple[dict[str, Tensor], list[Wordings]]:
        found: list[dict[str, Tensor]] = []
        wordings: list[Wordings] = []
        for place in places:
            path, row = self.place(place)
            with chunk_files.opened(path) as chunk:
                found.append(chunk.row(row))
                wordings.append(chunk.wordings[row])
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}, wordings

    def wordings(self) -> Iterator[Wordings]:
        for number in np.unique(self.chunks_N):
            with chunk_files.opened(self.paths[number]) as chunk:
                for row in self.rows_N[self.chunks_N == number].tolist():
                    yield chunk.wordings[row]

    def place(self, place: int) -> tuple[Path, int]:
        """Return the file and the row of a sample."""
        return self.paths[self.chunks_N[place]], int(self.rows_N[place])
