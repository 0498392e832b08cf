"""Join fp8 and NVFP4 weights with their scales into diffusers' quantized parameters.

| spelling | weight | scales beside it | hint |
| --- | --- | --- | --- |
| ComfyUI, first | fp8 | `scale_weight`, `scale_input` | one tensor `scaled_fp8` a file |
| ComfyUI, now | fp8, NVFP4 | `weight_scale`, `weight_scale_2`, `input_scale` | `comfy_quant`, or the header |
| diffusers' BFL quantizer | fp8, NVFP4 | `weight_scale`, `weight_scale_2`, `input_scale` | none |

ComfyUI's NVFP4 keeps the first of two values in the high half of a byte, and block scales in cuBLAS' tiles.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.quantizers.bfl.utils import BFLQuantizedParameter
from torch import Tensor

from editkit.errors import EditkitError

COMPANIONS = ("scale_weight", "scale_input", "weight_scale", "weight_scale_2", "input_scale", "comfy_quant")
"""Names of the tensors that belong to a module's `weight`."""
MARKER = "scaled_fp8"
"""Name of the tensor that marks a file in ComfyUI's first spelling."""
METADATA = "_quantization_metadata"
"""Key in the file's header under which ComfyUI keeps hints."""
FORMATS = ("float8_e4m3fn", "float8_e5m2", "nvfp4")
"""Formats in ComfyUI's hints that can be loaded."""
TABLES = ("shared", "embed_tokens", "token_embedding", "position_embedding", "relative_attention_bias")
"""Last names of modules whose weights are no matrices of products, and may hold any values."""
LARGE = 2
"""Mean magnitude that a plain matrix does not reach, even one with single large values."""
BLOCK = 16
"""Values of NVFP4 that share a scale."""
HINTS = {"format", "full_precision_matrix_mult", "group_size"}
"""Keys that a layer's hint may have. A group is always NVFP4's 16 values, which the scales' shape shows too.
"""


def parse_hint(module: str, text: bytes | str) -> dict[str, Any]:
    """Parse the hint of a layer.

    Raises:
        EditkitError: where it is not JSON or asks for something unknown.
    """
    try:
        hint = json.loads(text)
    except ValueError as error:
        raise EditkitError(f"The hint of {module} is not JSON; download the file again.") from error
    return check_hint(module, hint)


def check_hint(module: str, hint: Any) -> dict[str, Any]:
    """Return the hint of a layer after a check that everything in it is known.

    Raises:
        EditkitError: naming what is unknown.
    """
    if not isinstance(hint, dict) or hint.get("format") not in FORMATS:
        kind = hint.get("format") if isinstance(hint, dict) else hint
        raise EditkitError(
            f"{module} is stored as ComfyUI's {kind}, which cannot be loaded; take the file in bf16, fp8, "
            "NVFP4 or GGUF."
        )
    if strange := sorted(hint.keys() - HINTS):
        raise EditkitError(
            f"The hint of {module} asks for {', '.join(strange)}, which is unknown; take the file in bf16, "
            "fp8 or GGUF."
        )
    return hint


def join_scales(
    module: str,
    weight: Tensor,
    companions: Mapping[str, Tensor],
    hint: Mapping[str, Any] | None,
    *,
    among_scaled: bool = False,
) -> Tensor:
    """Join a weight with its scales: quantized where diffusers supports it, else plain in float32.

    Args:
        module: name of the module, for error messages.
        weight: the weight as stored.
        companions: the tensors of the module whose names are in `COMPANIONS`.
        hint: ComfyUI's hint, if any.
        among_scaled: whether other weights of the file have scales.

    Raises:
        EditkitError: where scales are missing or of another shape.
    """
    if {"weight_scale", "scale_weight"} <= companions.keys():
        raise EditkitError(f"{module} has both weight_scale and scale_weight; download the file again.")
    scale = companions.get("weight_scale", companions.get("scale_weight"))
    if scale is None:
        if hint is not None or companions.keys() - {"scale_input", "input_scale"}:
            raise EditkitError(
                f"{module} has no weight_scale, without which its values cannot be read; "
                "download the file again."
            )
        check_unscaled(module, weight, among_scaled)
        return weight
    if weight.dtype == torch.uint8 and hint and hint["format"] != "nvfp4":
        weight = weight.view(getattr(torch, hint["format"]))
    if weight.dtype == torch.uint8:
        return _nvfp4(module, weight, scale, companions, hint)
    rows = _row_scales(module, weight, scale)
    if weight.dtype == torch.float8_e4m3fn:
        return BFLQuantizedParameter(weight, "fp8r", rows)
    return weight.float() * rows.reshape(-1, *[1] * (weight.ndim - 1))


