"""Guidance distillation: the guidance input learns what true classifier-free guidance does.

Meng et al., On Distillation of Guided Diffusion Models (arXiv 2210.03142), first stage, on a rectified flow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editkit import flow
from editkit.data.batches import EditBatch
from editkit.errors import EditkitError
from editkit.train.distill_settings import GuidanceDistillConfig
from editkit.train.objective import Objective, device_of

SCALES = 1
"""Number of the random stream of the scales, beside that of noise and times."""


class GuidanceObjective(Objective):
    """Mean squared error to the guided velocity of the model as the run found it.

    The teacher runs with and without the instruction; the student runs once, and gets the scale as its
    guidance input. The arguments are those of `Objective`.

    Raises:
        EditkitError: where the network takes no guidance.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if not self.transformer.config.guidance_embeds:
            raise EditkitError(
                "distill.guidance needs a network with a guidance input, and this one has none; take another "
                "backbone, or distill.progressive or distill.ladd."
            )
        assert self.settings.distill is not None
        assert self.settings.distill.guidance is not None
        self.options: GuidanceDistillConfig = self.settings.distill.guidance

    def forward(self, batch: EditBatch) -> Tensor:
        device = device_of(self)
        noise_BLC, times_B = (each.to(device) for each in self.noise_and_times(batch))
        scales_B = self.scales(batch).to(device)
        x_BLC, _ = flow.interpolate(batch.x0_BLC, noise_BLC, times_B)
        plan = self.with_text(batch)
        target_BLC = self.teacher(batch, x_BLC, times_B, scales_B)
        predicted_BLC = self.backbone.velocity(x_BLC, times_B, plan, scales_B)
        by_time_B = flow.time_weights(times_B, self.settings.weighting)
        return self.total(flow.loss(predicted_BLC, target_BLC, batch.weights_BL, by_time_B), batch)

    @torch.no_grad()
    def teacher(self, batch: EditBatch, x_BLC: Tensor, times_B: Tensor, scales_B: Tensor) -> Tensor:
        """Return the teacher's velocity under true classifier-free guidance, BLC, in float32."""
        without = self.with_text(batch, [[""] * len(own) for _, own in batch.groups])
        guidance = self.settings.guidance
        with self.initial.in_use():
            wanted_BLC = self.backbone.velocity(x_BLC, times_B, self.with_text(batch), guidance).float()
            other_BLC = self.backbone.velocity(x_BLC, times_B, without, guidance).float()
        # In this form a scale of 1 gives the prediction itself, bit for bit.
        return wanted_BLC + (scales_B[:, None, None] - 1) * (wanted_BLC - other_BLC)

    def scales(self, batch: EditBatch) -> Tensor:
        """Draw each sample's scale from its own seed, (B,)."""
        least, most = self.options.scales
        seeds = (hash((seed, SCALES)) % 2**63 for seed in batch.seeds)
        drawn = [torch.rand(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return least + (most - least) * torch.cat(drawn)
