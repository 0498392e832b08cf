"""Put a LoKr or LoHa adapter on a transformer through peft."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model
from torch import Tensor, nn

from backbones.lora import coverage
from backbones.lora.lycoris_factors import Factors, kind, read_factors, split
from editkit.errors import EditkitError, first_sentence

CONFIGS = {"LoKr": LoKrConfig, "LoHa": LoHaConfig}
"""peft's configs by kind of adapter."""


def load_lycoris(transformer: Any, state: Mapping[str, Tensor], about: Mapping[str, str], name: str) -> bool:
    """Put a LoKr or LoHa on a transformer, beside other adapters.

    Args:
        transformer: a FluxTransformer2DModel.
        state: all tensors of the file.
        about: metadata of the file.
        name: name for the adapter.

    Returns:
        Whether the tensors are a LoKr's or LoHa's; if not, nothing is done.

    Raises:
        EditkitError: where a tensor does not belong to it or does not fit, or if weights are packed.
    """
    if not kind(state):
        return False
    factors = split(read_factors(state, about))
    if not factors:
        raise EditkitError(f"The file holds no {kind(state)} of FLUX's transformer; give a file with one.")
    coverage.check_shapes(transformer, {module: each.shape for module, each in factors.items()})
    coverage.check_whole_shapes(transformer, factors, kind(state))
    if name in getattr(transformer, "peft_config", {}):
        raise EditkitError(f"There is an adapter {name!r} already; give another name.")
    config = CONFIGS[kind(state)](r=1, alpha=1, target_modules="|".join(map(re.escape, factors)))
    try:
        inject_adapter_in_model(config, transformer, name)
    except (TypeError, ValueError, KeyError) as error:  # the last for a name that torch refuses
        raise EditkitError(f"peft cannot put it on this transformer: {first_sentence(error)}.") from error
    transformer._hf_peft_config_loaded = True
    for module, each in factors.items():
        _fill(transformer.get_submodule(module), each, name)
    return True


def _fill(layer: Any, factors: Factors, name: str) -> None:
    """Give peft's new layer the file's tensors; peft itself would make the same shape for all modules."""
    weight = layer.get_base_layer().weight
    dtype = weight.dtype if weight.dtype.itemsize > 1 else torch.get_default_dtype()
    for part in layer.adapter_layer_names:
        held = getattr(layer, part)
        if name in held:
            del held[name]
        if part in factors.tensors:
            values = factors.tensors[part].to(weight.device, dtype, copy=True)
            held[name] = nn.Parameter(values, requires_grad=False)
    layer.r[name], layer.alpha[name] = factors.rank, factors.scale * factors.rank
    layer.set_scale(name, 1.0)
