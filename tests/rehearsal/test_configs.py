"""The configs of the rehearsal are those of the published FLUX.1."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from backbones.specs import PARAMETERS
from tests.rehearsal.networks import CHANNELS, PUBLISHED


def test_parameters() -> None:
    with torch.device("meta"):
        models = {
            "transformer": FluxTransformer2DModel.from_config(PUBLISHED.transformer | {"in_channels": 64}),
            "vae": AutoencoderKL.from_config(PUBLISHED.vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**PUBLISHED.clip)),
            "text_encoder_2": T5EncoderModel(T5Config(**PUBLISHED.t5)),
        }
    for name, model in models.items():
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name], name
    assert list(CHANNELS.values()) == [64, 384, 448]
