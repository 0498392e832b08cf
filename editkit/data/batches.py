"""Build the batches of training steps from the samples in buckets."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data import padding
from editkit.data.records import MixedConfig
from editkit.data.samplers import MixtureSampler, take
from editkit.data.samples import Wordings
from editkit.method import Trainer
from editkit.types import Plan

Group = tuple[Plan, list[str]]
"""The plan of samples of one canvas, and their instructions after the trainer's `reword`."""


@dataclass(frozen=True, kw_only=True)
class EditBatch:
    """The inputs of one training step.

    Attributes:
        plan: a plan without text.
        x0_BLC: packed target latents of the whole canvas.
        groups: the samples by canvas.
        weights_BL: loss weights, or None.
        seeds: seed of each sample's noise and time.
        step: number of the optimizer step, from 0.
        places: places of each sample's own tokens; None if the batch is not padded.
        mixed: how the run mixes in the dataset.
    """

    plan: Plan
    x0_BLC: Tensor
    groups: list[Group]
    weights_BL: Tensor | None
    seeds: list[int]
    step: int
    places: list[Tensor] | None = None
    mixed: MixedConfig = field(default_factory=MixedConfig)


class BatchBuilder:
    """Builds the batch of any sample indices; a sample depends on its index and the seed only.

    Args:
        sampler: chooses the samples of each optimizer step.
        backbone: gives position ids, and the device of the batch.
        trainer: rewords the instructions.
        samples: number of samples of an optimizer step.
        seed: seed of the run.
    """

    def __init__(
        self, sampler: MixtureSampler, backbone: Backbone, trainer: Trainer[Options], samples: int, seed: int
    ) -> None:
        self.sampler, self.backbone, self.trainer = sampler, backbone, trainer
        self.samples, self.seed = samples, seed

    def __call__(self, indices: Sequence[int]) -> EditBatch:
        """Build a batch of samples of one optimizer step; samples of several canvas sizes are padded."""
        groups: list[Group] = []
        tensors, mixed = [], MixedConfig()
        seeds = [hash((self.seed, index)) % 2**63 for index in indices]
        step, start = divmod(indices[0], self.samples)
        done = 0
        for bucket, places in take(self.sampler(step), start, len(indices)):
            own = slice(done, done := done + len(places))
            plan, chosen, wordings = bucket.take(places, seeds[own], self.backbone.device)
            groups.append((plan, [self._words(*each) for each in zip(wordings, indices[own], strict=True)]))
            tensors.append(chosen)
            mixed = bucket.mixed  # a batch is from one dataset
        if len(groups) > 1:
            return replace(self._padded(groups, tensors, seeds, step), mixed=mixed)
        return EditBatch(
            plan=groups[0][0],
            x0_BLC=tensors[0]["x0_BLC"],
            groups=groups,
            weights_BL=tensors[0].get("weights_BL"),
            seeds=seeds,
            step=step,
            mixed=mixed,
        )

    def _words(self, wordings: Wordings, index: int) -> str:
        """Choose one of a record's wordings, a new one each time, and let the trainer change it."""
        words = wordings[0]
        if len(wordings) > 1:
            words = random.Random(f"wording {self.seed} {index}").choice(wordings)
        return self.trainer.reword(words, random.Random(f"words {self.seed} {index}"))

    def _padded(
        self, groups: list[Group], tensors: list[dict[str, Tensor]], seeds: list[int], step: int
    ) -> EditBatch:
        plans, sizes = [plan for plan, _ in groups], [len(instructions) for _, instructions in groups]
        own = [plan.conditioning.ids_L3 for plan in plans]
        ids = [
            self.backbone.grid_ids(plan.canvas.width, plan.canvas.height) if given is None else given
            for plan, given in zip(plans, own, strict=True)
        ]
        plan, where, count = padding.merge_plans(plans, ids, sizes)
        x0, weights = [], []
        for chosen, places_L in zip(tensors, where, strict=True):
            x0.append(padding.pad_tokens(chosen["x0_BLC"], places_L, count))
            even_BL = torch.full_like(chosen["x0_BLC"][..., 0], 1 / chosen["x0_BLC"].shape[1])
            weights.append(padding.pad_tokens(chosen.get("weights_BL", even_BL), places_L, count))
        return EditBatch(
            plan=plan,
            x0_BLC=torch.cat(x0),
            groups=groups,
            weights_BL=torch.cat(weights),
            seeds=seeds,
            step=step,
            places=[places_L for places_L, size in zip(where, sizes, strict=True) for _ in range(size)],
        )
