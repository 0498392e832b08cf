"""Experts that become one LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file

import editkit
from editkit import adapters
from methods.icedit import collapse, moe
from methods.icedit.moe_options import MoEOptions
from tests.released_adapters import EXPERTS, RANK


@torch.no_grad()
@pytest.mark.parametrize("way", collapse.WAYS)
def test_equal_experts_collapse_without_loss(
    transformer: FluxTransformer2DModel, file: Path, forward: Any, way: str
) -> None:
    state = load_file(file)
    for key in state:
        if "expert_" in key:
            state[key] = state[key.replace(key[key.index("expert_") :], "expert_0.weight")]
    handle = moe.inject(transformer, state)
    whole = forward(transformer)
    handle.eject()
    plain = collapse.collapse(state, way=way)
    assert plain.error < 1e-3
    adapters.install(transformer, plain.state, "plain", {})
    assert torch.allclose(forward(transformer), whole, atol=1e-4)
    adapters.eject(transformer, "plain")


def test_the_svd_is_the_best_of_its_rank(file: Path) -> None:
    state = load_file(file)
    errors = {rank: collapse.collapse(state, rank=rank).error for rank in (1, RANK, EXPERTS * RANK)}
    assert 1 > errors[1] > errors[RANK] > errors[EXPERTS * RANK] > 0
    assert collapse.collapse(state, way="average").error > errors[RANK]
    module = next(key for key in state if "expert_0" in key).split(".lora_")[0].removeprefix("transformer.")
    alone = collapse.collapse(state, weights={module: [0.0, 1.0, 0.0, 0.0]})
    assert alone.errors[module] < 1e-3
    up, down = (alone.state[f"transformer.{module}.lora_{letter}.weight"] for letter in ("B", "A"))
    one = [state[f"transformer.{module}.lora_{letter}.expert_1.weight"] for letter in ("B", "A")]
    assert torch.allclose(up @ down, one[0] @ one[1], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"way": "mean"}, "svd or average"),
        ({"rank": 0}, "at least 1"),
        ({"way": "average", "rank": 2}, "leave rank out"),
        ({"weights": {"transformer_blocks.0.ff.net.2": [1.0]}}, "do not fit"),
    ],
)
def test_bad_collapses(file: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(editkit.EditkitError, match=sentence):
        collapse.collapse(load_file(file), **arguments)
    with pytest.raises(editkit.EditkitError, match="nothing to collapse"):
        collapse.collapse({})


@torch.no_grad()
def test_weights_are_what_the_router_gives(
    transformer: FluxTransformer2DModel, file: Path, forward: Any
) -> None:
    for router, total in (("released", 1.0), ("paper", None)):
        handle = moe.inject(transformer, file, options=MoEOptions(rank=RANK, router=router))
        handle.count()
        forward(transformer)
        sums = [sum(weights) for weights in handle.weights().values()]
        assert all(each == pytest.approx(total) if total else 0.25 < each < 1 for each in sums)
        handle.eject()
