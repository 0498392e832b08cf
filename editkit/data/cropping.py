"""Crop a record's pictures to the canvas' shape, so that no padding is learnt."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from editkit.data.datasets import Dataset
from editkit.data.records import Record
from editkit.errors import EditkitError
from editkit.imaging import canvas


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


def _crop(picture: NDArray[Any], ratio: float) -> NDArray[Any]:
    """Return the largest centre crop with a ratio of width to height."""
    height, width = picture.shape[:2]
    tall, wide = min(height, round(width / ratio)), min(width, round(height * ratio))
    top, left = (height - tall) // 2, (width - wide) // 2
    return picture[top : top + tall, left : left + wide]
