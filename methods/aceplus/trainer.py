"""ACE++'s training: the references are reconstructed beside the target (paper, equation 6)."""

import random

import torch
from torch import Tensor

from editkit.canvas import GRID
from editkit.method import Trainer
from editkit.types import EditInputs, Plan
from methods.aceplus import lcu
from methods.aceplus.conditioner import ACEPlan
from methods.aceplus.config import ACEPlusConfig

MASK = 256
"""Channels of the mask, the last ones that join the noise."""


class ACEPlusTrainer(Trainer):
    """Adds the paper's two means, weight for what lies under the mask, and prompts left out."""

    config: ACEPlusConfig

    def reword(self, instruction: str, rng: random.Random) -> str:
        """The instruction, or nothing now and then."""
        return "" if rng.random() < self.config.prompt_dropout else instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Loss weights BL over the canvas' tokens, or None where all count alike."""
        if self.config.loss == "released" and self.config.mask_weight == 1:
            return None
        assert isinstance(plan, ACEPlan)
        channel_BLC = plan.conditioning.channel_BLC
        assert channel_BLC is not None
        weights_BL = torch.ones_like(channel_BLC[..., 0])
        if self.config.loss == "paper":
            # Each unit counts 1 in all, however many tokens it has.
            rows = plan.canvas.height // GRID
            counts = [rows * width // GRID for width in plan.widths]
            shares = [torch.full((count, 1), 1 / count) for count in counts]
            weights_BL = weights_BL * lcu.rows_of(shares, plan.canvas.height)[:, 0].to(weights_BL)
        under_BL = channel_BLC[..., -MASK:].float().mean(-1)
        return weights_BL * (1 + (self.config.mask_weight - 1) * under_BL)
