"""A transformer behind a wider input, as another role takes it."""

import copy
from typing import cast

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from backbones.conversion import state_dict
from editkit.errors import EditkitError

COLUMNS = {(64, 384): range(64), (64, 448): range(64), (384, 448): state_dict.FILL_TO_ACE}
"""From text to image to Fill, and from either to ACE++."""


def widened(transformer: FluxTransformer2DModel, in_channels: int) -> FluxTransformer2DModel:
    """A transformer's weights behind a wider input, whose new channels have no effect yet.

    They are no copies, quantized ones neither; adapters that it carries stay behind.

    Raises:
        EditkitError: where no way is known from the one's channels to the other's.
    """
    held = transformer.config.in_channels
    if (held, in_channels) not in COLUMNS:
        ways = ", ".join(f"{a} to {b}" for a, b in COLUMNS)
        raise EditkitError(
            f"An input of {held} channels cannot become one of {in_channels}; known are {ways}."
        )
    changed = {"in_channels": in_channels, "out_channels": transformer.out_channels}
    with torch.device("meta"):
        wide = FluxTransformer2DModel.from_config({**transformer.config, **changed})
    packed = tuple(_packed(transformer, wide))
    # peft keeps what it wraps under this name.
    state = {name.replace(".base_layer.", "."): tensor for name, tensor in transformer.state_dict().items()}
    state["x_embedder.weight"] = state_dict.widen_input(
        state["x_embedder.weight"], in_channels, COLUMNS[held, in_channels]
    )
    plain = {name: state[name] for name in wide.state_dict() if not name.startswith(packed)}
    wide.load_state_dict(plain, strict=not packed, assign=True)
    return cast(FluxTransformer2DModel, wide.eval().requires_grad_(False))


def _packed(transformer: nn.Module, wide: nn.Module) -> list[str]:
    """Give the wide transformer the other's quantized layers; the beginnings of their tensors' names."""
    found = []
    for name, module in transformer.named_modules():
        module = getattr(module, "base_layer", module)
        if isinstance(module, nn.Linear) and type(module) is not nn.Linear and ".base_layer" not in name:
            wide.set_submodule(name, copy.copy(module))
            found.append(f"{name}.")
    return found
