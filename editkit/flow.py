"""Rectified flow: schedule, time distribution, interpolation, velocity, Euler steps, loss.

Times run from 1 (noise) to 0 (picture): x_t = (1 - t) x_0 + t noise, and the velocity is noise - x_0.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

MODE_SCALE = 1.29

Velocity = Callable[[Tensor, float, float], Tensor]
"""Velocity of a step, BLC: `velocity(x_BLC, now, then)` for the step from time `now` to `then`.

FLUX gives the velocity at `now`, whatever `then` is. A flow map gives the mean velocity between the two.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeShift:
    """The time shift of a network: how far it moves times towards noise. Defaults are those of FLUX.1 [dev].

    Attributes:
        fixed: a factor for every canvas, as FLUX.1 [schnell] has it; None where resolution decides.
        base_tokens: tokens of a canvas whose mu is `base_shift`.
        max_tokens: tokens of a canvas whose mu is `max_shift`; mu is linear in the tokens.
    """

    fixed: float | None = None
    base_tokens: int = 256
    max_tokens: int = 4096
    base_shift: float = 0.5
    max_shift: float = 1.15

    def mu(self, tokens: int) -> float:
        """Return the logarithm of the shift's factor for a canvas of this many tokens."""
        if self.fixed is not None:
            return math.log(self.fixed)
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return self.base_shift + slope * (tokens - self.base_tokens)


FLUX_DEV = TimeShift()


def shifted(times: Tensor, mu: float) -> Tensor:
    """Shift times in [0, 1] by mu; 0 and 1 stay where they are."""
    weight = math.exp(mu)
    return weight * times / (weight * times + (1 - times))


def schedule(steps: int, tokens: int, shift: TimeShift = FLUX_DEV) -> Tensor:
    """Make the times of a sampler, from 1 down to 0, shape (steps + 1,), float32."""
    return shifted(torch.linspace(1, 0, steps + 1), shift.mu(tokens))


def euler_steps(velocity: Velocity, x_BLC: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Take Euler steps over any span of a schedule; yield x_t after each step.

    Splitting the times at any point and going on from there gives the same tensors. In half precision, a step
    is rounded before the sum, as in diffusers' scheduler.
    """
    spans = times.to(x_BLC.device).diff()
    for (now, then), span in zip(pairwise(times.tolist()), spans, strict=True):
        x_BLC = (x_BLC.float() + span * velocity(x_BLC, now, then)).to(x_BLC.dtype)
        yield x_BLC


def endpoint(before_BLC: Tensor, after_BLC: Tensor, now: float, then: float) -> Tensor:
    """Extrapolate an Euler step from time `now` to `then` straight on to time 0, BLC."""
    velocity_BLC = (after_BLC.float() - before_BLC.float()) / (then - now)
    return (after_BLC.float() - then * velocity_BLC).to(after_BLC.dtype)


def training_times(
    count: int,
    tokens: int,
    *,
    shift: TimeShift = FLUX_DEV,
    generator: torch.Generator | None = None,
    mean: float | None = None,
    std: float = 1.0,
    distribution: str = "logit_normal",
) -> Tensor:
    """Draw training times in (0, 1), shape (count,).

    `logit_normal`: the logit's mean is the mu of `shift` unless `mean` is given. This is the same as drawing
    around 0 and shifting as the sampler does (Kontext paper, section 3).
    `uniform`, `mode` and `cosmap` are Stable Diffusion 3's (section 3.1) and know no resolution.
    """
    if distribution == "logit_normal":
        normal = torch.randn(count, generator=generator)
        return torch.sigmoid(normal * std + (shift.mu(tokens) if mean is None else mean))
    uniform = torch.rand(count, generator=generator)
    if distribution == "mode":
        return 1 - uniform - MODE_SCALE * (torch.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)
    if distribution == "cosmap":
        return 1 - 1 / (torch.tan(math.pi / 2 * uniform) + 1)
    return uniform


def time_weights(times_B: Tensor, weighting: str) -> Tensor | None:
    """Return loss weights by time, shape (B,), named as in diffusers' trainers; None for equal weights."""
    if weighting == "sigma_sqrt":
        return times_B**-2
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * times_B + 2 * times_B**2))
    return None


def interpolate(x0_BLC: Tensor, noise_BLC: Tensor, times_B: Tensor) -> tuple[Tensor, Tensor]:
    """Mix x_0 and noise at the times; return x_t and its velocity, BLC."""
    t_B11 = times_B[:, None, None]
    return (1 - t_B11) * x0_BLC + t_B11 * noise_BLC, noise_BLC - x0_BLC


def loss(
    predicted_BLC: Tensor,
    velocity_BLC: Tensor,
    weights_BL: Tensor | None = None,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Return the mean squared error of predicted velocities.

    With `weights_BL`, a sample's error is the weighted sum over its tokens. `weights_B` scales each sample's
    error.
    """
    error_BL = ((predicted_BLC.float() - velocity_BLC.float()) ** 2).mean(-1)
    error_B = error_BL.mean(1) if weights_BL is None else (error_BL * weights_BL).sum(1)
    return (error_B if weights_B is None else error_B * weights_B).mean()
