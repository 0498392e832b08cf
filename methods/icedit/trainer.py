"""ICEdit's training: prompt dropout, a loss over both halves or the right one, and a LoRA or a LoRA-MoE."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from editkit import adapters
from editkit.adapters.lora_options import LoraOptions
from editkit.backbone import Transformer
from editkit.errors import EditkitError
from editkit.method import Trainer
from editkit.types import EditInputs, Plan
from methods.icedit import moe, moe_file
from methods.icedit.config import ICEditConfig
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_options import MoEOptions


class ICEditTrainer(Trainer[ICEditConfig]):
    """Adds prompt dropout, the choice of the loss' half, and experts."""

    _experts: Experts | None = None

    def reword(self, instruction: str, rng: random.Random) -> str:
        """Drop an instruction at random."""
        return "" if rng.random() < self.config.prompt_dropout else instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Weight the tokens to a mean over the right half; None where both halves count."""
        if self.config.loss == "both" and self.config.context == "joint":
            return None
        ids_L3 = self.backbone.grid_ids(plan.canvas.width, plan.canvas.height)
        right_L = (ids_L3[:, 2] >= ids_L3[:, 2].max() // 2 + 1).float()
        return (right_L / right_L.sum()).expand(len(inputs.prompts), -1).clone()

    def attach(self, transformer: Transformer, options: LoraOptions) -> None:
        """Add a new plain LoRA, or experts where the option `moe` is set; they have its rank."""
        if self.config.moe is None:
            super().attach(transformer, options)
        else:
            self._experts = moe.attach(transformer, self.config.moe)

    def load(self, transformer: Transformer, path: Path) -> None:
        """Load a plain LoRA, or experts; the option `moe`, where set, gives their `balance` and `noise`.

        Raises:
            EditkitError: where the options contradict the file.
        """
        state, about = adapters.read_adapter(path)
        if not moe_file.has_experts(state):
            if self.config.moe is not None:
                raise EditkitError(f"The adapter {path} has no experts; leave options.moe out.")
            super().load(transformer, path)
            return
        options = self.config.moe and _continued(transformer, path, state, about, self.config.moe)
        transformer.requires_grad_(False)
        self._experts = moe.inject(transformer, path, options=options)
        for parameter in self._experts.parameters():
            parameter.requires_grad_(True)
        adapters.unfreeze(transformer, self._experts.adapter)

    def save(self, transformer: Transformer, folder: Path) -> None:
        """Write the trained adapter; experts in the released layout."""
        if self._experts is None:
            super().save(transformer, folder)
        else:
            self._experts.save(folder, self.backbone.name)

    def penalty(self) -> Tensor | None:
        """Return the weighted load-balance loss; None where its weight is 0."""
        return self._experts.penalty() if self._experts else None

    def figures(self) -> dict[str, float]:
        """Return `balance`, the load-balance loss, where its weight is not 0.

        It is 1 where experts share the tokens evenly, and their number where one has all tokens.
        """
        balance = self._experts.balance() if self._experts else None
        return {} if balance is None else {"balance": round(balance.item(), 4)}


def _continued(
    transformer: Transformer,
    path: Path,
    state: Mapping[str, Tensor],
    about: Mapping[str, str],
    requested: MoEOptions,
) -> MoEOptions:
    """Return the file's options with the requested `balance` and `noise`."""
    _, experts = moe_file.split(state)
    own = moe_file.options(MoEOptions, about, next(iter(experts.values())))
    for name in ("router", "experts", "rank", "top_k"):
        wanted, held = getattr(requested, name), getattr(own, name)
        if wanted != held:
            raise EditkitError(
                f"options.moe.{name} is {wanted}, but {held} in the adapter {path}; set it to that."
            )
    if requested.alpha not in (None, own.alpha or own.rank):
        raise EditkitError(f"options.moe.alpha does not fit {path}; leave it out.")
    if moe.target_layers(transformer, requested.targets).keys() != experts.keys():
        ends = ", ".join(moe_file.ends(experts))
        raise EditkitError(f"options.moe.targets must be the layers with experts in {path}: {ends}.")
    return replace(own, balance=requested.balance, noise=requested.noise)
