"""What trains, and how long: the two things that `fit` is given."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from editkit.precision import bf16_pays
from editkit.train.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long, how large, how precise, and where it is kept."""

    output: str = "out/train"
    steps: int = 1000
    batch: int = 16
    """Samples in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes to an optimizer step."""
    precision: str = "auto"
    """`bf16` (autocast over fp32 weights), `fp32`, or `auto`: bf16 but on CPUs that are slower in it."""
    ema: float = 0.0
    """Decay of the moving average of weights, which is what gets exported; 0 keeps none."""
    seed: int = 0
    save_every: int = 500
    keep: int = 2
    log_every: int = 20
    validate_every: int = 0
    """Steps between looks at held-out edits; the best weights so far are kept in `best`. 0 for none."""
    spike: float = 20.0
    """Stop where a batch's loss is so many times the highest of the last ten logged; 0 for never."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where figures go besides log.jsonl: accelerate's names, such as tensorboard and wandb."""
    resume: str | None = None
    """`latest`, or a checkpoint folder."""
    device: str | None = None
    """`cpu`, or null for what accelerate finds."""
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if self.validate_every < 0 or self.spike < 0:
            raise ValueError("fit.validate_every and fit.spike must not be negative")
        for name in ("steps", "batch", "accumulate", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"fit.{name} must be at least 1, not {getattr(self, name)}")
        if self.optim.name == "schedulefree" and self.ema:
            raise ValueError("fit.ema must be 0 with schedulefree, which averages by itself")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"fit.precision must be auto, bf16 or fp32, not {self.precision!r}")
        if self.device not in (None, "cpu"):
            raise ValueError(
                f"fit.device must be cpu or null, for what accelerate finds, not {self.device!r}"
            )

    @property
    def low(self) -> bool:
        """Whether this machine trains in bf16."""
        return self.precision == "bf16" or (self.precision == "auto" and bf16_pays(self.device))

    @property
    def samples(self) -> int:
        """Samples of one optimizer step, over all processes."""
        return self.batch * self.accumulate * int(os.environ.get("WORLD_SIZE", "1"))


class Job(ABC):
    """What `fit` trains. The objective's forward takes a batch and returns the loss."""

    objective: nn.Module

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Any:
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
