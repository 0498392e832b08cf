"""Small Fill transformers for experts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit import adapters, config, registry
from editkit.types import EditInputs
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear
from tests.pictures import photo
from tests.random_weights import transformer_config
from tests.released_adapters import EXPERTS, RANK, released


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    torch.manual_seed(3)
    return FluxTransformer2DModel.from_config(transformer_config(384)).eval().requires_grad_(False)


@pytest.fixture
def file(transformer: FluxTransformer2DModel, tmp_path: Path) -> Path:
    save_file(released(transformer, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    return tmp_path / "moe.safetensors"


@pytest.fixture
def forward(random_flux: Flux) -> Any:
    """One velocity of a transformer on a fixed diptych."""
    method = registry.method("icedit")
    with torch.no_grad():
        conditioner = method.conditioner(random_flux, config.build(method.config, {}))
        plan = conditioner.plan(EditInputs(prompts=("make the red circle blue",), source_BCHW=photo(64, 64)))
    slots = plan.conditioning
    torch.manual_seed(1)
    hidden_BLC = torch.cat((torch.randn(1, slots.channel_BLC.shape[1], 64), slots.channel_BLC), dim=-1)
    ids_L3 = random_flux.grid_ids(plan.canvas.width, plan.canvas.height)

    def run(transformer: FluxTransformer2DModel) -> Tensor:
        dtype = transformer.dtype
        return transformer(
            hidden_states=hidden_BLC.to(dtype),
            encoder_hidden_states=slots.text.tokens_BTD.to(dtype),
            pooled_projections=slots.text.pooled_BD.to(dtype),
            timestep=torch.tensor([0.5], dtype=dtype),
            guidance=torch.tensor([1.0]),
            txt_ids=torch.zeros(slots.text.tokens_BTD.shape[1], 3),
            img_ids=ids_L3,
            return_dict=False,
        )[0]

    return run


@pytest.fixture
def adapted(bare: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path) -> editkit.Editor:
    """An editor whose ICEdit uses experts by default, which random weights get by a path."""
    save_file(released(bare, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    return editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})


@pytest.fixture
def bare(random_flux: Flux) -> Iterator[FluxTransformer2DModel]:
    """Fill's random transformer, which is bare again after the test."""
    transformer = random_flux.transformer("fill")
    yield transformer
    for module in [m for m in transformer.modules() if isinstance(m, MoELinear)]:
        (name,) = module.r
        layers = {n: m for n, m in transformer.named_modules() if isinstance(m, MoELinear) and name in m.r}
        Experts(transformer, layers, name, plain=False).eject()
    for name in list(getattr(transformer, "peft_config", {})):
        adapters.eject(transformer, name)
    assert not adapters.layers(transformer)
