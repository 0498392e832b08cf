"""New backbones: a small FLUX with random weights, and any FLUX written out as a diffusers pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)

from backbones import text
from backbones.flux import Flux
from backbones.folders import pretrained
from backbones.loading import LoadOptions, place, untrained
from backbones.specs import FAMILIES
from backbones.widening import widened
from editkit import atomic_files, flow
from editkit.errors import EditkitError, unknown

PIPELINES = {
    "text": FluxPipeline,
    "kontext": FluxKontextPipeline,
    "fill": FluxFillPipeline,
    "ace": FluxFillPipeline,
}
"""diffusers has none for ACE++'s 448 channels; Fill's says what is in the folder."""


@dataclass(frozen=True, kw_only=True)
class FreshConfig:
    """What a backbone with random weights is made of."""

    family: str = "tiny"
    vae: str = ""
    """Folder of the trained autoencoder."""
    words: str = ""
    """File with a word a line, which becomes the vocabulary."""
    letters: str = ""
    """Capital letters that are words of their own."""
    transformer: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] = field(default_factory=dict)
    t5: dict[str, Any] = field(default_factory=dict)


def fresh(config: FreshConfig, role: str, device: torch.device, seed: int, options: LoadOptions) -> Flux:
    """A backbone with random transformer and text encoders over a trained autoencoder, fp32.

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
    encoders = text.fresh(words, letters=config.letters, clip=config.clip, t5=config.t5, length=length)
    transformer = untrained(FluxTransformer2DModel, config.transformer, "fresh.transformer")
    vae = pretrained(AutoencoderKL, config.vae, "", torch.float32)
    place(transformer, device, options)
    for model in (encoders.clip, encoders.t5, vae):
        # Frozen until a recipe says otherwise, so that prompts are encoded once and not at every step.
        model.to(device).requires_grad_(False)
    flux.adopt(flux.role(role).key, transformer, vae, encoders)
    return flux


def widen(flux: Flux, role: str, start: str) -> None:
    """Give a role a transformer that begins as another role's; what its wider input adds has no effect yet.

    Raises:
        EditkitError: where a role is missing, or no way is known from the one's channels to the other's.
    """
    made = widened(flux.transformer(start), flux.role(role).in_channels)
    flux.transformers.pop(flux.role(start).key)  # whose weights the wider one has taken over
    flux.adopt(flux.role(role).key, place(made, flux.transformer_device, flux.options))


def save(flux: Flux, role: str, folder: Path) -> None:
    """Write one role as a diffusers pipeline folder in bf16, whole or not at all."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=flow.BASE_SHIFT,
        max_shift=flow.MAX_SHIFT,
        base_image_seq_len=flow.BASE_TOKENS,
        max_image_seq_len=flow.MAX_TOKENS,
    )
    pipeline = PIPELINES[role](
        scheduler=scheduler,
        vae=_bf16(flux.vae),
        text_encoder=_bf16(flux.encoders.clip),
        tokenizer=flux.encoders.clip_tokenizer,
        text_encoder_2=_bf16(flux.encoders.t5),
        tokenizer_2=flux.encoders.t5_tokenizer,
        transformer=_bf16(flux.transformer(role)),
    )
    with atomic_files.beside(folder) as partial:
        pipeline.save_pretrained(partial)


def _bf16(model: Any) -> Any:
    """A bf16 copy, so that training goes on in full precision."""
    state = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        copy = (
            # Where a model was loaded from is nobody else's business.
            type(model).from_config({k: v for k, v in model.config.items() if k != "_name_or_path"})
            if hasattr(model, "from_config")
            else type(model)(model.config)
        )
    copy = copy.to_empty(device="cpu").to(torch.bfloat16)
    copy.load_state_dict(state)
    return copy
