"""Cut, crop or stretch a record's pictures before they are encoded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit.data.datasets import Dataset
from editkit.data.records import DataConfig, Record
from editkit.errors import EditkitError
from editkit.imaging import canvas


def cropped(dataset: Dataset, config: DataConfig, sizes: Sequence[tuple[int, int]]) -> Dataset:
    """Return a dataset whose pictures are cut, cropped and stretched as its config says.

    Args:
        dataset: all records.
        config: settings of the dataset.
        sizes: sizes that the network was trained at.

    Raises:
        EditkitError: for data.crop=centre where there are no sizes.
    """
    if config.cut_bottom or config.stretch:
        dataset = StretchedDataset(dataset, config.cut_bottom, config.stretch)
    return CroppedDataset(dataset, sizes) if config.crop == "centre" else dataset


class StretchedDataset:
    """A dataset whose sources, answers and masks lose their bottom and are stretched to one size.

    Args:
        dataset: all records.
        cut: share of the height that is cut off the bottom.
        size: width and height afterwards; None to keep those of the rest.
    """

    def __init__(self, dataset: Dataset, cut: float, size: tuple[int, int] | None) -> None:
        self.dataset, self.cut, self.size = dataset, cut, size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record:
        record = self.dataset[index]
        if record.stretched():
            return record  # a bad one, which is left out
        return replace(
            record,
            source=None if record.source is None else self._changed(record.source),
            answer=self._changed(record.answer),
            mask=None if record.mask is None else self._changed(record.mask, Image.Resampling.NEAREST),
        )

    def _changed(
        self, picture: NDArray[np.uint8], filter: Image.Resampling = Image.Resampling.BICUBIC
    ) -> NDArray[np.uint8]:
        height = len(picture) - int(len(picture) * self.cut)
        kept = Image.fromarray(picture[:height])
        return np.asarray(kept if self.size is None else kept.resize(self.size, filter))

    def digest(self) -> str:
        return f"{self.dataset.digest()} {self.cut} {self.size}"

    def content(self) -> str:
        return self.dataset.content()


class CroppedDataset:
    """A dataset whose pairs are cropped around their centre to the aspect ratio of the nearest of some sizes.

    Source, answer and mask are cropped alike. References, and records without a source, get a canvas of
    their own shape and stay as they are.

    Raises:
        EditkitError: if there are no sizes.
    """

    def __init__(self, dataset: Dataset, sizes: Sequence[tuple[int, int]]) -> None:
        if not sizes:
            raise EditkitError("data.crop=centre is for networks with sizes of their own; leave it out here.")
        self.dataset, self.sizes = dataset, sizes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record:
        record = self.dataset[index]
        if record.source is None or record.stretched():
            return record
        height, width = record.source.shape[:2]
        panel = canvas.fit((width, height), preferred=self.sizes)
        ratio = panel.width / panel.height
        return replace(
            record,
            source=_crop(record.source, ratio),
            answer=_crop(record.answer, ratio),
            mask=None if record.mask is None else _crop(record.mask, ratio),
        )

    def digest(self) -> str:
        return f"{self.dataset.digest()} {self.sizes}"

    def content(self) -> str:
        return self.dataset.content()


def _crop(picture: NDArray[Any], ratio: float) -> NDArray[Any]:
    """Return the largest centre crop with a ratio of width to height."""
    height, width = picture.shape[:2]
    tall, wide = min(height, round(width / ratio)), min(width, round(height * ratio))
    top, left = (height - tall) // 2, (width - wide) // 2
    return picture[top : top + tall, left : left + wide]
