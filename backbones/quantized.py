"""Recognise quantized tensors, dequantize them, and multiply by them without quantizing activations."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.quantizers.bfl.utils import (
    BFLFP8RLinear,
    BFLNVFP4Linear,
    BFLQuantizedParameter,
    dequantize_fp8r,
    dequantize_nvfp4,
)
from torch import Tensor, nn

from backbones.conversion.bnb_matrix import BnbMatrix

PLAIN = ("x_embedder", "wo")
"""Linear layers whose weights are dequantized. FLUX's input layer is widened for other roles. T5 casts the
input of `wo` to the dtype of its weight, which would be the dtype of packed bytes."""


class ExactFP8Linear(BFLFP8RLinear):
    """A linear layer in fp8 that multiplies by the dequantized weight and does not quantize activations."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight = dequantize_fp8r(self.weight, self.weight_scale).to(self.compute_dtype)
        return F.linear(inputs, weight, self.bias)


class ExactNVFP4Linear(BFLNVFP4Linear):
    """A linear layer in NVFP4 that multiplies by the dequantized weight and does not quantize activations."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight = dequantize_nvfp4(self.weight, self.weight_scale, self.weight_scale_2)
        return F.linear(inputs, weight.to(self.compute_dtype), self.bias)


EXACT: dict[type[nn.Module], type[nn.Module]] = {
    BFLFP8RLinear: ExactFP8Linear,
    BFLNVFP4Linear: ExactNVFP4Linear,
}
"""The exact layer for each of diffusers' quantized layers."""


def is_quantized(value: Any) -> bool:
    """Whether a tensor is quantized."""
    return isinstance(value, BnbMatrix | BFLQuantizedParameter) or hasattr(value, "quant_shape")


def dequantize(value: Any) -> Tensor:
    """Return a quantized tensor's values; return a plain tensor unchanged."""
    if isinstance(value, BnbMatrix):
        return value.dequantized()
    if isinstance(value, BFLQuantizedParameter):
        return value.to(torch.float32)
    if hasattr(value, "quant_shape"):
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        return dequantize_gguf_tensor(value)
    return value


def packed_shape(value: Any) -> torch.Size:
    """Return the shape of a tensor's values, which differs from the shape of packed bytes."""
    if isinstance(value, BFLQuantizedParameter):
        rows, columns = value.shape
        return torch.Size((rows, columns * 2 if value.quant_type == "nvfp4" else columns))
    return torch.Size(getattr(value, "quant_shape", value.shape))


def stays_packed(model: nn.Module, name: str) -> bool:
    """Whether a quantized tensor is a linear layer's weight that may stay quantized."""
    module, _, kind = name.rpartition(".")
    layer = model.get_submodule(module)
    return kind == "weight" and type(layer) is nn.Linear and module.rpartition(".")[2] not in PLAIN


def is_packed_layer(layer: nn.Module) -> bool:
    """Whether a layer's weight is packed so that only the layer itself can read its values."""
    return isinstance(getattr(layer, "weight", None), gguf_class()) or isinstance(
        layer, BFLFP8RLinear | BFLNVFP4Linear
    )


def gguf_class() -> Any:
    """Return diffusers' class of GGUF parameters; an empty tuple where the package gguf is missing."""
    try:
        from diffusers.quantizers.gguf.utils import GGUFParameter
    except ImportError:
        return ()
    return GGUFParameter


def keep_packing(model: nn.Module) -> None:
    """Stop bitsandbytes' layers of 4 bits from packing their weights again in their first forward pass.

    They do so on CPUs with bfloat16 instructions, and `state_dict`, which is read whenever an adapter is
    loaded, then puts the weights' scales back in a wrong order.
    """
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def use_exact_layers(model: nn.Module) -> None:
    """Replace diffusers' quantized layers by those that do not quantize activations."""
    for module in model.modules():
        if type(module) in EXACT:
            module.__class__ = EXACT[type(module)]
