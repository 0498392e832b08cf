"""Load transformers from weight files, and compare what they predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from tests.random_weights import transformer_config

AXES = (8, 12, 12)
GGUF = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
        "BF16", "F16"]  # fmt: skip
WIDE = transformer_config() | {"num_attention_heads": 8, "num_single_layers": 1}
"""256 columns, which blocks of 256 need."""


@torch.no_grad()
def predict(transformer: FluxTransformer2DModel) -> Tensor:
    """Its prediction for some input, wherever it is."""
    generator, device = torch.Generator().manual_seed(3), transformer.device

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    places = torch.cat([torch.zeros(12, 1), torch.arange(24.0).reshape(12, 2)], 1)
    made = transformer(
        hidden_states=draw(1, 12, transformer.config.in_channels),
        encoder_hidden_states=draw(1, 5, transformer.config.joint_attention_dim),
        pooled_projections=draw(1, transformer.config.pooled_projection_dim),
        timestep=torch.tensor([0.5], device=device),
        guidance=torch.tensor([2.5], device=device),
        img_ids=places.to(device),
        txt_ids=torch.zeros(5, 3, device=device),
    )
    return made.sample.cpu()


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def loaded(file: Path, axes: tuple[int, ...] = AXES, **options: Any) -> FluxTransformer2DModel:
    return load_transformer(
        LoadOptions(transformer=file, axes=axes, **options), "kontext", Path, torch.float32
    )


def held(model: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, 4-bit statistics aside."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
