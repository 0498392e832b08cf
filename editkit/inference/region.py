"""Find the tokens that an edit changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.imaging import canvas
from editkit.inference import postprocess
from editkit.inference.speed_settings import StepSaving
from editkit.types import Plan


def answer_places(plan: Plan) -> Tensor:
    """Return the places of the answer panel's tokens among those of the canvas, (N,)."""
    count = plan.canvas.width * plan.canvas.height // canvas.GRID**2
    return canvas.answer_tokens(torch.arange(count)[None, :, None], plan.canvas)[0, :, 0]


def masked_cells(mask_B1HW: Tensor, plan: Plan, grow: int) -> Tensor:
    """Find the tokens of the answer panel that a mask touches, grown, BN."""
    placed_B1HW = (canvas.place(mask_B1HW, plan.canvas) > 0.5).float()
    return canvas.dilate(F.max_pool2d(placed_B1HW, canvas.GRID) > 0, grow).flatten(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Says which tokens of the answer panel an edit changes.

    Attributes:
        plan: the batch's plan.
        settings: the threshold, by how much the area grows, and whether there is one.
        cells_BN: the answer where a mask gives it.
        source_BNC: packed latents of the source on the answer panel.
    """

    plan: Plan
    settings: StepSaving
    cells_BN: Tensor | None
    source_BNC: Tensor | None

    def of(self, x0_BLC: Tensor) -> Tensor:
        """Return the mask of changed tokens, BN, for a predicted end."""
        answer_BNC = canvas.answer_tokens(x0_BLC, self.plan.canvas)
        if not self.settings.region:
            return torch.ones(answer_BNC.shape[:2], dtype=torch.bool)
        if self.cells_BN is not None:
            return self.cells_BN
        if self.source_BNC is None:
            return torch.ones(answer_BNC.shape[:2], dtype=torch.bool)
        cells_B1hw = postprocess.changed_cells(
            self.source_BNC, answer_BNC, self.plan.canvas, self.settings.threshold
        )
        return canvas.dilate(cells_B1hw, self.settings.grow).flatten(1).cpu()
