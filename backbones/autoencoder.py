"""Create, load, run and save FLUX's autoencoder for training, in fp32 and with gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from backbones import linear_decoder, linear_encoder
from backbones.folders import load_pretrained
from backbones.loading import build_random_model


def create(config: Mapping[str, Any]) -> AutoencoderKL:
    """Create an autoencoder with random weights from a config of diffusers' AutoencoderKL.

    Raises:
        EditkitError: where the config does not fit.
    """
    return build_random_model(AutoencoderKL, config, "model")


def make_linear(vae: AutoencoderKL, pixels_BCHW: Tensor, power: float) -> None:
    """Write down an encoder linear in pixels, whitened to a power by such in [-1, 1], and its inverse."""
    whitening = linear_encoder.whitening(pixels_BCHW, power)
    linear_encoder.write(vae, *whitening)
    linear_decoder.write(vae, linear_encoder.inverse(vae.config.latent_channels, *whitening))


def load(folder: str) -> AutoencoderKL:
    """Load an autoencoder from a folder in diffusers' layout; its weights can be trained.

    Raises:
        EditkitError: where files are missing or damaged.
    """
    return load_pretrained(AutoencoderKL, folder, "", torch.float32).requires_grad_(True)


def encode(vae: AutoencoderKL, pixels_BCHW: Tensor) -> Any:
    """Encode pixels BCHW in [-1, 1]; return the posterior with its `mean` BChw, `sample` and `kl` (B,)."""
    return vae.encode(pixels_BCHW).latent_dist


def decode(vae: AutoencoderKL, latents_BChw: Tensor) -> Tensor:
    """Decode latents BChw as the encoder makes them; return pixels BCHW, in about [-1, 1]."""
    return cast(Tensor, vae.decode(latents_BChw).sample)


def save(vae: AutoencoderKL, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write an autoencoder of this shape with these weights in diffusers' layout, in bf16."""
    copy = AutoencoderKL.from_config(vae.config)
    copy.load_state_dict(state)
    copy.to(torch.bfloat16).save_pretrained(folder)
