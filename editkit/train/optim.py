"""Optimizers, learning-rate schedule and the moving average of weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from editkit.errors import EditkitError
from editkit.train.sharded import own

OPTIMIZERS = ("adamw", "muon", "prodigy")
SCHEDULES = ("constant", "linear", "cosine", "onecycle")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move."""

    name: str = "adamw"
    """`adamw`; `muon`: Muon on matrices inside transformer blocks and AdamW on everything else; `prodigy`:
    finds its own rate, of which `lr`, usually 1, is a factor (ICEdit's, with a weight decay of 0.01)."""
    lr: float = 1e-4
    """AdamW's peak learning rate."""
    lr_of: dict[str, float] = field(default_factory=dict)
    """AdamW's peak learning rate of parameters by the beginning of their names; the longest one counts."""
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    """Steps of linear warm-up."""
    decay: float = 1.0
    """Share of the run, at its end, over which `linear` and `cosine` go to zero."""
    clip: float = 1.0
    """Largest gradient norm."""

    def __post_init__(self) -> None:
        for value, allowed in ((self.name, OPTIMIZERS), (self.schedule, SCHEDULES)):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        if self.name == "prodigy" and self.lr_of:
            raise ValueError("optim.lr_of is not for prodigy, which has one rate for everything")
        if not 0 < self.decay <= 1:
            raise ValueError(f"optim.decay must lie in (0, 1], not {self.decay}")


def optimizers(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig
) -> list[torch.optim.Optimizer]:
    """Optimizers over named parameters; each group keeps its peak rate under `peak`.

    Raises:
        EditkitError: where Prodigy is asked for and not installed.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    matrices = [p for name, p in named if config.name == "muon" and p.ndim == 2 and "_blocks." in name]
    chosen = {id(p) for p in matrices}
    rest: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        if id(parameter) not in chosen:
            prefix = max((p for p in config.lr_of if name.startswith(p)), key=len, default="")
            rest.setdefault(config.lr_of.get(prefix, config.lr), []).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay))
    if rest:
        betas = (config.betas[0], config.betas[1])
        groups = [{"params": parameters, "lr": peak} for peak, parameters in rest.items()]
        make = _prodigy() if config.name == "prodigy" else torch.optim.AdamW
        made.append(make(groups, betas=betas, weight_decay=config.weight_decay))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def _prodigy() -> Callable[..., torch.optim.Optimizer]:
    try:
        from prodigyopt import Prodigy
    except ImportError as error:
        raise EditkitError("optim.name=prodigy needs a package: pip install 'editkit[train]'.") from error
    return partial(Prodigy, use_bias_correction=True, safeguard_warmup=True)


def rate(step: int, steps: int, config: OptimConfig) -> float:
    """Factor on the peak learning rate at a step counted from 0."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "constant":
        return warm
    if config.schedule == "onecycle":
        rise = 0.3 * steps
        if step < rise:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
        return (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2
    left = min(1.0, (steps - step) / (config.decay * steps))
    return warm * (left if config.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


class Ema:
    """Exponential moving average of trainable weights, kept in fp32."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.shadow = {name: p.detach().float().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Pull the average towards the weights; early steps use a shorter memory."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [own(p.detach()).float() for p in self.parameters.values()]
        torch._foreach_lerp_([own(average) for average in self.shadow.values()], current, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average, for validation and export; a second call undoes the first."""
        for name, parameter in self.parameters.items():
            weights, average = own(parameter.detach()), own(self.shadow[name])
            before = weights.clone()
            weights.copy_(average)
            average.copy_(before)

    def state(self) -> dict[str, Tensor]:
        """The average, by parameter name."""
        return dict(self.shadow)
