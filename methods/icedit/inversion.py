"""Edit by text to image without training: invert the source, and inject its attention values on the left.

ICEdit, section 3.1. README.md lists under "Without training" what the paper leaves open.
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
    """A plan of a diptych for text to image, with the inverted source.

    Attributes:
        source: plan of the source by itself, with an empty prompt.
        times_N: times of the inversion, rising from 0 to 1.
        path_NBLC: packed latents of the source at these times.
        left_L: mask of the diptych's tokens that belong to the left half.
    """

    source: Plan
    times_N: Tensor
    path_NBLC: Tensor
    left_L: Tensor

    def at(self, t: float) -> Tensor:
        """Interpolate the inverted source linearly at a time, BLC."""
        later = int(torch.searchsorted(self.times_N, t).clamp(1, len(self.times_N) - 1))
        start, end = self.times_N[later - 1], self.times_N[later]
        share = ((t - start) / (end - start)).clamp(0, 1).item()
        return torch.lerp(self.path_NBLC[later - 1], self.path_NBLC[later], share)


@torch.no_grad()
def invert(backbone: Backbone, source: Plan, x0_BLC: Tensor, times_N: Tensor) -> Tensor:
    """Invert a picture to noise along the flow, NBLC, by the midpoint rule (RF-Solver's second order)."""
    path = [x0_BLC]
    for now, then in pairwise(times_N.tolist()):
        x_BLC, middle = path[-1].float(), (now + then) / 2
        slope_BLC = backbone.velocity(path[-1], now, source, UNGUIDED).float()
        halfway_BLC = (x_BLC + (middle - now) * slope_BLC).to(x0_BLC.dtype)
        slope_BLC = backbone.velocity(halfway_BLC, middle, source, UNGUIDED).float()
        path.append((x_BLC + (then - now) * slope_BLC).to(x0_BLC.dtype))
    return torch.stack(path)


def velocity(backbone: Backbone, x_BLC: Tensor, t: float, plan: InvertedPlan, guidance: float) -> Tensor:
    """Predict the diptych's velocity; its left half gets the source's attention values at this time."""
    with backbone.record_values(plan.role, int(plan.left_L.sum())) as values:
        backbone.velocity(plan.at(t), t, plan.source, UNGUIDED)
    with backbone.inject_values(plan.role, values, plan.left_L):
        return backbone.velocity(x_BLC, t, plan, guidance)


def start(plan: InvertedPlan, noise_BLC: Tensor) -> Tensor:
    """Replace the left half of the noise by the inverted source."""
    x_BLC = noise_BLC.clone()
    x_BLC[:, plan.left_L] = plan.path_NBLC[-1]
    return x_BLC


def times(backbone: Backbone, tokens: int) -> Tensor:
    """Return the sampler's times at the role's default steps, rising from 0 to 1."""
    steps, _ = backbone.defaults("text")
    return flow.schedule(steps, tokens, backbone.time_shift("text")).flip(0)
