"""FLUX's transformer in two namings, Black Forest Labs' ("native") and diffusers', and wider input layers.

Everything here renames, cuts and joins rows, so values pass exactly and meta tensors do as well as real ones.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from backbones.conversion.key_map import (
    DIFFUSERS,
    MLP_RATIO,
    NATIVE,
    SWAPPED,
    checked_key_map,
    without_prefix,
)
from editkit.errors import EditkitError


def native_to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A native transformer's tensors under FluxTransformer2DModel's names, exact to the bit, on any device.

    ComfyUI's prefix `model.diffusion_model.` is taken off.

    Raises:
        EditkitError: where tensors are missing, unexpected, or fused with another number of rows.
    """
    return dict(split_native(state))


def diffusers_to_native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A FluxTransformer2DModel's tensors under native names, without prefix, exact to the bit, on any device.

    Raises:
        EditkitError: where tensors are missing, unexpected, or do not join by shape or dtype.
    """
    return dict(join_diffusers(state))


def split_native(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """`native_to_diffusers` one tensor after another: a mapping that reads from disk on look-up streams."""
    names = without_prefix(state)
    table = checked_key_map(names, NATIVE)
    width = state[names["img_in.bias"]].numel()
    for native, parts in table.items():
        tensor = state[names[native]]
        if native in SWAPPED:
            _require_rows(native, tensor, 2 * width)
            # Quantized rows can be split and joined, and nothing else; GGUF's want a list.
            yield parts[0], torch.cat([*tensor.split(width)][::-1])
        elif len(parts) == 1:
            yield parts[0], tensor
        else:
            sizes = _sizes(parts, width)
            _require_rows(native, tensor, sum(sizes))
            # Copies: parts that share memory could be neither saved by safetensors nor trained apart.
            yield from zip(parts, (rows.clone() for rows in tensor.split(sizes)), strict=True)


def join_diffusers(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """`diffusers_to_native` one tensor after another: a mapping that reads from disk on look-up streams."""
    table = checked_key_map(state, DIFFUSERS)
    width = state["x_embedder.bias"].numel()
    for native, parts in table.items():
        tensors = [state[name] for name in parts]
        if native in SWAPPED:
            _require_rows(parts[0], tensors[0], 2 * width)
            yield native, torch.cat((tensors[0][width:], tensors[0][:width]))
        elif len(parts) == 1:
            yield native, tensors[0]
        else:
            for name, tensor, rows in zip(parts, tensors, _sizes(parts, width), strict=True):
                _require_rows(name, tensor, rows)
            if len({(tensor.dtype, tensor.shape[1:]) for tensor in tensors}) > 1:
                raise EditkitError(f"{', '.join(parts)} differ in dtype or columns; save them alike.")
            yield native, torch.cat(tensors)


def _sizes(parts: Sequence[str], width: int) -> list[int]:
    return [width * (MLP_RATIO if ".proj_mlp." in part else 1) for part in parts]


def _require_rows(name: str, tensor: Tensor, rows: int) -> None:
    if tensor.shape[:1] != (rows,):
        raise EditkitError(f"{name} has shape {tuple(tensor.shape)}, not {rows} rows; give a sound file.")
