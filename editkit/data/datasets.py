"""Create datasets of training pairs by name, chain them, and check their records."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from editkit import notes
from editkit.data.records import FILES, DataConfig, Record, UnreachableError
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor


class Dataset(Protocol):
    """Records by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def digest(self) -> str:
        """Hash what the records are made from, as far as the config does not say it."""

    def content(self) -> str:
        """Hash words, and names and sizes of files, which copies share; empty if the records are drawn."""


class World(Dataset, Protocol):
    """A dataset that is drawn, so that it has held-out records and can score edits of them."""

    def held_out(self, count: int) -> list[Record]:
        """Draw records that no run trains on, of this dataset's kinds."""

    def success(self, editor: PictureEditor, method: str, count: int, steps: int | None) -> float:
        """Edit held-out records, and return the share of edits that succeed."""


def dataset(config: DataConfig) -> Dataset:
    """Create the dataset that a config names; notes name settings that it does not use.

    Raises:
        EditkitError: if it has no such kind of edit, its seeds are held out, or its files cannot be read.
    """
    for note in config.unused():
        notes.tell(note)
    module, _, name = DATASETS[config.name].partition(":")
    found: Dataset = getattr(importlib.import_module(module), name)(config)
    return found


class CheckedDataset:
    """A dataset that gives a sentence instead of each bad record, which says what is wrong with it.

    A record is bad if it cannot be read, or if its answer would be stretched onto its source. An exception
    instead would end the run with the traceback of a worker process.

    Raises:
        UnreachableError: where it cannot be fetched, which does not make it bad; worker processes catch it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | str:
        try:
            record = self.dataset[index]
        except UnreachableError:
            raise
        except EditkitError as error:
            return str(error)
        if sizes := record.stretched():
            return (
                f"record {index}: its pictures have different aspect ratios ({sizes}); cut or leave it out."
            )
        return record


class ChainedDataset:
    """Several datasets, one after the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Record:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)

    def digest(self) -> str:
        return " ".join(part.digest() for part in self.parts)

    def content(self) -> str:
        return " ".join(part.content() for part in self.parts)


DATASETS = {
    "shapesworld": "editkit.shapesworld.datasets:ShapesWorld",
    "shapesworld masked": "editkit.shapesworld.datasets:ShapesWorldMasked",
    **dict.fromkeys(FILES, "editkit.data.files:FileDataset"),
}
"""Module and class of each name; they are imported when they are needed."""
