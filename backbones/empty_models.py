"""Build models that take no memory yet, and give them their tensors."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import BFLQuantizationConfig
from diffusers.models.model_loading_utils import load_model_dict_into_meta
from diffusers.quantizers.auto import DiffusersAutoQuantizer
from diffusers.quantizers.bfl.utils import BFLQuantizedParameter
from torch import nn

from backbones.conversion.bnb_matrix import BnbMatrix
from backbones.quantized import (
    dequantize,
    gguf_class,
    is_quantized,
    keep_packing,
    packed_shape,
    stays_packed,
    use_exact_layers,
)

Model = TypeVar("Model", bound=nn.Module)


def empty_model(cls: Any, config: Any) -> Any:
    """Build a model whose parameters take no memory yet; its buffers are real."""
    with init_empty_weights(include_buffers=False):
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(config)


def fill(model: Model, state: Mapping[str, Any], dtype: torch.dtype, *, exact: bool = False) -> Model:
    """Give a model from `empty_model` its tensors: plain ones in `dtype`, quantized ones as they are.

    Args:
        model: the empty model.
        state: all of its tensors, by their names in its state dict.
        dtype: precision of plain tensors, and of the computation.
        exact: whether activations must not be quantized.

    Raises:
        ValueError: where names or shapes are not those of the model.
    """
    plain, packed = {}, {}
    for name, value in complete_state(model, state).items():
        if is_quantized(value) and stays_packed(model, name):
            packed[name] = value
        else:
            plain[name] = dequantize(value).to(_precision(model, name, dtype))
    for kind in (gguf_class(), BFLQuantizedParameter):
        _pack(model, {name: value for name, value in packed.items() if isinstance(value, kind)}, dtype)
    _pack_bnb(model, {name: value for name, value in packed.items() if isinstance(value, BnbMatrix)}, dtype)
    model.load_state_dict(plain, strict=False, assign=True)
    if tie := getattr(model, "tie_weights", None):
        tie()
    if exact:
        use_exact_layers(model)
    keep_packing(model)
    return model.eval().requires_grad_(False)


def _precision(model: Any, name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the precision of a plain tensor: T5's `wo` overflows in float16 and stays in float32."""
    wide = getattr(model, "_keep_in_fp32_modules", None) or ()
    return torch.float32 if dtype == torch.float16 and not {*wide}.isdisjoint(name.split(".")) else dtype


def fill_quantized(
    model: Any, state: Mapping[str, Any], config: Any, dtype: torch.dtype, device: torch.device
) -> None:
    """Give a diffusers model from `empty_model` its tensors, and quantize each one as it is placed.

    diffusers' `from_single_file` cannot do this: it assumes that all weights are quantized already.

    Args:
        model: the empty model.
        state: all of its tensors, by their names in its state dict.
        config: diffusers' quantization config.
        dtype: precision of what is not quantized, and of the computation.
        device: the device on which weights are quantized and stay.

    Raises:
        ValueError: where tensors are not those of the model, or are quantized already.
        ImportError: where the quantizer's package is missing.
        RuntimeError: where the quantizer needs another device.
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
    keep_packing(model)
    model.hf_quantizer = quantizer


def complete_state(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Check that these are exactly the model's tensors; add T5's embedding under its second name.

    Raises:
        ValueError: naming the first tensor that is missing, unexpected or of another shape.
    """
    tied: Mapping[str, str] = getattr(model, "_tied_weights_keys", None) or {}
    state = {**{tied[name]: state[name] for name in tied if name in state}, **state}
    state |= {name: state[tied[name]] for name in tied if tied[name] in state}
    need = model.state_dict()
    missing, extra = sorted(need.keys() - state.keys()), sorted(state.keys() - need.keys())
    if missing:
        raise ValueError(f"its file lacks {len(missing)} tensors, such as {missing[0]}")
    if extra:
        raise ValueError(f"its file holds {len(extra)} unknown tensors, such as {extra[0]}")
    for name, value in state.items():
        shape = packed_shape(value)
        if shape != need[name].shape:
            raise ValueError(f"its file's {name} has shape {tuple(shape)}, not {tuple(need[name].shape)}")
    return state


def _pack(model: Any, packed: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Replace linear layers by diffusers' quantized layers for GGUF, fp8 or NVFP4 weights."""
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


def _pack_bnb(model: Any, packed: Mapping[str, BnbMatrix], dtype: torch.dtype) -> None:
    """Replace linear layers by bitsandbytes' layers for 4-bit weights."""
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
