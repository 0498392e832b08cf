"""ICEdit's training: prompts left out whole, and a loss over both halves or the right one."""

import random

import torch
from torch import Tensor

from editkit.method import Trainer
from editkit.types import EditInputs, Plan
from methods.icedit.config import ICEditConfig


class ICEditTrainer(Trainer):
    """The released objective counts both halves; on the left it only teaches to copy."""

    config: ICEditConfig

    def reword(self, instruction: str, rng: random.Random) -> str:
        """The instruction, or nothing now and then."""
        return "" if rng.random() < self.config.prompt_dropout else instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """1 on the right half's tokens and 0 on the left's, or None where both count."""
        if self.config.loss == "both":
            return None
        ids_L3 = self.backbone.grid_ids(plan.canvas.width, plan.canvas.height)
        right_L = (ids_L3[:, 2] >= ids_L3[:, 2].max() // 2 + 1).float()
        return right_L.expand(len(inputs.prompts), -1).clone()
