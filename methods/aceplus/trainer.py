"""ACE++'s training: references are reconstructed beside the target (paper, equation 6)."""

import random

import torch
from torch import Tensor

from editkit.imaging.canvas import GRID
from editkit.method import Trainer
from editkit.types import EditInputs, Plan
from methods.aceplus import lcu
from methods.aceplus.conditioner import ACEPlan
from methods.aceplus.config import ACEPlusConfig

MASK = 256
"""Number of the mask's channels, the last ones that join the noise."""


class ACEPlusTrainer(Trainer[ACEPlusConfig]):
    """Adds a loss mean for each unit, weight under the mask, and prompt dropout."""

    def reword(self, instruction: str, rng: random.Random) -> str:
        """Drop an instruction at random."""
        return "" if rng.random() < self.config.prompt_dropout else instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Weight tokens to a mean for each unit or one over the canvas; None for an unweighted mean."""
        given_L = plan.conditioning.given_L
        if self.config.loss == "released" and self.config.mask_weight == 1 and given_L is None:
            return None
        assert isinstance(plan, ACEPlan)
        channel_BLC = plan.conditioning.channel_BLC
        assert channel_BLC is not None
        under_BL = channel_BLC[..., -MASK:].float().mean(-1)
        heavy_BL = 1 + (self.config.mask_weight - 1) * under_BL
        if given_L is not None:  # nothing of the references is predicted
            target_L = ~given_L.to(heavy_BL.device)
            heavy_BL = heavy_BL * target_L
            return heavy_BL / heavy_BL.sum(1, keepdim=True)
        units_L = torch.zeros(heavy_BL.shape[1], dtype=torch.long, device=heavy_BL.device)
        if self.config.loss == "paper":
            units_L = _units(plan).to(units_L)
        totals_BU = heavy_BL.new_zeros(len(heavy_BL), len(plan.widths)).index_add_(1, units_L, heavy_BL)
        return heavy_BL / totals_BU[:, units_L]


def _units(plan: ACEPlan) -> Tensor:
    """Return the number of the unit of each token of the canvas, shape (L,)."""
    rows = plan.canvas.height // GRID
    units = [torch.full((rows * width // GRID, 1), number) for number, width in enumerate(plan.widths)]
    return lcu.join_rows(units, plan.canvas.height)[:, 0]
