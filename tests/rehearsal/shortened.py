"""Kontext's networks, shortened for a megapixel on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL
from torch import nn

import editkit

NARROW = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "mid_block_add_attention": False}


@contextmanager
def narrow_encoder(editor: editkit.Editor) -> Iterator[None]:
    """Within, pictures become latents through an encoder of 32 channels."""
    flux = editor.backbone
    whole = flux.vae.encoder
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoencoderKL.from_config({**flux.vae.config, **NARROW}).encoder
    flux.vae.encoder = made.to(flux.dtype, memory_format=torch.channels_last).eval()
    try:
        yield
    finally:
        flux.vae.encoder = whole


@contextmanager
def no_blocks(editor: editkit.Editor) -> Iterator[None]:
    """Within, Kontext's transformer has its layers before and after the blocks alone."""
    transformer = editor.backbone.transformer("kontext")
    names = ("transformer_blocks", "single_transformer_blocks")
    whole = {name: getattr(transformer, name) for name in names}
    for name in names:
        setattr(transformer, name, nn.ModuleList())
    try:
        yield
    finally:
        for name, blocks in whole.items():
            setattr(transformer, name, blocks)
