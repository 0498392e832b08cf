"""Records to encode, and what is encoded of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from editkit.data.buckets import Bucket
from editkit.data.records import Record

Encode = Callable[..., list[Bucket]]


def words_of(filled: Sequence[Bucket]) -> list[str]:
    return [words for bucket in filled for each in bucket.samples.wordings() for words in each]


def tensors_of(bucket: Bucket) -> dict[str, torch.Tensor]:
    count = len(bucket)
    return bucket.samples.read(range(count), [0] * count)[0]


def assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Some CPUs multiply otherwise by where numbers lie in memory, which can be a step of bf16."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2**-7, atol=2**-8)
        assert float((tensor != theirs[name]).float().mean()) < 1e-4


class Drawn:
    """Pictures of two sizes on one canvas, told apart by their place; each one read is noted in a file."""

    def __init__(self, folder: Path, stop: int | None = None) -> None:
        self.notes, self.stop = folder / "read", stop

    def __len__(self) -> int:
        return 19

    def __getitem__(self, index: int) -> Record:
        if index == self.stop:
            raise RuntimeError("as if the run was killed")
        with self.notes.open("a") as file:
            file.write(f"{index}\n")
        side = 32 if index % 2 else 48
        picture = np.full((side, side, 3), index, np.uint8)
        return Record(source=picture, answer=255 - picture, instruction=str(index))

    def digest(self) -> str:
        return ""

    def content(self) -> str:
        return ""

    def read(self) -> set[int]:
        """The places that were read since this was asked for."""
        found = set(map(int, self.notes.read_text().split()))
        self.notes.unlink()
        return found
