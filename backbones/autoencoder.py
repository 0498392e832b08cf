"""FLUX's autoencoder for those who train it, in fp32 and with gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from backbones.folders import load_pretrained
from backbones.loading import build_random_model
from backbones.packing import unpack


def create(config: Mapping[str, Any]) -> AutoencoderKL:
    """One with random weights from diffusers' AutoencoderKL config.

    Raises:
        EditkitError: where the config does not fit.
    """
    return build_random_model(AutoencoderKL, config, "model")


def load(folder: str) -> AutoencoderKL:
    """One in a folder as diffusers writes it.

    Raises:
        EditkitError: where its files are missing or damaged.
    """
    return load_pretrained(AutoencoderKL, folder, "", torch.float32).requires_grad_(True)


def freeze_encoder(vae: AutoencoderKL) -> None:
    """Keep the encoder's weights, so that latents stay what a trained transformer knows."""
    vae.encoder.requires_grad_(False)


def encode(vae: AutoencoderKL, pixels_BCHW: Tensor) -> Any:
    """The posterior of pixels in [-1, 1]: `mean` BChw, a `sample` and the `kl` of each, B."""
    return vae.encode(pixels_BCHW).latent_dist


def decode(vae: AutoencoderKL, latents_BChw: Tensor) -> Tensor:
    """Pixels BCHW, about [-1, 1]."""
    return cast(Tensor, vae.decode(latents_BChw).sample)


def latents(vae: AutoencoderKL, tokens_BLC: Tensor, width: int, height: int) -> Tensor:
    """Tokens of a canvas of `width` x `height` pixels as the decoder takes them, BChw."""
    return cast(
        Tensor, unpack(tokens_BLC, width, height) / vae.config.scaling_factor + vae.config.shift_factor
    )


def save(vae: AutoencoderKL, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write these weights of such an autoencoder in diffusers' layout, bf16."""
    copy = AutoencoderKL.from_config(vae.config)
    copy.load_state_dict(state)
    copy.to(torch.bfloat16).save_pretrained(folder)
