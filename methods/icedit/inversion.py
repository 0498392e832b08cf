"""The training-free edit by text to image: an inverted source, and its attention values in the left half.

ICEdit, section 3.1, which leaves open what README.md says under "Without training".
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from editkit import flow
from editkit.backbone import Backbone
from editkit.types import Plan

UNGUIDED = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class InvertedPlan(Plan):
    """A diptych for text to image, and the way of its left half from the source to noise.

    Attributes:
        source: the plan of the source alone, under an empty prompt.
        times_N: of the way, rising from 0 to 1.
        path_NBLC: packed latents of the source at these times.
        left_L: which of the diptych's tokens are the left half's.
    """

    source: Plan
    times_N: Tensor
    path_NBLC: Tensor
    left_L: Tensor

    def at(self, t: float) -> Tensor:
        """The source at a time, BLC; straight between two known times."""
        later = int(torch.searchsorted(self.times_N, t).clamp(1, len(self.times_N) - 1))
        start, end = self.times_N[later - 1], self.times_N[later]
        share = ((t - start) / (end - start)).clamp(0, 1).item()
        return torch.lerp(self.path_NBLC[later - 1], self.path_NBLC[later], share)


@torch.no_grad()
def invert(backbone: Backbone, source: Plan, x0_BLC: Tensor, times_N: Tensor) -> Tensor:
    """The flow backwards from a picture to noise, NBLC, by the midpoint rule (RF-Solver's second order)."""
    path = [x0_BLC]
    for now, then in pairwise(times_N.tolist()):
        x_BLC, middle = path[-1].float(), (now + then) / 2
        slope_BLC = backbone.velocity(path[-1], now, source, UNGUIDED).float()
        halfway_BLC = (x_BLC + (middle - now) * slope_BLC).to(x0_BLC.dtype)
        slope_BLC = backbone.velocity(halfway_BLC, middle, source, UNGUIDED).float()
        path.append((x_BLC + (then - now) * slope_BLC).to(x0_BLC.dtype))
    return torch.stack(path)


def velocity(backbone: Backbone, x_BLC: Tensor, t: float, plan: InvertedPlan, guidance: float) -> Tensor:
    """The diptych's prediction, its left half attending to the values of the source at the same time."""
    with backbone.recorded_values(plan.role, int(plan.left_L.sum())) as values:
        backbone.velocity(plan.at(t), t, plan.source, UNGUIDED)
    with backbone.injected_values(plan.role, values, plan.left_L):
        return backbone.velocity(x_BLC, t, plan, guidance)


def start(plan: InvertedPlan, noise_BLC: Tensor) -> Tensor:
    """Noise whose left half is the inverted source."""
    x_BLC = noise_BLC.clone()
    x_BLC[:, plan.left_L] = plan.path_NBLC[-1]
    return x_BLC


def times(backbone: Backbone, tokens: int) -> Tensor:
    """The sampler's own times at the role's steps, rising."""
    steps, _ = backbone.defaults("text")
    return flow.schedule(steps, tokens, backbone.time_shift("text")).flip(0)
