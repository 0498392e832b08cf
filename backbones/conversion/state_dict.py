"""Convert the tensors of FLUX's transformer between Black Forest Labs' naming ("native") and diffusers'.

Rows are only renamed, split and joined, so values stay bit-identical. It works on meta tensors too.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

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
    """Rename a native transformer's tensors to FluxTransformer2DModel's names, on any device.

    ComfyUI's prefix `model.diffusion_model.` is removed.

    Raises:
        EditkitError: where tensors are missing or unexpected, or a fused one has another number of rows.
    """
    return dict(split_native(state))


def diffusers_to_native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a FluxTransformer2DModel's tensors to native names without prefix, on any device.

    Raises:
        EditkitError: where tensors are missing or unexpected, or cannot be joined by shape or dtype.
    """
    return dict(join_diffusers(state))


def split_native(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Do the work of `native_to_diffusers` tensor by tensor, so that a file need not fit into memory."""
    names = without_prefix(state)
    table = checked_key_map(names, NATIVE)
    width = state[names["img_in.bias"]].numel()
    for native, parts in table.items():
        tensor = state[names[native]]
        if native in SWAPPED:
            _require_rows(native, tensor, 2 * width)
            # Quantized rows can only be split and joined; GGUF's need a list.
            yield parts[0], torch.cat([*tensor.split(width)][::-1])
        elif len(parts) == 1:
            yield parts[0], tensor
        else:
            sizes = _sizes(parts, width)
            _require_rows(native, tensor, sum(sizes))
            # Copies: safetensors cannot save parts that share memory, nor can they be trained separately.
            yield from zip(parts, (rows.clone() for rows in tensor.split(sizes)), strict=True)


def native_rows(state: Mapping[str, Tensor]) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Say where in native tensors the rows of diffusers' tensors are, from top to bottom.

    Gives each name of diffusers with native names as they are in `state`, first rows, and rows behind the
    last. The arguments are those of `native_to_diffusers`, which checks the shapes.
    """
    names = without_prefix(state)
    width = state[names["img_in.bias"]].numel()
    for native, parts in checked_key_map(names, NATIVE).items():
        key = names[native]
        if native in SWAPPED:
            yield parts[0], [(key, width, 2 * width), (key, 0, width)]
            continue
        sizes = _sizes(parts, width) if len(parts) > 1 else [len(state[key])]
        for part, size, end in zip(parts, sizes, accumulate(sizes), strict=True):
            yield part, [(key, end - size, end)]


def join_diffusers(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Do the work of `diffusers_to_native` tensor by tensor, so that a file need not fit into memory."""
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
                raise EditkitError(
                    f"{', '.join(parts)} differ in dtype or columns; save them with the same dtype and width."
                )
            yield native, torch.cat(tensors)


def _sizes(parts: Sequence[str], width: int) -> list[int]:
    return [width * (MLP_RATIO if ".proj_mlp." in part else 1) for part in parts]


def _require_rows(name: str, tensor: Tensor, rows: int) -> None:
    if tensor.shape[:1] != (rows,):
        raise EditkitError(
            f"{name} has shape {tuple(tensor.shape)}, not {rows} rows; give an undamaged file."
        )
