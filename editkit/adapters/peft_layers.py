"""The adapter layers of a transformer: which adapters are active, and at which scale."""

from collections.abc import Sequence
from typing import Any

from editkit.backbone import Transformer
from editkit.errors import EditkitError


def layers(transformer: Transformer) -> list[Any]:
    """List all adapter layers, of peft's kinds and of methods' own kinds."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in transformer.modules() if isinstance(module, BaseTunerLayer)]


def active(transformer: Transformer) -> dict[str, float]:
    """Return the active adapters and their scales; 1 is as trained."""
    return {
        name: layer.scaling[name] * _divisor(layer, name) / layer.lora_alpha[name]
        for layer in layers(transformer)
        if not layer.disable_adapters
        for name in layer.active_adapters
        if name in layer.scaling
    }


def _divisor(layer: Any, name: str) -> float:
    rank = float(layer.r[name])
    return rank**0.5 if layer.use_rslora.get(name) else rank


def enable(transformer: Transformer, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
    """Activate exactly these adapters; none gives the base model.

    Raises:
        EditkitError: for an adapter that was not loaded, or another number of scales than of names.
    """
    found = layers(transformer)
    loaded = dict.fromkeys(name for layer in found for name in layer.r)
    if strange := [name for name in names if name not in loaded]:
        raise EditkitError(f"The adapter {strange[0]!r} is not among those loaded ({', '.join(loaded)}).")
    if scales is not None and len(scales) != len(names):
        raise EditkitError(f"{len(names)} adapters cannot take {len(scales)} scales; give one for each.")
    for layer in found:
        layer.enable_adapters(bool(names))
        layer.set_adapter(list(names))
        for name, scale in zip(names, scales or [1.0] * len(names), strict=True):
            layer.set_scale(name, scale)
