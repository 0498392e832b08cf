"""Models that are built without memory and then take tensors, quantized ones as they are."""

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
"""Linear layers that are dequantized. FLUX's input layer is widened for other roles; T5 casts the input of
`wo` to the dtype of its weight, which would be that of packed bytes."""


class ExactFP8Linear(BFLFP8RLinear):
    """A layer in fp8 whose products are those of its dequantized weight: no activation is quantized."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight = dequantize_fp8r(self.weight, self.weight_scale).to(self.compute_dtype)
        return F.linear(inputs, weight, self.bias)


class ExactNVFP4Linear(BFLNVFP4Linear):
    """The same for a layer in NVFP4."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight = dequantize_nvfp4(self.weight, self.weight_scale, self.weight_scale_2)
        return F.linear(inputs, weight.to(self.compute_dtype), self.bias)


EXACT: dict[type[nn.Module], type[nn.Module]] = {
    BFLFP8RLinear: ExactFP8Linear,
    BFLNVFP4Linear: ExactNVFP4Linear,
}


def is_quantized(value: Any) -> bool:
    """Whether a tensor is packed."""
    return isinstance(value, BnbMatrix | BFLQuantizedParameter) or hasattr(value, "quant_shape")


def dequantize(value: Any) -> Tensor:
    """A packed tensor's values; a plain one as it is."""
    if isinstance(value, BnbMatrix):
        return value.dequantized()
    if isinstance(value, BFLQuantizedParameter):
        return value.to(torch.float32)
    if hasattr(value, "quant_shape"):
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        return dequantize_gguf_tensor(value)
    return value


def packed_shape(value: Any) -> torch.Size:
    if isinstance(value, BFLQuantizedParameter):
        rows, columns = value.shape
        return torch.Size((rows, columns * 2 if value.quant_type == "nvfp4" else columns))
    return torch.Size(getattr(value, "quant_shape", value.shape))


def stays_packed(model: nn.Module, name: str) -> bool:
    """Whether a packed tensor is a linear layer's weight that may stay packed."""
    module, _, kind = name.rpartition(".")
    layer = model.get_submodule(module)
    return kind == "weight" and type(layer) is nn.Linear and module.rpartition(".")[2] not in PLAIN


def gguf_class() -> Any:
    try:
        from diffusers.quantizers.gguf.utils import GGUFParameter
    except ImportError:
        return ()
    return GGUFParameter


def use_exact_layers(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) in EXACT:
            module.__class__ = EXACT[type(module)]
