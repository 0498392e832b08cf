"""Edit with a small FLUX whose proportions are the published one's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from torch import nn

import editkit
from backbones.flux import Flux
from backbones.load_options import LoadOptions
from backbones.low_memory import WeightBytes
from backbones.specs import Family
from backbones.weight_tracker import tensors, weight_bytes
from tests.pictures import image as colourful
from tests.random_weights import T5

CHANNELS = {"kontext": 64, "fill": 384, "ace": 448}
BLOCKS = {"num_layers": 6, "num_single_layers": 8, "num_attention_heads": 4}
DEEP = T5 | {"d_ff": 2048, "num_layers": 6}
SOURCE, MASK = colourful(48, 32), Image.new("L", (48, 32), 255)
CPU = torch.device("cpu")
INSTRUCTIONS = {
    "kontext": "make the red circle blue",
    "icedit": "make the circle green",
    "aceplus": "add a square",
}
"""Each its own, so that every edit encodes one."""


def editor(family: Family, device: torch.device = CPU, **loading: Any) -> editkit.Editor:
    return editkit.Editor(
        Flux(family, device, torch.float32, LoadOptions(**loading)),
        {"icedit": {"adapter": str(Path(family.roles["fill"].source).parent / "experts.safetensors")}},
    )


def edits(made: editkit.Editor) -> Iterator[tuple[str, bytes]]:
    """Kontext, ICEdit, ACE++, and ICEdit again, whose transformer was let go of meanwhile."""
    cases: list[tuple[str, dict[str, Any]]] = [("kontext", {}), ("icedit", {}), ("aceplus", {"mask": MASK})]
    for method, given in (*cases, cases[1]):
        picture = made.edit(SOURCE, INSTRUCTIONS[method], method, **given).image
        assert picture is not None
        yield method, picture.tobytes()


def sizes(flux: Flux) -> WeightBytes:
    blocks = [weight_bytes(tensors(block)) for block in _blocks(flux.transformer("kontext"))]
    whole = max(weight_bytes(tensors(flux.transformer(role))) for role in CHANNELS)
    return WeightBytes(
        transformer=whole,
        block=max(blocks),
        outside=whole - sum(blocks),
        encoders=weight_bytes(tensors(flux.encoders.clip)) + weight_bytes(tensors(flux.encoders.t5)),
        vae=weight_bytes(tensors(flux.vae)),
    )


def _blocks(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
