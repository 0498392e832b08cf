"""Weights that wait on the CPU: adapters' are among them, whenever they come or go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn

from backbones.load_options import LoadOptions
from backbones.loading import place_transformer
from editkit import adapters
from methods.icedit import moe
from methods.icedit.moe_options import MoEOptions
from tests.random_weights import transformer_config
from tests.released_adapters import released


def left_behind(transformer: nn.Module) -> list[str]:
    """Parameters that no group takes to the device."""
    taken: set[int] = set()
    for module in transformer.modules():
        hooks = getattr(module, "_diffusers_hook", None)
        hook = hooks and hooks.get_hook("group_offloading")
        if hook:
            within = [p for each in hook.group.modules for p in each.parameters()]
            taken |= {id(parameter) for parameter in (*within, *hook.group.parameters)}
    return [name for name, parameter in transformer.named_parameters() if id(parameter) not in taken]


@pytest.fixture(params=["block", "leaf"])
def offloaded(request: pytest.FixtureRequest) -> FluxTransformer2DModel:
    transformer = FluxTransformer2DModel.from_config(transformer_config(384)).requires_grad_(False)
    return place_transformer(transformer, torch.device("cpu"), LoadOptions(offload=request.param))


@pytest.mark.parametrize("experts", [0, 4])
def test_a_loaded_adapter_travels_along(
    offloaded: FluxTransformer2DModel, tmp_path: Path, experts: int
) -> None:
    save_file(released(offloaded, 3, experts=experts), tmp_path / "adapter.safetensors")
    assert not left_behind(offloaded)
    moe.load_moe(offloaded, tmp_path / "adapter.safetensors", "mine")
    assert len(adapters.layers(offloaded)) == 19
    assert not left_behind(offloaded)


def test_fresh_adapters_travel_along(offloaded: FluxTransformer2DModel) -> None:
    adapters.attach(offloaded, adapters.LoraOptions(rank=2, targets=("x_embedder", "to_q")))
    assert not left_behind(offloaded)
    adapters.eject(offloaded, "default")
    handle = moe.attach(offloaded, MoEOptions(rank=2))
    assert not left_behind(offloaded)
    handle.eject()
    assert not left_behind(offloaded)
    assert not adapters.layers(offloaded)
