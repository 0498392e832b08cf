"""Create a new backbone: a small FLUX with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from backbones import copying, random_encoders
from backbones.flux import Flux
from backbones.folders import load_pretrained
from backbones.load_options import LoadOptions
from backbones.loading import build_random_model, place_transformer
from backbones.specs import FAMILIES
from editkit.errors import EditkitError, unknown


@dataclass(frozen=True, kw_only=True)
class RandomInitConfig:
    """The parts of a backbone with random weights."""

    family: str = "tiny"
    """Name of the backbone whose roles the new one has."""
    vae: str = ""
    """Folder of a trained autoencoder."""
    words: str = ""
    """File with one word a line, which becomes the vocabulary."""
    letters: str = ""
    """Capital letters that are words of their own."""
    transformer: dict[str, Any] = field(default_factory=dict)
    """Config of diffusers' FluxTransformer2DModel."""
    copying: float = 0.0
    """Norm weight of queries and keys with which two heads of every block begin by looking at the context
    picture's token in the same place; plain random weights where 0."""
    clip: dict[str, Any] = field(default_factory=dict)
    """Config of transformers' CLIPTextModel."""
    t5: dict[str, Any] = field(default_factory=dict)
    """Config of transformers' T5EncoderModel."""


def random_flux(
    config: RandomInitConfig, role: str, device: torch.device, seed: int, options: LoadOptions
) -> Flux:
    """Create a backbone in fp32: a random transformer and random text encoders with a trained autoencoder.

    Raises:
        EditkitError: where the autoencoder or the word list is missing, or a config does not fit.
    """
    for path in (Path(config.vae) / "config.json", Path(config.words)):
        if not path.is_file():
            raise EditkitError(f"The file {path} is missing; train the autoencoder first (docs/tiny.md).")
    if config.family not in FAMILIES:
        raise EditkitError(unknown("backbone", config.family, FAMILIES))
    torch.manual_seed(seed)
    flux = Flux(FAMILIES[config.family], device, torch.float32, options)
    words: Sequence[str] = Path(config.words).read_text().split()
    length = flux.family.sequence_length
    encoders = random_encoders.random_encoders(
        words, letters=config.letters, clip=config.clip, t5=config.t5, length=length
    )
    transformer = build_random_model(FluxTransformer2DModel, config.transformer, "fresh.transformer")
    if config.copying:
        copying.start_by_copying(transformer, config.copying)
    vae = load_pretrained(AutoencoderKL, config.vae, "", torch.float32)
    place_transformer(transformer, device, options)
    for model in (encoders.clip, encoders.t5, vae):
        # Frozen unless a recipe trains them, so that each prompt is encoded only once.
        model.to(device).requires_grad_(False)
    flux.set_components(flux.options.key(role, flux.role(role)), transformer, vae, encoders)
    return flux
