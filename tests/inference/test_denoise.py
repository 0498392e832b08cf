"""Law: denoising is a pure function over any span of a schedule; a request's fields survive its recipe."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from editkit import flow
from editkit.inference import provenance
from editkit.inference.pipeline import DenoiseState, denoise
from editkit.request import FIELDS, PICTURES, SETTINGS, USED, EditRequest


def velocity(x_BLC: Tensor, t: float) -> Tensor:
    """One whose flow is no straight line."""
    return torch.sin(3 * x_BLC) + t


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
    last = denoise(velocity, start, TIMES, 3, told=lambda state, until: seen.append((state, until)))
    assert torch.equal(start.x_BLC, noise_BLC)
    assert [(state.step, until) for state, until in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1][0] is last
    for (before, _), (after, _) in pairwise(seen):
        assert after.before_BLC is before.x_BLC
    with pytest.raises(dataclasses.FrozenInstanceError):
        last.step = 0  # type: ignore[misc]


def test_a_recipe_gives_the_request_back() -> None:
    given = {
        "instruction": "make it blue",
        "method": "aceplus",
        "task": "local_editing",
        "seed": 7,
        "steps": 3,
        "guidance": 2.5,
        "size": (64, 48),
        "preserve": False,
        "align": True,
        "negative": "red",
    }
    assert given.keys() == set(SETTINGS), "a new field of an edit must go into its recipe"
    request = EditRequest(image=None, **given)
    used = {name: given[name] for name in USED}  # which the pipeline adds
    assert provenance.settings(provenance.make(**provenance.asked(request), **used)) == given
    assert {*SETTINGS, *PICTURES, "search"} == set(FIELDS)
