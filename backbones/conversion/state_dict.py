"""FLUX's transformer in two namings, Black Forest Labs' ("native") and diffusers', and wider input layers.

Everything here renames, cuts and joins rows, so values pass exactly and meta tensors do as well as real ones.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError

COMFYUI_PREFIX = "model.diffusion_model."
AXES = {128: (16, 56, 56)}  # RoPE axes by head dimension, of every FLUX published
MLP_RATIO = 4  # fixed in diffusers, hence no part of its config
FILL_TO_ACE = (*range(128), *range(192, 448))
"""Where Fill's 384 input columns stand among ACE++'s 448: "modify" (128-191) comes between image and mask."""

Parts = dict[str, tuple[str, ...]]
"""Native module -> diffusers' modules that hold its rows, from the top."""

OUTER: Parts = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
GUIDANCE: Parts = {
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
}
DOUBLE: Parts = {
    "img_mod.lin": ("norm1.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
SINGLE: Parts = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "modulation.lin": ("norm.linear",),
}
SWAPPED = {f"final_layer.adaLN_modulation.1.{kind}" for kind in ("weight", "bias")}
"""Native rows are shift then scale, diffusers' scale then shift."""
NATIVE = ("double_blocks.", "single_blocks.", "guidance_in.")
DIFFUSERS = ("transformer_blocks.", "single_transformer_blocks.", "time_text_embed.guidance_embedder.")


def key_map(doubles: int, singles: int, guidance: bool) -> dict[str, tuple[str, ...]]:
    """Native tensor name -> diffusers' names of the tensors that hold its rows, from the top."""
    modules = [("", "", OUTER | GUIDANCE if guidance else OUTER)]
    modules += [(f"double_blocks.{i}.", f"transformer_blocks.{i}.", DOUBLE) for i in range(doubles)]
    modules += [(f"single_blocks.{i}.", f"single_transformer_blocks.{i}.", SINGLE) for i in range(singles)]
    table = {}
    for native_prefix, prefix, module_parts in modules:
        for native, parts in module_parts.items():
            kinds = {"scale": "weight"} if native.endswith("_norm") else {"weight": "weight", "bias": "bias"}
            for old, new in kinds.items():
                table[f"{native_prefix}{native}.{old}"] = tuple(f"{prefix}{part}.{new}" for part in parts)
    return table


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
    names = _without_prefix(state)
    table = _table(names, NATIVE)
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
    table = _table(state, DIFFUSERS)
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


def infer_config(native_state: Mapping[str, Tensor], axes: Sequence[int] | None = None) -> dict[str, Any]:
    """The config of the FluxTransformer2DModel that native tensors belong to.

    Args:
        native_state: all tensors of one transformer, on any device.
        axes: RoPE dimensions of (image, row, column); needed where heads are not the usual 128 wide.

    Raises:
        EditkitError: where tensors are missing, unexpected or of impossible shapes, or the axes do not fit.
    """
    config = infer_architecture(native_state)
    head = config["attention_head_dim"]
    chosen = AXES.get(head, ()) if axes is None else tuple(axes)
    if len(chosen) != 3 or sum(chosen) != head or any(axis <= 0 or axis % 2 for axis in chosen):
        problem = "leave the RoPE axes open" if axes is None else f"do not fit the RoPE axes {chosen}"
        wanted = f"three positive even numbers that sum to {head}"
        raise EditkitError(f"Heads of {head} dimensions {problem}; give {wanted} with --axes.")
    return config | {"axes_dims_rope": list(chosen)}


def infer_architecture(native_state: Mapping[str, Tensor]) -> dict[str, Any]:
    """`infer_config` without the RoPE axes, which leave no trace in the tensors."""
    names = _without_prefix(native_state)
    _table(names, NATIVE)
    shapes = {name: tuple(native_state[key].shape) for name, key in names.items()}
    odd = [name for name, shape in shapes.items() if len(shape) != (2 if name.endswith("weight") else 1)]
    if odd:
        raise EditkitError(
            f"FLUX's weights are matrices and the rest vectors, unlike {_few(odd)}; give a sound file."
        )
    width, in_channels = shapes["img_in.weight"]
    (head,) = shapes["double_blocks.0.img_attn.norm.query_norm.scale"]
    if not head or width % head:
        raise EditkitError(f"FLUX's width divides into its heads, unlike {width} into heads of {head}.")
    return {
        "in_channels": in_channels,
        "out_channels": shapes["final_layer.linear.weight"][0],
        "num_layers": _count(names, "double_blocks."),
        "num_single_layers": _count(names, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["txt_in.weight"][1],
        "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in names,
    }


def widen_input(weight: Tensor, in_channels: int, columns: Sequence[int]) -> Tensor:
    """The input layer's weight (D, in) widened to (D, in_channels), whose new channels start without effect.

    Args:
        weight: of `x_embedder` (native `img_in`).
        in_channels: width of the token that the new layer takes.
        columns: for each column of `weight` in turn, its column in the result; all others are zero.
            64 to 384 (Fill's layout) is `range(64)`, 384 to 448 (ACE++) is `FILL_TO_ACE`.

    Raises:
        EditkitError: where `columns` is not one distinct place per column of `weight`.
    """
    places = list(columns)
    fits = weight.ndim == 2 and weight.shape[1] == len(places) == len(set(places))
    if not fits or not all(0 <= place < in_channels for place in places):
        wanted = f"a column of its own below {in_channels} for each input"
        raise EditkitError(f"An input layer of shape {tuple(weight.shape)} needs {wanted}.")
    widened = weight.new_zeros(weight.shape[0], in_channels)
    widened[:, places] = weight
    return widened


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, str]:
    names = {key.removeprefix(COMFYUI_PREFIX): key for key in state}
    if len(names) < len(state):
        raise EditkitError(f"Tensors are there twice, with and without {COMFYUI_PREFIX}; keep one of each.")
    return names


def _table(names: Iterable[str], side: tuple[str, str, str]) -> dict[str, tuple[str, ...]]:
    """The key map of the transformer with these names, after a check that they are all of its names."""
    have = set(names)
    double, single, guidance = side
    guided = any(name.startswith(guidance) for name in have)
    table = key_map(_count(have, double), _count(have, single), guided)
    need = list(table) if side == NATIVE else [name for parts in table.values() for name in parts]
    missing, unexpected = [name for name in need if name not in have], sorted(have.difference(need))
    problems = [f"{len(missing)} missing ({_few(missing)})"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({_few(unexpected)})"] if unexpected else []
    if problems:
        naming = "Black Forest Labs'" if side == NATIVE else "diffusers'"
        raise EditkitError(
            f"These tensors are no FLUX transformer in {naming} naming: {', '.join(problems)}; "
            "give all tensors of one, unquantised, and no others."
        )
    return table


def _count(names: Iterable[str], prefix: str) -> int:
    # At least one, so that a lack of blocks shows up as missing tensors.
    numbers = [re.match(rf"{re.escape(prefix)}(\d{{1,4}})\.", name) for name in names]
    return 1 + max((int(number[1]) for number in numbers if number), default=0)


def _sizes(parts: Sequence[str], width: int) -> list[int]:
    return [width * (MLP_RATIO if ".proj_mlp." in part else 1) for part in parts]


def _require_rows(name: str, tensor: Tensor, rows: int) -> None:
    if tensor.shape[:1] != (rows,):
        raise EditkitError(f"{name} has shape {tuple(tensor.shape)}, not {rows} rows; give a sound file.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
