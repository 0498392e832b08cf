"""A small transformer, and files with a LoRA and a LoRA-MoE for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn

from backbones.lora import dialect_writer
from editkit.adapters import METADATA
from tests.backbones.lora.updates import RANK, drawn
from tests.random_weights import transformer_config
from tests.released_adapters import FULL, released


@pytest.fixture(scope="module")
def flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel.from_config(transformer_config(384)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def full() -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(FULL)


@pytest.fixture
def plain(flux: nn.Module, tmp_path: Path) -> Path:
    state, about = dialect_writer.to_dialect(drawn(flux, alpha=3), "diffusers")
    save_file(state, tmp_path / "plain.safetensors", about)
    return tmp_path / "plain.safetensors"


@pytest.fixture
def moe(flux: nn.Module, tmp_path: Path) -> Path:
    """Experts at a scale of 2, a plain LoRA at a scale of 2 beside them."""
    about = {
        "icedit_moe": json.dumps({"top_k": 2, "router": "paper", "alpha": 2.0 * RANK, "in_channels": 384}),
        METADATA: json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK}),
    }
    save_file(released(flux, RANK, experts=3), tmp_path / "moe.safetensors", about)
    return tmp_path / "moe.safetensors"
