"""Optimizers, learning rates, moving averages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from backbones.flux import Flux
from editkit import EditkitError
from editkit.train.config import OptimConfig
from editkit.train.optim import Ema, make_optimizers, rate


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1, 50: 1, 99: 1}),
        ({"warmup": 4}, {0: 0.25, 3: 1, 99: 1}),
        ({"schedule": "linear"}, {0: 1, 50: 0.5, 99: 0.01}),
        ({"schedule": "linear", "decay": 0.4}, {0: 1, 60: 1, 80: 0.5, 99: 0.025}),
        ({"schedule": "cosine"}, {0: 1, 50: 0.5, 75: 0.5 - 0.5 * math.cos(math.pi / 4)}),
        ({"schedule": "onecycle"}, {0: 0.04, 30: 1, 65: 0.5}),
    ],
)
def test_learning_rates(options: dict[str, Any], expected: dict[int, float]) -> None:
    chosen = OptimConfig(**options)
    for step, factor in expected.items():
        assert rate(step, 100, chosen) == pytest.approx(factor), step
    assert all(0 < rate(step, 100, chosen) <= 1 for step in range(100))


def test_muon_moves_matrices_of_blocks_alone(random_flux: Flux) -> None:
    parameters = dict(random_flux.transformer("kontext").named_parameters())
    for parameter in parameters.values():
        assert not parameter.requires_grad
    free = {name: nn.Parameter(parameter.detach()) for name, parameter in parameters.items()}
    muon, adamw = make_optimizers(free.items(), OptimConfig(name="muon", lr=1e-3, muon_lr=0.02))
    names = {id(parameter): name for name, parameter in free.items()}
    chosen = [
        {names[id(p)] for group in each.param_groups for p in group["params"]} for each in (muon, adamw)
    ]
    assert chosen[0] | chosen[1] == set(free)
    assert not chosen[0] & chosen[1]
    assert "transformer_blocks.0.attn.to_q.weight" in chosen[0]
    assert {"x_embedder.weight", "proj_out.weight", "transformer_blocks.0.attn.to_q.bias"} <= chosen[1]
    assert [each.param_groups[0]["peak"] for each in (muon, adamw)] == [0.02, 1e-3]
    assert len(make_optimizers(parameters.items(), OptimConfig())) == 0


def test_rates_by_name() -> None:
    free = {name: nn.Parameter(torch.zeros(2)) for name in ("t5.shared.weight", "t5.block", "clip", "x")}
    (adamw,) = make_optimizers(free.items(), OptimConfig(lr=1.0, lr_of={"t5": 0.1, "t5.shared": 0.5}))
    found = {id(p): group["peak"] for group in adamw.param_groups for p in group["params"]}
    assert [found[id(free[name])] for name in free] == [0.5, 0.1, 1.0, 1.0]
    (alike,) = make_optimizers(free.items(), OptimConfig(lr=0.1, lr_of={"t5": 0.1, "t5.shared": 0.5}))
    assert len(alike.param_groups) == len(adamw.param_groups), "so that a resumed run may have such rates"
    with pytest.raises(EditkitError, match=r"lr_of names 't6', .* the first of those is t5.shared.weight"):
        make_optimizers(free.items(), OptimConfig(lr_of={"t6": 0.1}))


def test_moving_average() -> None:
    weight = nn.Parameter(torch.zeros(3))
    ema = Ema({"weight": weight}, 0.9)
    with torch.no_grad():
        weight.fill_(1)
    for step in range(200):
        ema.update(step)
        if step == 0:
            assert ema.shadow["weight"].tolist() == pytest.approx([0.9] * 3)  # the memory starts short
    assert ema.shadow["weight"].tolist() == pytest.approx([1.0] * 3)
    with torch.no_grad():
        weight.fill_(5)
    ema.update(200)
    assert ema.shadow["weight"].tolist() == pytest.approx([1.4] * 3)
    ema.swap()
    assert weight.tolist() == pytest.approx([1.4] * 3)
    ema.swap()
    assert weight.tolist() == [5.0] * 3
