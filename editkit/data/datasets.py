"""Training pairs by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from editkit.data.records import FILES, DataConfig, Record
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor


class Dataset(Protocol):
    """Records by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def digest(self) -> str:
        """Of what the records are made from, where the config does not say it all."""


class World(Dataset, Protocol):
    """A dataset that is drawn: it has held-out records, and tells which edits of these succeed."""

    def held_out(self, count: int) -> list[Record]:
        """Records that no run trains on, of the kinds that this dataset draws."""

    def success(self, editor: PictureEditor, method: str, count: int, steps: int | None) -> float:
        """Share of held-out edits that succeed."""


def dataset(config: DataConfig) -> Dataset:
    """The dataset that a config names.

    Raises:
        EditkitError: where it has no such kind of edit, or the seeds are held out.
    """
    module, _, name = DATASETS[config.name].partition(":")
    found: Dataset = getattr(importlib.import_module(module), name)(config)
    return found


class Guarded:
    """A dataset whose bad records are the sentences that say what is wrong with them.

    Bad are those that cannot be read, or whose answer would be stretched onto its source.
    An exception in a worker would end the run, with the worker's traceback for its message.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | str:
        try:
            record = self.dataset[index]
        except EditkitError as error:
            return str(error)
        if sizes := record.stretched():
            return (
                f"record {index}: its pictures have different aspect ratios ({sizes}); cut or leave it out."
            )
        return record


class Chained:
    """Several datasets, one behind the other."""

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


DATASETS = {
    "shapesworld": "editkit.shapesworld.datasets:ShapesWorld",
    "shapesworld masked": "editkit.shapesworld.datasets:ShapesWorldMasked",
    "shapesworld holes": "editkit.shapesworld.datasets:ShapesWorldHoles",
    **dict.fromkeys(FILES, "editkit.data.files:Files"),
}
"""Where the class of each name is, which is imported when it is asked for."""
