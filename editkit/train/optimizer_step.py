"""One optimizer step, with one or several forward passes."""

from typing import Any

import torch
from torch import Tensor, nn

from editkit.train.config import FitConfig
from editkit.train.job import Job


def sample_indices(config: FitConfig, accelerator: Any, step: int, micro: int) -> range:
    """Return the indices of the samples of one forward pass of this process."""
    passes = (step * config.accumulate + micro) * accelerator.num_processes + accelerator.process_index
    return range(passes * config.batch, (passes + 1) * config.batch)


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set learning rates to a factor of their peaks."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def take_step(
    job: Job, objective: nn.Module, optimizers: list[Any], accelerator: Any, config: FitConfig, step: int
) -> list[Tensor]:
    """Take one optimizer step; return the detached loss of each forward pass."""
    torch.manual_seed(hash((config.seed, step, accelerator.process_index)) % 2**63)
    losses = []
    for micro in range(config.accumulate):
        with accelerator.accumulate(objective):
            with accelerator.autocast():  # accelerate does this for a module only if it is not in shards
                loss = objective(job.batch(sample_indices(config, accelerator, step, micro)))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        losses.append(loss.detach())
    return losses
