"""Infer a FLUX transformer's config from the names and shapes of its tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from backbones.conversion.key_map import NATIVE, checked_key_map, count_blocks, few, without_prefix
from editkit.errors import EditkitError

AXES = {128: (16, 56, 56)}
"""RoPE axes by head width, of every published FLUX."""


def infer_config(native_state: Mapping[str, Tensor], axes: Sequence[int] | None = None) -> dict[str, Any]:
    """Infer the config of the FluxTransformer2DModel that native tensors belong to.

    Args:
        native_state: all tensors of one transformer, on any device.
        axes: RoPE dimensions of (image, row, column); needed where heads are not the usual 128 wide.

    Raises:
        EditkitError: where tensors are missing, unexpected or of impossible shapes, or the axes do not fit.
    """
    config = infer_architecture(native_state)
    head = config["attention_head_dim"]
    chosen = AXES.get(head, ()) if axes is None else tuple(axes)
    if not axes_fit(chosen, head):
        problem = "do not determine the RoPE axes" if axes is None else f"do not fit the RoPE axes {chosen}"
        wanted = f"three positive even numbers that sum to {head} in --axes or --load axes=[...]"
        raise EditkitError(f"Heads of {head} dimensions {problem}; give {wanted}.")
    return config | {"axes_dims_rope": list(chosen)}


def axes_fit(axes: Sequence[int], head: int) -> bool:
    """Whether RoPE axes are three positive even numbers that sum to the width of a head."""
    return len(axes) == 3 and sum(axes) == head and all(axis > 0 and axis % 2 == 0 for axis in axes)


def infer_architecture(native_state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the config without the RoPE axes, which leave no trace in the tensors.

    Raises:
        EditkitError: where tensors are missing, unexpected or of impossible shapes.
    """
    names = without_prefix(native_state)
    checked_key_map(names, NATIVE)
    shapes = {name: tuple(native_state[key].shape) for name, key in names.items()}
    odd = [name for name, shape in shapes.items() if len(shape) != (2 if name.endswith("weight") else 1)]
    if odd:
        raise EditkitError(
            f"FLUX's weights must be matrices and all other tensors vectors, but {few(odd)} are not; "
            "give an undamaged file."
        )
    width, in_channels = shapes["img_in.weight"]
    (head,) = shapes["double_blocks.0.img_attn.norm.query_norm.scale"]
    if not head or width % head:
        raise EditkitError(
            f"A width of {width} cannot be divided into heads of {head}; give an undamaged file."
        )
    return {
        "in_channels": in_channels,
        "out_channels": shapes["final_layer.linear.weight"][0],
        "num_layers": count_blocks(names, "double_blocks."),
        "num_single_layers": count_blocks(names, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["txt_in.weight"][1],
        "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in names,
    }
