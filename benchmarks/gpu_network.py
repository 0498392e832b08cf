"""FLUX.1's transformer with random weights, and plans that need neither autoencoder nor text encoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from backbones.flux import Flux
from backbones.specs import FAMILIES, PUBLISHED_SHAPE
from benchmarks.speed_operations import counted
from editkit.imaging import canvas
from editkit.inference.partial_plan import plan_of_some
from editkit.key_values import KeyValues
from editkit.types import Conditioning, Plan, Text

ROLE = "kontext"
FULL = PUBLISHED_SHAPE | {"in_channels": 64, "guidance_embeds": True}
SMALL = FULL | {
    "num_layers": 2,
    "num_single_layers": 2,
    "num_attention_heads": 2,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 32,
}
MIDDLE = FULL | {"num_layers": 1, "num_single_layers": 2}
WIDTHS: dict[str, dict[str, Any]] = {"full": FULL, "middle": MIDDLE, "small": SMALL}
"""Configs of the transformer by name; `middle` has FLUX.1's width and heads, and 3 of its 57 blocks."""
TEXT = 512
"""Number of text tokens."""


def network(width: str, device: torch.device) -> Flux:
    """Make a backbone whose only transformer has random weights: bf16 on a GPU, float32 elsewhere."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    flux = Flux(FAMILIES["flux1-dev"], device, dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            transformer = FluxTransformer2DModel(**WIDTHS[width]).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    if device.type == "meta":
        flux.transformers[flux.role(ROLE).key] = transformer  # positions without values cannot be cached
    else:
        flux._register(flux.role(ROLE).key, transformer)
    return flux


def latents(flux: Flux, side: int, share: float = 1.0) -> Tensor:
    """Return noise for a share of a square canvas, BLC."""
    count = round(share * (side // canvas.GRID) ** 2)
    return torch.randn(1, count, 64, device=flux.device, dtype=flux.dtype)


def active(flux: Flux, side: int, share: float) -> Tensor:
    """Return the mask of the first share of a canvas' tokens, (L,)."""
    mask_L = torch.zeros((side // canvas.GRID) ** 2, dtype=torch.bool, device=flux.device)
    mask_L[: round(share * len(mask_L))] = True
    return mask_L


def plan(flux: Flux, side: int, *, picture: bool, apart: bool) -> Plan:
    """Make a plan of one square picture with random text and a random source.

    Args:
        flux: the backbone.
        side: width and height in pixels.
        picture: whether a source of the same size joins the sequence.
        apart: whether the source attends to itself only.
    """
    about = flux.transformer(ROLE).config
    random: dict[str, Any] = {"device": flux.device, "dtype": flux.dtype}
    text = Text(
        tokens_BTD=torch.randn(1, TEXT, about.joint_attention_dim, **random),
        pooled_BD=torch.randn(1, about.pooled_projection_dim, **random),
    )
    slots = Conditioning(text=text, ids_L3=flux.grid_ids(side, side))
    if picture:
        source_BSC, ids_S3 = latents(flux, side), flux.grid_ids(side, side, image=1)
        slots = replace(slots, sequence_BSC=source_BSC, sequence_ids_S3=ids_S3, context_apart=apart)
    return Plan(canvas=canvas.fit((side, side), size=(side, side)), conditioning=slots, role=ROLE)


def operations(shapes: Flux, plan: Plan, share: float) -> float:
    """Count the operations of a pass on the meta device; where a context is cached, without its own pass."""
    side = plan.canvas.width
    x_BLC = latents(shapes, side, share)
    shapes.contexts.clear()  # those of another plan have no values to compare
    shapes.velocity(x_BLC, 0.5, plan, 1.0)  # computes the context
    return counted(lambda: shapes.velocity(x_BLC, 0.5, plan, 1.0))[0]


def counting(shapes: Flux, flux: Flux, given: Plan, side: int) -> Plan:
    """Make the plan of the same shapes on the meta device."""
    slots = given.conditioning
    if slots.held is None:
        return plan(shapes, side, picture=slots.sequence_BSC is not None, apart=slots.context_apart)
    joint, kept = plan(shapes, side, picture=True, apart=False), KeyValues()
    keeping = replace(joint, conditioning=replace(joint.conditioning, kept=kept))
    shapes.velocity(latents(shapes, side), 0.5, keeping, 1.0)
    assert slots.ids_L3 is not None
    mask_L = torch.zeros((side // canvas.GRID) ** 2, dtype=torch.bool)
    mask_L[: len(slots.ids_L3)] = True
    return plan_of_some(joint, kept, mask_L)[0]


def tokens(plan: Plan, side: int, share: float) -> int:
    """Return the number of tokens that a pass computes, text included."""
    slots = plan.conditioning
    beside = 0 if slots.sequence_BSC is None or slots.context_apart else slots.sequence_BSC.shape[1]
    return TEXT + round(share * (side // canvas.GRID) ** 2) + beside


def compiled(flux: Flux, backend: str) -> None:
    """Compile each kind of block, as the loading option `compile` does."""
    flux.transformer(ROLE).compile_repeated_blocks(backend=backend)


def in_fp8(flux: Flux) -> None:
    """Quantize matrix products to fp8, weights and activations row by row, by torchao.

    Raises:
        ImportError: where torchao is not installed.
        RuntimeError: where the device has no fp8.
    """
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    if flux.device.type == "cuda" and torch.cuda.get_device_capability() < (8, 9):
        raise RuntimeError("the device has no fp8")
    transformer = flux.transformer(ROLE)
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        quantize_(block, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
