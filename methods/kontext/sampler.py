"""Kontext's sampler: plain Euler, with true classifier-free guidance where a negative prompt is given."""

from dataclasses import replace

from torch import Tensor

from editkit.method import Sampler
from editkit.types import Plan
from methods.kontext.config import KontextConfig


class KontextSampler(Sampler):
    """The official sampler; the negative prompt is diffusers' addition."""

    config: KontextConfig

    def velocity(self, x_BLC: Tensor, t: float, plan: Plan, guidance: float) -> Tensor:
        """The prediction, pushed away from the negative prompt's where there is one."""
        predicted_BLC = self.backbone.velocity(x_BLC, t, plan, guidance)
        negative = plan.conditioning.negative
        if negative is None:
            return predicted_BLC
        unwanted = replace(plan, conditioning=replace(plan.conditioning, text=negative))
        unwanted_BLC = self.backbone.velocity(x_BLC, t, unwanted, guidance)
        return unwanted_BLC + self.config.true_cfg * (predicted_BLC - unwanted_BLC)
