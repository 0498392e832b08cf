"""Map the tensor names of FLUX's transformer: Black Forest Labs' ("native") to diffusers'."""

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from editkit.errors import EditkitError

COMFYUI_PREFIX = "model.diffusion_model."
"""Prefix of native names in ComfyUI's files."""
MLP_RATIO = 4
"""Width of the MLP in widths of the transformer; fixed in diffusers, hence not part of its config."""

Parts = dict[str, tuple[str, ...]]
"""diffusers' modules that hold the rows of a native module, from top to bottom, by the native module."""

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
"""Modules outside of blocks."""
GUIDANCE: Parts = {
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
}
"""Modules of the distilled guidance."""
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
"""Modules of a double block."""
SINGLE: Parts = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "modulation.lin": ("norm.linear",),
}
"""Modules of a single block."""
SWAPPED = {f"final_layer.adaLN_modulation.1.{kind}" for kind in ("weight", "bias")}
"""Native tensors whose rows are shift, then scale; diffusers' rows are scale, then shift."""
NATIVE = ("double_blocks.", "single_blocks.", "guidance_in.")
"""Prefixes of native double blocks, single blocks and guidance."""
DIFFUSERS = ("transformer_blocks.", "single_transformer_blocks.", "time_text_embed.guidance_embedder.")
"""diffusers' prefixes of double blocks, single blocks and guidance."""


def key_map(doubles: int, singles: int, guidance: bool) -> dict[str, tuple[str, ...]]:
    """Return diffusers' tensors that hold a native tensor's rows, from top to bottom, by native name."""
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


def checked_key_map(names: Iterable[str], side: tuple[str, str, str]) -> dict[str, tuple[str, ...]]:
    """Return the key map of a transformer, after a check that `names` are exactly its names.

    Args:
        names: names of a transformer's tensors.
        side: whose names they are, `NATIVE` or `DIFFUSERS`.

    Raises:
        EditkitError: naming what is missing or unexpected.
    """
    have = set(names)
    double, single, guidance = side
    guided = any(name.startswith(guidance) for name in have)
    table = key_map(count_blocks(have, double), count_blocks(have, single), guided)
    need = list(table) if side == NATIVE else [name for parts in table.values() for name in parts]
    missing, unexpected = [name for name in need if name not in have], sorted(have.difference(need))
    problems = [f"{len(missing)} missing ({few(missing)})"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({few(unexpected)})"] if unexpected else []
    if problems:
        naming = "Black Forest Labs'" if side == NATIVE else "diffusers'"
        raise EditkitError(
            f"These tensors are not a FLUX transformer in {naming} naming: {', '.join(problems)}; "
            "give all tensors of one, unquantised, and no others."
        )
    return table


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return names as the file has them, by the names without ComfyUI's prefix.

    Raises:
        EditkitError: where a name is there with and without the prefix.
    """
    names = {key.removeprefix(COMFYUI_PREFIX): key for key in state}
    if len(names) < len(state):
        raise EditkitError(
            f"Some tensors are in the file twice, with and without {COMFYUI_PREFIX}; keep one of each."
        )
    return names


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """Count the blocks with this prefix; at least one, so that missing blocks show up as missing tensors."""
    numbers = [re.match(rf"{re.escape(prefix)}(\d{{1,4}})\.", name) for name in names]
    return 1 + max((int(number[1]) for number in numbers if number), default=0)


def few(names: Sequence[str]) -> str:
    """List the first three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
