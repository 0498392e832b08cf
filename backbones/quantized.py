"""Models that are built without memory and then take tensors, quantized ones as they are."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from diffusers import BFLQuantizationConfig
from diffusers.models.model_loading_utils import load_model_dict_into_meta
from diffusers.quantizers.auto import DiffusersAutoQuantizer
from diffusers.quantizers.bfl.utils import (
    BFLFP8RLinear,
    BFLNVFP4Linear,
    BFLQuantizedParameter,
    dequantize_fp8r,
    dequantize_nvfp4,
)
from torch import Tensor, nn

from backbones.conversion.bnb_rows import BnbRows

Model = TypeVar("Model", bound=nn.Module)
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


def built(cls: Any, config: Any) -> Any:
    """A model whose parameters take no memory yet; its buffers are there."""
    with init_empty_weights(include_buffers=False):
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(config)


def fill(model: Model, state: Mapping[str, Any], dtype: torch.dtype, *, exact: bool = False) -> Model:
    """Give a model from `built` its tensors: plain ones in `dtype`, quantized ones as they are.

    Args:
        model: the model.
        state: all of its tensors, by the names of its state dict.
        dtype: of plain tensors, and of computation.
        exact: whether no activation may be quantized.

    Raises:
        ValueError: where names or shapes are not those of the model.
    """
    plain, packed = {}, {}
    for name, value in complete_state(model, state).items():
        if is_quantized(value) and _stays(model, name):
            packed[name] = value
        else:
            plain[name] = dequantized(value).to(dtype)
    for kind in (_gguf_class(), BFLQuantizedParameter):
        _pack(model, {name: value for name, value in packed.items() if isinstance(value, kind)}, dtype)
    _pack_bnb(model, {name: value for name, value in packed.items() if isinstance(value, BnbRows)}, dtype)
    model.load_state_dict(plain, strict=False, assign=True)
    if tie := getattr(model, "tie_weights", None):
        tie()
    if exact:
        _make_exact(model)
    return model.eval().requires_grad_(False)


def quantize(
    model: Any, state: Mapping[str, Any], config: Any, dtype: torch.dtype, device: torch.device
) -> None:
    """Give a diffusers model from `built` its tensors, quantized one by one on their way.

    diffusers' `from_single_file` takes all weights for quantized already, and leaves them as they are.

    Args:
        model: the model.
        state: all of its tensors, by the names of its state dict.
        config: diffusers' quantization config.
        dtype: of what is not quantized, and of computation.
        device: where weights are quantized, and stay.

    Raises:
        ValueError: where tensors are not those of the model, or quantized already.
        ImportError: where the quantizer's package is missing.
        RuntimeError: where the quantizer wants another device.
    """
    if any(map(is_quantized, state.values())):
        raise ValueError("its weights are quantized already; leave the option quantization out")
    quantizer = DiffusersAutoQuantizer.from_config(config, pre_quantized=False)
    quantizer.validate_environment(device_map={"": device})
    complete = complete_state(model, state)
    quantizer.preprocess_model(model, device_map={"": device}, state_dict=complete, keep_in_fp32_modules=[])
    load_model_dict_into_meta(
        model,
        complete,
        dtype=quantizer.update_torch_dtype(dtype),
        hf_quantizer=quantizer,
        keep_in_fp32_modules=[],
        device_map={"": device},
        unexpected_keys=[],
    )
    quantizer.postprocess_model(model)
    model.hf_quantizer = quantizer


def complete_state(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors, once they are all of the model's and no others; T5's embedding under both of its names."""
    tied: Mapping[str, str] = getattr(model, "_tied_weights_keys", None) or {}
    state = {**{tied[name]: state[name] for name in tied if name in state}, **state}
    state |= {name: state[tied[name]] for name in tied if tied[name] in state}
    need = model.state_dict()
    missing, extra = sorted(need.keys() - state.keys()), sorted(state.keys() - need.keys())
    if missing:
        raise ValueError(f"its file lacks {len(missing)} tensors, such as {missing[0]}")
    if extra:
        raise ValueError(f"its file holds {len(extra)} tensors of no known use, such as {extra[0]}")
    for name, value in state.items():
        shape = _shape(value)
        if shape != need[name].shape:
            raise ValueError(f"its file's {name} has shape {tuple(shape)}, not {tuple(need[name].shape)}")
    return state


def is_quantized(value: Any) -> bool:
    """Whether a tensor is packed."""
    return isinstance(value, BnbRows | BFLQuantizedParameter) or hasattr(value, "quant_shape")


def dequantized(value: Any) -> Tensor:
    """A packed tensor's values; a plain one as it is."""
    if isinstance(value, BnbRows):
        return value.dequantized()
    if isinstance(value, BFLQuantizedParameter):
        return value.to(torch.float32)
    if hasattr(value, "quant_shape"):
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        return dequantize_gguf_tensor(value)
    return value


def _shape(value: Any) -> torch.Size:
    if isinstance(value, BFLQuantizedParameter):
        rows, columns = value.shape
        return torch.Size((rows, columns * 2 if value.quant_type == "nvfp4" else columns))
    return torch.Size(getattr(value, "quant_shape", value.shape))


def _stays(model: nn.Module, name: str) -> bool:
    """Whether a packed tensor is a linear layer's weight that may stay packed."""
    module, _, kind = name.rpartition(".")
    layer = model.get_submodule(module)
    return kind == "weight" and type(layer) is nn.Linear and module.rpartition(".")[2] not in PLAIN


def _gguf_class() -> Any:
    try:
        from diffusers.quantizers.gguf.utils import GGUFParameter
    except ImportError:
        return ()
    return GGUFParameter


def _pack(model: Any, packed: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Put packed weights into diffusers' own layers for them."""
    if not packed:
        return
    first = next(iter(packed.values()))
    if isinstance(first, BFLQuantizedParameter):
        config: Any = BFLQuantizationConfig(compute_dtype=dtype)
    else:
        from diffusers import GGUFQuantizationConfig

        config = GGUFQuantizationConfig(compute_dtype=dtype)
    quantizer = DiffusersAutoQuantizer.from_config(config)
    quantizer.preprocess_model(model, device_map=None, state_dict=packed, keep_in_fp32_modules=[])
    for name, value in packed.items():
        quantizer.create_quantized_param(model, value, name, torch.device("cpu"), {})


def _pack_bnb(model: Any, packed: Mapping[str, BnbRows], dtype: torch.dtype) -> None:
    if not packed:
        return
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for name, value in packed.items():
        path = name.rpartition(".")[0]
        old = model.get_submodule(path)
        with init_empty_weights(include_buffers=False):
            layer = Linear4bit(
                old.in_features,
                old.out_features,
                old.bias is not None,
                compute_dtype=dtype,
                quant_type=value.state.quant_type,
            )
        layer.weight = Params4bit.from_prequantized(
            data=value.packed,
            quantized_stats=value.state.as_dict(packed=True),
            device=torch.device("cpu"),
            module=layer,
        )
        model.set_submodule(path, layer)
    model.is_quantized, model.is_loaded_in_4bit = True, True


def _make_exact(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) in EXACT:
            module.__class__ = EXACT[type(module)]
