"""Adapter files for the transformers of random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backbones.flux import Flux
from editkit import adapters

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Writes a LoRA on the last layer, which fits all roles."""

    def write(name: str, seed: int, alpha: float = 2.0) -> Path:
        generator = torch.Generator().manual_seed(seed)
        save_file(
            {
                "transformer.proj_out.lora_A.weight": torch.randn(2, 64, generator=generator),
                "transformer.proj_out.lora_B.weight": torch.randn(64, 2, generator=generator),
                "transformer.proj_out.alpha": torch.tensor(alpha),
            },
            tmp_path / name,
        )
        return tmp_path / name

    return write


@pytest.fixture
def bare_flux(random_flux: Flux) -> Iterator[Flux]:
    """The family of random weights that all tests share, whose transformers are bare again after the test."""
    yield random_flux
    for transformer in random_flux.transformers.values():
        for name in {name for layer in adapters.layers(transformer) for name in layer.r}:
            adapters.eject(transformer, name)
        assert not adapters.layers(transformer)
