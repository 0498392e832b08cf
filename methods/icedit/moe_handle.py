"""Control the LoRA-MoE of a transformer: scale, count, eject, save (ICEdit, section 3.2)."""

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
    """Controls the experts of one transformer.

    Attributes:
        layers: the layers with experts, by module name.
        adapter: name of the adapter: of the experts and of their plain LoRA.
        plain: whether the adapter has a plain LoRA.
    """

    def __init__(
        self, transformer: Transformer, layers: Mapping[str, MoELinear], adapter: str, plain: bool
    ) -> None:
        self.transformer, self.layers, self.adapter, self.plain = transformer, dict(layers), adapter, plain
        for name, layer in self.layers.items():
            _set_module(transformer, name, layer)
        provider().refresh_offload_groups(transformer)

    @property
    def scale(self) -> float:
        """Scale of the whole adapter, experts and plain LoRA; 1 is as trained."""
        layer = next(iter(self.layers.values()))
        return layer.scaling[self.adapter] * layer.r[self.adapter] / layer.lora_alpha[self.adapter]

    @scale.setter
    def scale(self, scale: float) -> None:
        for layer in adapters.layers(self.transformer):
            if self.adapter in layer.scaling:
                layer.set_scale(self.adapter, _finite(scale))

    @property
    def expert_scale(self) -> float:
        """Scale of the experts, on top of `scale`; the plain LoRA keeps its own."""
        return next(iter(self.layers.values())).strength

    @expert_scale.setter
    def expert_scale(self, scale: float) -> None:
        for layer in self.layers.values():
            layer.strength = _finite(scale)

    @property
    def evaluation(self) -> str:
        """`dense`: all experts on all tokens. `sparse`: each expert on its own tokens. Both agree."""
        return next(iter(self.layers.values())).evaluation

    @evaluation.setter
    def evaluation(self, evaluation: str) -> None:
        if evaluation not in EVALUATIONS:
            raise EditkitError(f"evaluation must be dense or sparse, not {evaluation!r}.")
        for layer in self.layers.values():
            layer.evaluation = evaluation

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the weights of experts and routers."""
        for layer in self.layers.values():
            yield from (layer.down_ErI, layer.up_EOr, layer.route_EI)

    def balance(self) -> Tensor | None:
        """Return the mean load-balance loss of the last forward pass; None where its weight is 0."""
        found = [layer.balance for layer in self.layers.values() if layer.balance is not None]
        return torch.stack(found).mean() if found else None

    def penalty(self) -> Tensor | None:
        """Return the weighted load-balance loss of the last forward pass; None where its weight is 0."""
        balance = self.balance()
        return None if balance is None else next(iter(self.layers.values())).options.balance * balance

    def count(self, on: bool = True) -> None:
        """Start counting each expert's tokens from zero, or stop counting."""
        for layer in self.layers.values():
            layer.tokens_E = torch.zeros(len(layer.route_EI), dtype=torch.float64) if on else None
            layer.given_E = torch.zeros_like(layer.tokens_E) if layer.tokens_E is not None else None

    def shares(self) -> dict[str, list[float]]:
        """Return each expert's share of the tokens since `count`, by module."""
        return {
            name: (layer.tokens_E / layer.tokens_E.sum().clamp(min=1)).tolist()
            for name, layer in self.layers.items()
            if layer.tokens_E is not None
        }

    def weights(self) -> dict[str, list[float]]:
        """Return each expert's mean weight over all tokens since `count`, by module."""
        return {
            name: (layer.given_E * layer.options.top_k / layer.tokens_E.sum().clamp(min=1)).tolist()
            for name, layer in self.layers.items()
            if layer.tokens_E is not None and layer.given_E is not None
        }

    def eject(self) -> None:
        """Remove the adapter; the base weights are bit-identical to before.

        Raises:
            EditkitError: where it was removed before.
        """
        if not {*self.layers.values()} <= {*self.transformer.modules()}:
            raise EditkitError("These experts were removed from their transformer; inject them again.")
        for name, layer in self.layers.items():
            around = self.transformer.get_submodule(name)
            if around is layer:
                _set_module(self.transformer, name, layer.base_layer)
                continue
            while around.base_layer is not layer:  # later adapters are wrapped around it
                around = around.get_submodule("base_layer")
            around.base_layer = layer.base_layer
        provider().refresh_offload_groups(self.transformer)
        if self.plain:
            adapters.eject(self.transformer, self.adapter)

    def save(self, folder: Path, base: str = "") -> Path:
        """Write experts, routers and plain LoRA in the released layout, whole or not at all.

        Args:
            folder: folder for `pytorch_lora_weights.safetensors`.
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
            "plain": moe_file.ends(provider().lora.update_shapes(plain)),
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


def _set_module(transformer: Transformer, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(transformer.get_submodule(parent), child, module)


def _finite(scale: float) -> float:
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise EditkitError(f"scale={scale} is not allowed; give a finite number.")
    return float(scale)
