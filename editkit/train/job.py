"""The interface between the training loop and its jobs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from torch import Tensor, nn

from editkit.train.config import FitConfig

Rows = Callable[[str, int, int], Tensor]
"""Function that reads rows of a parameter of the objective: its name, first row, and row behind the last."""


class RunConfig(Protocol):
    """The config of a training run: a frozen dataclass."""

    @property
    def fit(self) -> FitConfig:
        """The settings of the loop, such as steps, batch size and precision."""


class Job(ABC):
    """A job for `fit`. The forward pass of its objective takes a batch and returns the loss."""

    objective: nn.Module
    settings: RunConfig | None = None
    """All of the run's settings, a dataclass with a `fit`, which checkpoints keep; None for none."""

    contents: Mapping[str, str] = MappingProxyType({})
    """Hash of each dataset's records, under its name and `resuming.CONTENT`; checkpoints keep them."""

    exports_frozen = False
    """Whether `export` writes frozen weights too."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> object:
        """Make a batch of the samples at these indices of an endless, deterministic stream."""

    def weight_rows(self) -> Rows | None:
        """Return what reads rows of a parameter if the objective is on the meta device, otherwise None."""
        return None

    def placed(self) -> None:
        """Do what must follow the placement of the weights and precede the loading of a checkpoint."""
        return None

    def figures(self) -> dict[str, float]:
        """Return figures of the last step by name, to be logged beside its loss; none by default."""
        return {}

    def validate(self, step: int, folder: Path | None) -> dict[str, float]:
        """Evaluate the current weights: return figures by name, write pictures; nothing by default."""
        return {}

    def keep(self, indices: Sequence[int], folder: Path) -> bool:
        """Write a batch for inspection; return whether that was done. By default it is not."""
        return False

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained weights as they are now, for use."""
