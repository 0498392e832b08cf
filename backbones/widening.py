"""Widen the input layer of a transformer, so that its weights serve another role."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from editkit.errors import EditkitError

FILL_TO_ACE = (*range(128), *range(192, 448))
"""Columns of Fill's 384 input channels among ACE++'s 448: ACE++'s "modify" channels (128-191) come between
image and mask."""
COLUMNS = {(64, 64): range(64), (64, 384): range(64), (64, 448): range(64), (384, 448): FILL_TO_ACE}
"""For (old, new) numbers of input channels, the new columns of the old channels: from text to image to
Kontext, whose input is as wide, and to Fill, and from either to ACE++."""


def widen_transformer(transformer: FluxTransformer2DModel, in_channels: int) -> FluxTransformer2DModel:
    """Return a transformer with the same weights and a wider input; the new channels have no effect yet.

    Weights are shared with the original, quantized ones too. Adapters of the original are not taken over.

    Raises:
        EditkitError: where an input of these channels cannot be widened to those.
    """
    held = transformer.config.in_channels
    if (held, in_channels) not in COLUMNS:
        ways = ", ".join(f"{a} to {b}" for a, b in COLUMNS)
        raise EditkitError(
            f"An input of {held} channels cannot be widened to {in_channels}; possible are {ways}."
        )
    changed = {"in_channels": in_channels, "out_channels": transformer.out_channels}
    with torch.device("meta"):
        wide = FluxTransformer2DModel.from_config({**transformer.config, **changed})
    packed = tuple(_share_quantized_layers(transformer, wide))
    # peft keeps the wrapped layer under this name.
    state = {name.replace(".base_layer.", "."): tensor for name, tensor in transformer.state_dict().items()}
    state["x_embedder.weight"] = widen_input(
        state["x_embedder.weight"], in_channels, COLUMNS[held, in_channels]
    )
    plain = {name: state[name] for name in wide.state_dict() if not name.startswith(packed)}
    wide.load_state_dict(plain, strict=not packed, assign=True)
    return cast(FluxTransformer2DModel, wide.eval().requires_grad_(False))


def _share_quantized_layers(transformer: nn.Module, wide: nn.Module) -> list[str]:
    """Give the wide transformer the original's quantized layers; return their tensors' prefixes."""
    found = []
    for name, module in transformer.named_modules():
        module = getattr(module, "base_layer", module)
        if isinstance(module, nn.Linear) and type(module) is not nn.Linear and ".base_layer" not in name:
            wide.set_submodule(name, copy.copy(module))
            found.append(f"{name}.")
    return found


def widen_input(weight: Tensor, in_channels: int, columns: Sequence[int]) -> Tensor:
    """Widen the input layer's weight (D, in) to (D, in_channels); the new columns are zero.

    Args:
        weight: weight of `x_embedder` (native `img_in`).
        in_channels: number of channels that the new layer takes.
        columns: the new column of each old column, in order. From 64 to 384 (Fill) it is `range(64)`, from
            384 to 448 (ACE++) `FILL_TO_ACE`.

    Raises:
        EditkitError: where `columns` does not give each column of `weight` a place of its own.
    """
    places = list(columns)
    fits = weight.ndim == 2 and weight.shape[1] == len(places) == len(set(places))
    if not fits or not all(0 <= place < in_channels for place in places):
        wanted = f"a column of its own below {in_channels} for each input"
        raise EditkitError(f"An input layer of shape {tuple(weight.shape)} needs {wanted}.")
    widened = weight.new_zeros(weight.shape[0], in_channels)
    widened[:, places] = weight
    return widened