def check_unscaled(module: str, weight: Tensor, among_scaled: bool = False) -> None:
    """Refuse rows of an fp8 matrix without a scale whose values fill fp8's range, as only scaled ones do.

    Raises:
        EditkitError: for such a matrix.
    """
    fp8 = weight.is_floating_point() and weight.element_size() == 1
    if not fp8 or weight.ndim != 2 or module.rpartition(".")[2] in TABLES:
        return
    half = torch.tensor(torch.finfo(weight.dtype).max / 2).to(weight.dtype).view(torch.uint8)
    # Without the sign's bit, codes of fp8 grow with the value that they stand for.
    if (weight.view(torch.uint8) & 0x7F).max() < half:
        return
    if among_scaled or weight.float().abs().mean() >= LARGE:
        raise EditkitError(
            f"{module} holds fp8 values that were scaled, and no scale to read them; download the file again."
        )


def _row_scales(module: str, weight: Tensor, scale: Tensor) -> Tensor:
    """Return one scale for each row of a weight."""
    rows = len(weight) if weight.ndim else 1
    if scale.numel() == 1:
        return scale.float().reshape(1).repeat(rows)
    if scale.numel() == rows and scale.shape[0] == rows:
        return scale.float().reshape(rows)
    raise EditkitError(
        f"{module} has scales of shape {tuple(scale.shape)} for a weight of {tuple(weight.shape)}; there "
        "must be one scale, or one for each row."
    )


def _nvfp4(
    module: str,
    weight: Tensor,
    scale: Tensor,
    companions: Mapping[str, Tensor],
    hint: Mapping[str, Any] | None,
) -> Tensor:
    """Join a weight in NVFP4 with its scales."""
    if "weight_scale_2" not in companions:
        raise EditkitError(
            f"{module} holds packed bytes without the weight_scale_2 to read them; download the file again."
        )
    rows, blocks = weight.shape[0], weight.shape[1] * 2 // BLOCK
    scale = scale if scale.dtype == torch.float8_e4m3fn else scale.view(torch.float8_e4m3fn)
    if hint is not None:
        weight = (weight >> 4) | (weight << 4)
        scale = _untile(module, scale, rows, blocks)
    if scale.shape != (rows, blocks):
        raise EditkitError(f"{module} has block scales of shape {tuple(scale.shape)}, not {(rows, blocks)}.")
    # Where the file has none, activations are never quantized: `Weights.exact`.
    inputs = companions.get("input_scale", torch.ones(()))
    whole = companions["weight_scale_2"].float().reshape(())
    return BFLQuantizedParameter(weight, "nvfp4", scale, whole, inputs.float().reshape(()))


def _untile(module: str, scale: Tensor, rows: int, columns: int) -> Tensor:
    """Take block scales out of cuBLAS' tiles of 128 rows and 4 columns, where row 32 j + i is at (i, j)."""
    down, across = -(-rows // 128), -(-columns // 4)
    if scale.numel() != down * across * 512:
        raise EditkitError(f"{module} has {scale.numel()} block scales, not {down * across} tiles of 512.")
    tiles = scale.contiguous().view(torch.uint8).reshape(down, across, 32, 4, 4)
    plain = tiles.permute(0, 3, 2, 1, 4).reshape(down * 128, across * 4)[:rows, :columns]
    return plain.contiguous().view(torch.float8_e4m3fn)
