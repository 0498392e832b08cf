"""Random transformers, and their tensors under native names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from backbones.conversion import state_dict
from tests.backbones.files.networks import WIDE
from tests.random_weights import AUTOENCODER
from tests.weight_files import (
    State,
)


@pytest.fixture(scope="package")
def plain(random_flux: Any) -> FluxTransformer2DModel:
    return random_flux.transformer("kontext")


@pytest.fixture(scope="package")
def native(plain: FluxTransformer2DModel) -> State:
    return state_dict.diffusers_to_native({n: t.detach() for n, t in plain.state_dict().items()})


@pytest.fixture(scope="package")
def wide_native() -> State:
    torch.manual_seed(0)
    model = FluxTransformer2DModel.from_config(WIDE)
    return state_dict.diffusers_to_native({n: t.detach() for n, t in model.state_dict().items()})


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family's folder with encoders as FLUX has them, 64 wide."""
    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=32, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2,
                  feed_forward_proj="gated-gelu", dropout_rate=0.0)  # fmt: skip
    clip = CLIPTextConfig(vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                          num_attention_heads=2, max_position_embeddings=16, eos_token_id=31)  # fmt: skip
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder_2")
    CLIPTextModel(clip).save_pretrained(folder / "text_encoder")
    AutoencoderKL.from_config(AUTOENCODER).save_pretrained(folder / "vae")
    return folder
