"""Progressive distillation: a student's step learns where several steps of its teacher lead.

Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models (arXiv 2202.00512), on a
rectified flow. The paper halves the number of steps again and again; here one run goes to the last number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editkit import flow
from editkit.data.batches import EditBatch
from editkit.train.distill.few_steps import FewStepsObjective
from editkit.train.distill_settings import ProgressiveConfig
from editkit.train.objective import device_of
from editkit.types import Plan

STEP = 5
"""Number of the random stream that chooses the student's step."""


class ProgressiveObjective(FewStepsObjective):
    """Mean squared error to the teacher's mean velocity over one step of the student.

    The arguments are those of `Objective`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert self.settings.distill is not None
        assert self.settings.distill.progressive is not None
        self.options: ProgressiveConfig = self.settings.distill.progressive

    def forward(self, batch: EditBatch) -> Tensor:
        device = device_of(self)
        noise_BLC, _ = self.noise_and_times(batch)
        times_NB, plan = self.times(batch).to(device), self.with_text(batch)
        x_BLC, _ = flow.interpolate(batch.x0_BLC, noise_BLC.to(device), times_NB[0])
        target_BLC = self.teacher(x_BLC, times_NB, plan)
        predicted_BLC = self.backbone.velocity(x_BLC, times_NB[0], plan, self.settings.guidance)
        return self.total(flow.loss(predicted_BLC, target_BLC, batch.weights_BL), batch)

    @torch.no_grad()
    def teacher(self, x_BLC: Tensor, times_NB: Tensor, plan: Plan) -> Tensor:
        """Return the teacher's mean velocity from the first of the times to the last, BLC, in float32."""
        spans_NB11 = times_NB.diff(dim=0)[:, :, None, None]
        moved_BLC = torch.zeros_like(x_BLC, dtype=torch.float32)
        with self.initial.in_use():
            for times_B, span_B11 in zip(times_NB, spans_NB11, strict=False):  # there is one time more
                at_BLC = (x_BLC + moved_BLC).to(x_BLC.dtype)
                velocity_BLC = self.backbone.velocity(at_BLC, times_B, plan, self.settings.guidance)
                moved_BLC = moved_BLC + span_B11 * velocity_BLC.float()
        return moved_BLC / spans_NB11.sum(0)

    def times(self, batch: EditBatch) -> Tensor:
        """Draw a step of the student for each sample from its own seed; return the teacher's times in it.

        Returns:
            From the step's first time down to its last, N + 1 x B, for N steps of the teacher.
        """
        drawn = []
        for number, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(hash((seed, STEP)) % 2**63)
            tokens = batch.x0_BLC.shape[1] if batch.places is None else len(batch.places[number])
            times = flow.schedule(self.options.teacher_steps, tokens, self.time_shift)
            step = int(torch.randint(self.options.steps, (), generator=generator))
            drawn.append(times[step * self.options.ratio : (step + 1) * self.options.ratio + 1])
        return torch.stack(drawn, 1)
