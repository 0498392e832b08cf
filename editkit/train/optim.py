"""Optimizers, learning-rate schedule, and the moving average of weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from editkit.errors import EditkitError
from editkit.train.config import OptimConfig
from editkit.train.distributed import fsdp
from editkit.train.distributed.fsdp import local_shard

STATE_BYTES = {"adamw": 8, "muon": 8, "prodigy": 16, "adamw8bit": 2, "schedulefree": 8}
"""Bytes of state that an optimizer keeps for each parameter."""
MUON_BYTES = 4
"""Bytes of state for each parameter that Muon itself updates."""


def check_optimizer(config: OptimConfig) -> None:
    """Check that the optimizer can be made.

    Raises:
        EditkitError: where it is not installed or does not work in shards.
    """
    _maker(config.name)


def make_optimizers(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig
) -> list[torch.optim.Optimizer]:
    """Make optimizers for named parameters; each group has its peak learning rate under `peak`.

    Raises:
        EditkitError: where the optimizer is not installed or does not work in shards, or a learning rate is
            for parameters that there are none of.
    """
    matrices, others = _split(parameters, config)
    names = [name for name, _ in (*matrices, *others)]
    if idle := [each for each in config.lr_of if not any(name.startswith(each) for name in names)]:
        raise EditkitError(
            f"optim.lr_of names {idle[0]!r}, with which no parameter's name begins that trains; the first of "
            f"those is {names[0] if names else 'missing'}."
        )
    rest: dict[str, list[nn.Parameter]] = {}  # by prefix, so that groups stay apart whatever their rates
    for name, parameter in others:
        prefix = max((p for p in config.lr_of if name.startswith(p)), key=len, default="")
        rest.setdefault(prefix, []).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        moved = [parameter for _, parameter in matrices]
        made.append(torch.optim.Muon(moved, lr=config.muon_lr, weight_decay=config.weight_decay))
    if rest:
        betas = (config.betas[0], config.betas[1])
        groups = [
            {"params": parameters, "lr": config.lr_of.get(prefix, config.lr)}
            for prefix, parameters in rest.items()
        ]
        made.append(_maker(config.name)(groups, betas=betas, weight_decay=config.weight_decay))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def state_bytes(parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> int:
    """Return the bytes of the optimizers' state."""
    matrices, others = _split(parameters, config)
    by_muon = sum(MUON_BYTES * parameter.numel() for _, parameter in matrices)
    return by_muon + sum(STATE_BYTES[config.name] * parameter.numel() for _, parameter in others)


Named = list[tuple[str, nn.Parameter]]


def _split(parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> tuple[Named, Named]:
    """Split parameters into those that Muon updates and the others."""
    matrices: Named = []
    others: Named = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            by_muon = config.name == "muon" and parameter.ndim == 2 and "_blocks." in name
            (matrices if by_muon else others).append((name, parameter))
    return matrices, others


def _maker(name: str) -> Callable[..., torch.optim.Optimizer]:
    try:
        if name == "prodigy":
            from prodigyopt import Prodigy

            return partial(Prodigy, use_bias_correction=True, safeguard_warmup=True)
        if name == "adamw8bit":
            if fsdp.wanted():
                raise EditkitError("optim.name=adamw8bit does not work in shards; use adamw.")
            from bitsandbytes import optim as bits

            made: Callable[..., torch.optim.Optimizer] = bits.AdamW8bit  # type: ignore[attr-defined]
            return made
        if name == "schedulefree":
            from schedulefree import AdamWScheduleFree

            free: Callable[..., torch.optim.Optimizer] = AdamWScheduleFree
            return free
    except ImportError as error:
        raise EditkitError(f"optim.name={name} needs a package: pip install 'editkit[train]'.") from error
    return torch.optim.AdamW


def set_training(optimizers: Iterable[torch.optim.Optimizer], training: bool) -> None:
    """Switch optimizers that average the weights between training weights and average."""
    for optimizer in optimizers:
        switch = getattr(optimizer, "train" if training else "eval", None)
        if switch:
            switch()


def rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the factor on the peak learning rate at a step, counted from 0."""
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
    """Exponential moving average of trainable weights, in float32."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.shadow = {name: p.detach().float().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights; the decay is smaller in early steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [local_shard(p.detach()).float() for p in self.parameters.values()]
        torch._foreach_lerp_([local_shard(average) for average in self.shadow.values()], current, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average; a second call undoes the first."""
        for name, parameter in self.parameters.items():
            weights, average = local_shard(parameter.detach()), local_shard(self.shadow[name])
            before = weights.clone()
            weights.copy_(average)
            average.copy_(before)

    def state(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(self.shadow)
