"""A handle on the LoRA-MoE of a transformer: scale, count, eject, save (ICEdit, section 3.2)."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from editkit import adapters, atomic_files
from editkit.backbone import Transformer, provider
from editkit.errors import EditkitError
from methods.icedit import moe_file
from methods.icedit.moe_layer import MoELinear

EVALUATIONS = ("dense", "sparse")


class Experts:
    """A handle on the experts of one transformer.

    Attributes:
        layers: the layers that carry experts, by module name.
        adapter: their name, and that of the plain LoRA that belongs to them.
        plain: whether there is one.
    """

    def __init__(
        self, transformer: Transformer, layers: Mapping[str, MoELinear], adapter: str, plain: bool
    ) -> None:
        self.transformer, self.layers, self.adapter, self.plain = transformer, dict(layers), adapter, plain
        for name, layer in self.layers.items():
            _put(transformer, name, layer)
        provider().regroup(transformer)

    @property
    def scale(self) -> float:
        """Strength of experts and plain LoRA alike; 1 is as trained."""
        layer = next(iter(self.layers.values()))
        return layer.scaling[self.adapter] * layer.r[self.adapter] / layer.lora_alpha[self.adapter]

    @scale.setter
    def scale(self, scale: float) -> None:
        for layer in adapters.layers(self.transformer):
            if self.adapter in layer.scaling:
                layer.set_scale(self.adapter, _finite(scale))

    @property
    def expert_scale(self) -> float:
        """Strength of the experts alone."""
        return next(iter(self.layers.values())).strength

    @expert_scale.setter
    def expert_scale(self, scale: float) -> None:
        for layer in self.layers.values():
            layer.strength = _finite(scale)

    @property
    def evaluation(self) -> str:
        """`dense`: all experts on all tokens. `sparse`: each on its own; the two agree."""
        return next(iter(self.layers.values())).evaluation

    @evaluation.setter
    def evaluation(self, evaluation: str) -> None:
        if evaluation not in EVALUATIONS:
            raise EditkitError(f"evaluation must be dense or sparse, not {evaluation!r}.")
        for layer in self.layers.values():
            layer.evaluation = evaluation

    def parameters(self) -> Iterator[nn.Parameter]:
        """What trains: experts and routers."""
        for layer in self.layers.values():
            yield from (layer.down_ErI, layer.up_EOr, layer.route_EI)

    def balance(self) -> Tensor | None:
        """The mean load-balance loss of the last forward pass, or None where none was asked for."""
        found = [layer.balance for layer in self.layers.values() if layer.balance is not None]
        return torch.stack(found).mean() if found else None

    def penalty(self) -> Tensor | None:
        """The load-balance loss of the last forward pass by its weight, or None where it has none."""
        balance = self.balance()
        return None if balance is None else next(iter(self.layers.values())).options.balance * balance

    def count(self, on: bool = True) -> None:
        """Start counting anew how many tokens each expert gets, or stop."""
        for layer in self.layers.values():
            layer.tokens_E = torch.zeros(len(layer.route_EI), dtype=torch.float64) if on else None
            layer.given_E = torch.zeros_like(layer.tokens_E) if layer.tokens_E is not None else None

    def shares(self) -> dict[str, list[float]]:
        """Share of tokens that each expert got since `count`, by module."""
        return {
            name: (layer.tokens_E / layer.tokens_E.sum().clamp(min=1)).tolist()
            for name, layer in self.layers.items()
            if layer.tokens_E is not None
        }

    def weights(self) -> dict[str, list[float]]:
        """Mean weight that each expert got over all tokens since `count`, by module."""
        return {
            name: (layer.given_E * layer.options.top_k / layer.tokens_E.sum().clamp(min=1)).tolist()
            for name, layer in self.layers.items()
            if layer.tokens_E is not None and layer.given_E is not None
        }

    def eject(self) -> None:
        """Put the base modules back; the base weights are bit-identical to before.

        Raises:
            EditkitError: where that was done before.
        """
        if not {*self.layers.values()} <= {*self.transformer.modules()}:
            raise EditkitError("These experts are on no transformer any more; inject them anew.")
        for name, layer in self.layers.items():
            around = self.transformer.get_submodule(name)
            if around is layer:
                _put(self.transformer, name, layer.base_layer)
                continue
            while around.base_layer is not layer:  # adapters that came later are wrapped around it
                around = around.get_submodule("base_layer")
            around.base_layer = layer.base_layer
        provider().regroup(self.transformer)
        if self.plain:
            adapters.eject(self.transformer, self.adapter)

    def save(self, folder: Path, base: str = "") -> Path:
        """Write experts, routers and plain LoRA in the released layout, whole or not at all.

        Args:
            folder: to write `pytorch_lora_weights.safetensors` in.
            base: name of the backbone, for the file's metadata.
        """
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            prefix = f"{moe_file.PREFIX}{name}"
            for number in range(len(layer.route_EI)):
                tensors[f"{prefix}.lora_A.expert_{number}.weight"] = layer.down_ErI[number]
                tensors[f"{prefix}.lora_B.expert_{number}.weight"] = layer.up_EOr[number]
            tensors[f"{prefix}.lora_route.weight"] = layer.route_EI
        plain = adapters.state(self.transformer, self.adapter) if self.plain else {}
        about = asdict(next(iter(self.layers.values())).options) | {
            "targets": moe_file.ends(self.layers),
            "plain": moe_file.ends(provider().lora.shapes(plain)),
            "base": base,
            "in_channels": self.transformer.config.in_channels,
        }
        metadata = {"format": "pt", moe_file.METADATA: json.dumps(about)}
        if self.plain:
            tensors |= plain
            metadata |= adapters.metadata(self.transformer, self.adapter)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_files.beside(folder / adapters.FILE) as partial:
            save_file(tensors, partial, metadata)
        return folder / adapters.FILE


def _put(transformer: Transformer, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(transformer.get_submodule(parent), child, module)


def _finite(scale: float) -> float:
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise EditkitError(f"scale={scale} is not allowed; give a finite number.")
    return float(scale)
