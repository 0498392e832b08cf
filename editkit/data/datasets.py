"""Training pairs: one record for all methods, and where records come from."""

import math
import random
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
    count: int = 10_000
    start: int = shapesworld.TRAINING_START
    """First seed."""
    kinds: dict[str, float] = field(default_factory=dict)
    """Weight of each kind of edit; `caption` is text to image. Even over all edits where empty."""

    def __post_init__(self) -> None:
        if self.name != "shapesworld":
            raise ValueError(f"data.name must be shapesworld, not {self.name!r}")
        if self.count < 1:
            raise ValueError(f"data.count must be at least 1, not {self.count}")
        if self.kinds and not (min(self.kinds.values()) >= 0 and 0 < sum(self.kinds.values()) < math.inf):
            raise ValueError(f"data.kinds must be weights that are not negative nor all 0, not {self.kinds}")


class ShapesWorld:
    """Pairs drawn from ShapesWorld's training seeds."""

    def __init__(self, config: DataConfig) -> None:
        if config.start < shapesworld.HELD_OUT.stop:
            raise EditkitError(f"data.start={config.start} is too low; seeds below 10000 are held out.")
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
