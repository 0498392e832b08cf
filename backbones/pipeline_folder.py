"""Write a FLUX family's models as a diffusers pipeline folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline, FluxPipeline

from backbones.components import Components
from backbones.scheduler import scheduler
from editkit import atomic_files

PIPELINES = {
    "text": FluxPipeline,
    "kontext": FluxKontextPipeline,
    "fill": FluxFillPipeline,
    "ace": FluxFillPipeline,
}
"""diffusers' pipelines by role. It has none for ACE++'s 448 channels; Fill's describes the folder best."""


def save(family: Components, role: str, folder: Path) -> None:
    """Write one role as a diffusers pipeline folder in bf16, whole or not at all."""
    pipeline = PIPELINES[role](
        scheduler=scheduler(family.time_shift(role)),
        vae=_bf16(family.vae),
        text_encoder=_bf16(family.encoders.clip),
        tokenizer=family.encoders.clip_tokenizer,
        text_encoder_2=_bf16(family.encoders.t5),
        tokenizer_2=family.encoders.t5_tokenizer,
        transformer=_bf16(family.transformer(role)),
    )
    with atomic_files.beside(folder) as partial:
        pipeline.save_pretrained(partial)


def _bf16(model: Any) -> Any:
    """Copy a model in bf16; the original stays in full precision, so that its training can go on."""
    state = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        copy = (
            # A published folder must not contain local paths.
            type(model).from_config({k: v for k, v in model.config.items() if k != "_name_or_path"})
            if hasattr(model, "from_config")
            else type(model)(model.config)
        )
    copy = copy.to_empty(device="cpu").to(torch.bfloat16)
    copy.load_state_dict(state)
    return copy
