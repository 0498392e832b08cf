"""What trains: the interface between the training loop and everything that it runs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import nn

from editkit.train.config import FitConfig


class Job(ABC):
    """What `fit` trains. The objective's forward takes a batch and returns the loss."""

    objective: nn.Module

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> object:
        """The samples at these places of an endless, deterministic stream, as one batch."""

    def placed(self) -> None:
        """Told once what trains stands where it will, in shards or whole, and no checkpoint is loaded yet."""
        return None

    def figures(self) -> dict[str, float]:
        """Figures of the last step that are logged beside its loss, by name; none by default."""
        return {}

    def validate(self, step: int, folder: Path | None) -> dict[str, float]:
        """Figures of the weights as they are, by name, and pictures into a folder; none by default."""
        return {}

    def keep(self, indices: Sequence[int], folder: Path) -> bool:
        """Write a batch out for people to look at; whether that was done, which it is not by default."""
        return False

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained weights as they are now, for use."""


class RunConfig(Protocol):
    """The config of a training run: a frozen dataclass."""

    @property
    def fit(self) -> FitConfig:
        """How long, how large, how precise."""
