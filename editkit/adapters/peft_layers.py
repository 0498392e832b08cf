"""The adapter layers of a transformer: which adapters are active, and at which scale."""

import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any

from editkit.backbone import Transformer
from editkit.errors import EditkitError


def layers(transformer: Transformer) -> list[Any]:
    """List all adapter layers, of peft's kinds and of methods' own kinds."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in transformer.modules() if isinstance(module, BaseTunerLayer)]


def is_name(name: str) -> bool:
    """Whether an adapter can have this name, which becomes a name among its layers' own attributes."""
    from torch import nn

    return bool(name) and "." not in name and not hasattr(nn.ModuleDict(), name)


def is_plain(transformer: Transformer, name: str) -> bool:
    """Whether all layers of an adapter are of peft's kinds, which every method can load."""
    own = [layer for layer in layers(transformer) if name in layer.r]
    return all(type(layer).__module__.startswith("peft.") for layer in own)


def unwrap(transformer: Transformer) -> None:
    """Take away the layers that have no adapter left; what they were wrapped around takes their place."""
    found = layers(transformer)
    for path, module in reversed(list(transformer.named_modules())):  # the inner one of two goes first
        if module in found and not module.r:
            parent, _, name = path.rpartition(".")
            setattr(transformer.get_submodule(parent), name, module.base_layer)


def active(transformer: Transformer) -> dict[str, float]:
    """Return the active adapters and their scales; 1 is as trained."""
    return {
        name: layer.scaling[name] / _trained_scale(layer, name)
        for layer in layers(transformer)
        if not layer.disable_adapters
        for name in layer.active_adapters
        if name in layer.scaling
    }


def set_dropout(transformer: Transformer, name: str) -> None:
    """Let a LoRA's dropout act in training alone; peft makes it for training, whatever the model's mode.

    Other modules keep their mode, since quantized layers compute otherwise in training.
    """
    for layer in layers(transformer):
        if name in getattr(layer, "lora_dropout", ()):
            layer.lora_dropout[name].train(transformer.training)


def version(transformer: Transformer) -> Hashable:
    """Return a key that changes when an adapter, its scale, or that of its experts, is switched."""
    return tuple(
        (
            layer.disable_adapters,
            tuple(layer.active_adapters),
            tuple(layer.scaling.items()),
            getattr(layer, "strength", 1.0),
        )
        for layer in layers(transformer)
    )


def _trained_scale(layer: Any, name: str) -> float:
    if not hasattr(layer, "lora_alpha"):  # LoKr and LoHa
        return float(layer.alpha[name]) / float(layer.r[name])
    rank = float(layer.r[name])
    return float(layer.lora_alpha[name]) / (rank**0.5 if layer.use_rslora.get(name) else rank)


def enable(transformer: Transformer, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
    """Activate exactly these adapters; none gives the base model.

    Raises:
        EditkitError: for an adapter that was not loaded, or another number of scales than of names.
    """
    if isinstance(names, str):
        raise EditkitError(f"The adapters' names are a list; give [{names!r}].")
    found = layers(transformer)
    loaded = dict.fromkeys(name for layer in found for name in layer.r)
    if strange := [name for name in names if name not in loaded]:
        raise EditkitError(f"The adapter {strange[0]!r} is not among those loaded ({', '.join(loaded)}).")
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise EditkitError(f"The adapter {twice[0]!r} is named twice; name it once, with one scale.")
    if scales is not None and len(scales) != len(names):
        raise EditkitError(f"{len(names)} adapters cannot take {len(scales)} scales; give one for each.")
    chosen = dict(zip(names, scales or [1.0] * len(names), strict=True))
    check_scales(chosen)
    for layer in found:
        layer.enable_adapters(bool(names))
        layer.set_adapter(list(names))
        for name, scale in chosen.items():
            layer.set_scale(name, scale)


def deactivate(transformer: Transformer, name: str) -> None:
    """Deactivate one adapter; the others stay as they are."""
    for layer in layers(transformer):
        if name in layer.active_adapters:
            layer.set_adapter([other for other in layer.active_adapters if other != name])


def check_scales(scales: Mapping[str, float]) -> None:
    """Refuse scales that are no numbers.

    Raises:
        EditkitError: naming the first.
    """
    for name, scale in scales.items():
        if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
            raise EditkitError(
                f"The scale {scale!r} of the adapter {name!r} is no number; give one, such as 0.5."
            )
