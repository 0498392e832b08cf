"""Training pairs: one record for all methods, and where records come from."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from editkit.data import shapesworld
from editkit.errors import EditkitError


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training pair; pictures are uint8 HWC.

    Attributes:
        answer: the edited picture.
        instruction: the edit in words, or a caption where there is no source.
        source: the picture before; None for text to image.
        mask: uint8 HW, 255 where the edit lies.
        references: further pictures.
        kind: what sort of edit it is.
    """

    answer: NDArray[np.uint8]
    instruction: str
    source: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    references: tuple[NDArray[np.uint8], ...] = ()
    kind: str = ""


class Dataset(Protocol):
    """Records by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where training pairs come from."""

    name: str = "shapesworld"
    """`shapesworld`: its edits and captions; `shapesworld holes`: its pictures, single and paired, masked."""
    count: int = 10_000
    start: int = shapesworld.TRAINING_START
    """First seed."""
    kinds: dict[str, float] = field(default_factory=dict)
    """Weight of each kind of edit; `caption` is text to image. Even over all edits where empty."""

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise ValueError(f"data.name must be one of {', '.join(DATASETS)}, not {self.name!r}")
        if self.count < 1:
            raise ValueError(f"data.count must be at least 1, not {self.count}")
        if self.kinds and not (min(self.kinds.values()) >= 0 and 0 < sum(self.kinds.values()) < math.inf):
            raise ValueError(f"data.kinds must be weights that are not negative nor all 0, not {self.kinds}")


def dataset(config: DataConfig) -> Dataset:
    """The dataset that a config names.

    Raises:
        EditkitError: where it has no such kind of edit, or the seeds are held out.
    """
    return DATASETS[config.name](config)


class ShapesWorld:
    """Pairs drawn from ShapesWorld's training seeds."""

    def __init__(self, config: DataConfig) -> None:
        _check_start(config)
        unknown = set(config.kinds) - {*shapesworld.KINDS, "caption"}
        if unknown:
            raise EditkitError(
                f"ShapesWorld has no kind {min(unknown)!r}; it has {', '.join(shapesworld.KINDS)}, caption."
            )
        self.config = config
        self.kinds = dict(config.kinds) or dict.fromkeys(shapesworld.KINDS, 1.0)

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> Record:
        seed = self.config.start + index
        (kind,) = random.Random(f"kind {seed}").choices(list(self.kinds), list(self.kinds.values()))
        example = shapesworld.example(seed, kind)
        return Record(
            source=shapesworld.render(example.source) if example.source else None,
            answer=shapesworld.render(example.answer),
            instruction=example.instruction,
            kind=example.kind,
        )


class ShapesWorldHoles:
    """ShapesWorld's pictures with holes, as an inpainting network is trained: nothing here is an edit.

    Half are single pictures, half two side by side, of which the right one often repeats the left.
    """

    PAIRS, REPEATS = 0.5, 0.6
    REPEATED = "A diptych with two side-by-side images of the same scene"

    def __init__(self, config: DataConfig) -> None:
        _check_start(config)
        if config.kinds:
            raise EditkitError("data.kinds is for edits; leave it out for shapesworld holes.")
        self.config = config

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> Record:
        seed = self.config.start + index
        rng = random.Random(f"hole {seed}")
        scene = shapesworld.example(seed, "caption").answer
        picture, words = shapesworld.render(scene), scene.caption()
        mask = np.zeros(picture.shape[:2], np.uint8)
        if rng.random() < self.PAIRS:
            left, words = picture, self.REPEATED
            if rng.random() >= self.REPEATS:
                other = shapesworld.example(seed + 1_000_000_000, "caption").answer
                picture, words = shapesworld.render(other), other.caption()
            _hole(mask, rng, whole=0.6)
            picture = np.concatenate((left, picture), axis=1)
            mask = np.concatenate((np.zeros_like(mask), mask), axis=1)
        else:
            _hole(mask, rng, whole=0.25)
        return Record(source=picture, answer=picture, mask=mask, instruction=words, kind="hole")


def _hole(mask_HW: NDArray[np.uint8], rng: random.Random, whole: float) -> None:
    """Mask one to three rectangles, or everything with the chance `whole`."""
    if rng.random() < whole:
        mask_HW[:] = 255
        return
    height, width = mask_HW.shape
    for _ in range(rng.randint(1, 3)):
        tall, wide = rng.randint(height // 5, height * 2 // 3), rng.randint(width // 5, width * 2 // 3)
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        mask_HW[top : top + tall, left : left + wide] = 255


def _check_start(config: DataConfig) -> None:
    if config.start < shapesworld.HELD_OUT.stop:
        raise EditkitError(f"data.start={config.start} is too low; seeds below 10000 are held out.")


DATASETS: dict[str, Callable[[DataConfig], Dataset]] = {
    "shapesworld": ShapesWorld,
    "shapesworld holes": ShapesWorldHoles,
}
