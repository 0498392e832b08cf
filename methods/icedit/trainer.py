"""ICEdit's training: prompts left out whole, and a loss over both halves or the right one."""

import random
from pathlib import Path
from typing import Any

from torch import Tensor

from editkit import adapters
from editkit.adapters import LoraOptions
from editkit.method import Trainer
from editkit.types import EditInputs, Plan
from methods.icedit import checkpoint, moe
from methods.icedit.config import ICEditConfig


class ICEditTrainer(Trainer):
    """The released objective counts both halves; on the left it only teaches to copy."""

    config: ICEditConfig
    _experts: moe.Experts | None = None

    def reword(self, instruction: str, rng: random.Random) -> str:
        """The instruction, or nothing now and then."""
        return "" if rng.random() < self.config.prompt_dropout else instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """A mean over the right half's tokens, or None where both halves count."""
        if self.config.loss == "both":
            return None
        ids_L3 = self.backbone.grid_ids(plan.canvas.width, plan.canvas.height)
        right_L = (ids_L3[:, 2] >= ids_L3[:, 2].max() // 2 + 1).float()
        return (right_L / right_L.sum()).expand(len(inputs.prompts), -1).clone()

    def attach(self, transformer: Any, options: LoraOptions) -> None:
        """A plain LoRA, or experts where the method's options name them; their own rank counts then."""
        if self.config.moe is None:
            super().attach(transformer, options)
        else:
            self._experts = moe.attach(transformer, self.config.moe)

    def load(self, transformer: Any, path: Path) -> None:
        """A plain LoRA, or experts with theirs."""
        state, _ = adapters.read(path)
        if not checkpoint.has_experts(state):
            super().load(transformer, path)
            return
        transformer.requires_grad_(False)
        self._experts = moe.inject(transformer, path)
        for parameter in self._experts.parameters():
            parameter.requires_grad_(True)
        adapters.unfreeze(transformer, self._experts.adapter)

    def save(self, transformer: Any, folder: Path, options: LoraOptions) -> None:
        """The file in the released layout."""
        if self._experts is None:
            super().save(transformer, folder, options)
        else:
            self._experts.save(folder, self.backbone.name)

    def penalty(self) -> Tensor | None:
        """The load-balance loss, where it has a weight."""
        if self._experts is None or self.config.moe is None:
            return None
        balance = self._experts.balance()
        return None if balance is None else self.config.moe.balance * balance
