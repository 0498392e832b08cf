"""Configs of every training run: its length, batches, precision and optimizer."""

import math
import os
from dataclasses import dataclass, field

from editkit.precision import faster_in_bf16

OPTIMIZERS = ("adamw", "muon", "prodigy", "adamw8bit", "schedulefree")
SCHEDULES = ("constant", "linear", "cosine", "onecycle")
LARGEST = 2**63 - 1
"""Largest seed that generators of random numbers take."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Options of the optimizer."""

    name: str = "adamw"
    """`adamw`. `muon`: Muon for matrices inside transformer blocks and AdamW for everything else. `prodigy`:
    finds its own learning rate; `lr`, usually 1, is a factor on it. `adamw8bit`: bitsandbytes' AdamW, whose
    state takes a quarter of the memory. `schedulefree`: AdamW that averages its weights and needs no
    schedule."""
    lr: float = 1e-4
    """AdamW's peak learning rate."""
    lr_of: dict[str, float] = field(default_factory=dict)
    """AdamW's peak learning rate of parameters, by the beginning of their names; the longest match counts."""
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    """Steps of linear warm-up."""
    decay: float = 1.0
    """Last share of the run over which `linear` and `cosine` fall to zero."""
    clip: float = 1.0
    """Largest norm of the gradients; larger ones are scaled down."""

    def __post_init__(self) -> None:
        for value, allowed in ((self.name, OPTIMIZERS), (self.schedule, SCHEDULES)):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        if self.name == "prodigy" and self.lr_of:
            raise ValueError("optim.lr_of is not for prodigy, which has one learning rate for all parameters")
        if self.name == "schedulefree" and self.schedule != "constant":
            raise ValueError("optim.schedule must be constant with schedulefree; warmup may be given")
        rates = {name: getattr(self, name) for name in ("lr", "muon_lr", "weight_decay")}
        rates |= {f"lr_of.{name}": rate for name, rate in self.lr_of.items()}
        if wrong := [name for name, rate in rates.items() if not 0 <= rate < math.inf]:
            raise ValueError(f"optim.{wrong[0]} must be a number from 0 upwards, not {rates[wrong[0]]}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must lie in [0, 1), not {list(self.betas)}")
        if not self.clip > 0:
            raise ValueError(f"optim.clip must be above 0, or .inf for no limit, not {self.clip}")
        if self.warmup < 0:
            raise ValueError(f"optim.warmup must be 0 or more, not {self.warmup}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"optim.decay must lie in (0, 1], not {self.decay}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Options of every training run."""

    output: str = "out/train"
    steps: int = 1000
    batch: int = 16
    """Number of samples in one forward pass of one process."""
    accumulate: int = 1
    """Number of forward passes in one optimizer step."""
    precision: str = "auto"
    """`bf16` (autocast over float32 weights), `fp32`, or `auto`: the faster one here, found by timing a
    transformer block for a second. A resumed run keeps what was chosen."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is exported; 0 for no average."""
    seed: int = 0
    save_every: int = 500
    keep: int = 2
    log_every: int = 20
    validate_every: int = 0
    """Steps between validations on held-out edits; the best weights so far are in `best`. 0 for none."""
    spike: float = 20.0
    """Stop at a loss that is this many times the highest of the last ten logged; 0 for never."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers that log figures besides log.jsonl, by accelerate's names, such as tensorboard and wandb."""
    resume: str | None = None
    """`latest`, or a checkpoint folder."""
    allow_changes: tuple[str, ...] = ()
    """Settings that may be other than the checkpoint's that is resumed, by name or its beginning, such as
    `data` or `lora.alpha`: the run goes on with the new ones. Without it only rates, lengths and what is
    written or watched may change."""
    device: str | None = None
    """Device to train on: `cpu`, or null for the one that accelerate chooses."""
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if self.validate_every < 0 or not self.spike >= 0:
            raise ValueError("fit.validate_every and fit.spike must be 0 or more")
        for name in ("steps", "batch", "accumulate", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"fit.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"fit.ema must lie in [0, 1), not {self.ema}")
        if not -LARGEST <= self.seed <= LARGEST:
            raise ValueError(f"fit.seed must lie within 2^63 - 1, not {self.seed}")
        if not self.output:
            raise ValueError("fit.output is empty; give the folder of the run, such as out/train")
        if self.optim.name == "schedulefree" and self.ema:
            raise ValueError("fit.ema must be 0 with schedulefree, which averages its weights itself")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"fit.precision must be auto, bf16 or fp32, not {self.precision!r}")
        if self.device not in (None, "cpu"):
            raise ValueError(f"fit.device must be cpu, or null for accelerate's choice, not {self.device!r}")

    @property
    def low(self) -> bool:
        """Whether this machine trains in bf16."""
        return self.precision == "bf16" or (self.precision == "auto" and faster_in_bf16(self.device))

    @property
    def on_cpu(self) -> bool:
        """Whether the run is on CPUs. accelerate must be told, or takes several processes for single ones."""
        import torch

        return self.device == "cpu" or not torch.accelerator.is_available()

    @property
    def samples(self) -> int:
        """Number of samples in one optimizer step, over all processes."""
        return self.batch * self.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
