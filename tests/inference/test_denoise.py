"""Law: denoising is a pure function over any span of a schedule."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from editkit import flow
from editkit.inference.pipeline import denoise
from editkit.inference.planned_batch import DenoiseState


def velocity(x_BLC: Tensor, now: float, then: float) -> Tensor:
    """One whose flow is no straight line, and which depends on the step's length."""
    return torch.sin(3 * x_BLC) + now + then**2


@pytest.fixture
def start() -> DenoiseState:
    return DenoiseState(x_BLC=torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)))


TIMES = flow.schedule(5, 6)


@pytest.mark.parametrize("until", range(6))
def test_going_on_gives_what_one_call_gives(start: DenoiseState, until: int) -> None:
    whole = denoise(velocity, start, TIMES)
    stopped = denoise(velocity, start, TIMES, until)
    assert (stopped.step, whole.step) == (until, 5)
    ended = denoise(velocity, stopped, TIMES)
    assert torch.equal(ended.x_BLC, whole.x_BLC)
    assert torch.equal(denoise(velocity, stopped, TIMES).x_BLC, ended.x_BLC)


def test_states_do_not_change(start: DenoiseState) -> None:
    noise_BLC, seen = start.x_BLC.clone(), []
    last = denoise(velocity, start, TIMES, 3, on_step=lambda state, until: seen.append((state, until)))
    assert torch.equal(start.x_BLC, noise_BLC)
    assert [(state.step, until) for state, until in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1][0] is last
    for (before, _), (after, _) in pairwise(seen):
        assert after.before_BLC is before.x_BLC
    with pytest.raises(dataclasses.FrozenInstanceError):
        last.step = 0  # type: ignore[misc]
