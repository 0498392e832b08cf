"""LoRA-MoE: low-rank updates of linear layers, chosen token by token among experts (ICEdit, section 3.2)."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from editkit import adapters
from editkit.errors import EditkitError
from methods.icedit import checkpoint

ROUTERS = ("released", "paper")
EVALUATIONS = ("dense", "sparse")


@dataclass(frozen=True, kw_only=True)
class MoEOptions:
    """Experts on some linear layers, plain LoRA on others."""

    experts: int = 4
    rank: int = 32
    """Of each expert."""
    alpha: float | None = None
    """Equals the rank where null, which is a scale of 1."""
    top_k: int = 1
    """Experts that a token uses."""
    router: str = "paper"
    """`paper`: softmax over all experts, the best kept at their value, so that it learns. `released`: softmax
    over the best alone, always 1 for a single one: that router has no gradient, so it is for loading."""
    targets: tuple[str, ...] = ("ff.net.2", "proj_out")
    """Ends of the names of modules inside blocks that get experts."""
    plain: tuple[str, ...] = checkpoint.PLAIN
    """Ends of the names of modules that get a plain LoRA of the same rank."""
    balance: float = 0.0
    """Weight of the load-balance loss (Switch Transformer, eq. 4)."""
    noise: float = 0.0
    """Standard deviation of noise on the router's logits while training."""

    def __post_init__(self) -> None:
        if min(self.experts, self.rank, self.top_k) < 1 or self.top_k > self.experts:
            raise ValueError(
                f"experts, rank and top_k must be at least 1 and top_k at most experts, "
                f"not {self.experts}, {self.rank} and {self.top_k}"
            )
        if self.router not in ROUTERS:
            raise ValueError(f"router must be one of {', '.join(ROUTERS)}, not {self.router!r}")
        if min(self.balance, self.noise) < 0:
            raise ValueError(f"balance and noise must not be negative, not {self.balance} and {self.noise}")


class MoELinear(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft is untyped
    """A linear layer, of any kind, plus the update of the experts that a router picks for each token.

    To peft and diffusers it is one more adapter layer, so they scale it and switch it off with the rest.

    Args:
        base: what it wraps, under `base_layer`; it stays as it is.
        adapter: the name that it goes by.
        down_ErI: experts' first matrices (E experts, r rank, I inputs).
        up_EOr: experts' second matrices (O outputs).
        route_EI: the router, no bias.
        options: top_k, router, alpha and noise.
    """

    def __init__(
        self,
        base: nn.Module,
        adapter: str,
        down_ErI: Tensor,
        up_EOr: Tensor,
        route_EI: Tensor,
        options: MoEOptions,
    ) -> None:
        super().__init__()
        self.base_layer, self.options, self._active_adapter = base, options, [adapter]
        self.down_ErI, self.up_EOr = nn.Parameter(down_ErI), nn.Parameter(up_EOr)
        self.route_EI = nn.Parameter(route_EI)
        rank = down_ErI.shape[1]
        self.r, self.lora_alpha = {adapter: rank}, {adapter: options.alpha or rank}
        self.scaling = {adapter: self.lora_alpha[adapter] / rank}
        self.strength = 1.0
        """Of the experts alone, on top of the adapter's scale."""
        self.evaluation = "dense"
        self.tokens_E: Tensor | None = None
        """Tokens that each expert was chosen for, counted while it is not None."""
        self.given_E: Tensor | None = None
        """The sum of the weights that it was given for them."""
        self.balance: Tensor | None = None
        """The load-balance loss of the last forward pass in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Base output plus the chosen experts' updates; x is (..., I)."""
        out: Tensor = self.base_layer(x)
        active: Any = self.active_adapters
        scale = self.strength * sum(self.scaling.get(name, 0.0) for name in active)
        if self.disable_adapters or not scale:
            return out
        x = x.to(self.down_ErI.dtype)
        weights_E = self.routed(x)
        update = (self._sparse if self.evaluation == "sparse" else self._dense)(x, weights_E)
        return out + (scale * update).to(out.dtype)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Which adapters are on, by peft's contract."""
        self._active_adapter = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch all of it on or off, by peft's contract."""
        self._disable_adapters = not enabled

    def set_scale(self, adapter: str, scale: float) -> None:
        """The adapter's scale relative to how it was trained, by peft's contract."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self.lora_alpha[adapter] / self.r[adapter]

    def routed(self, x: Tensor) -> Tensor:
        """Weights of the experts (..., E), zero for those not chosen."""
        options = self.options
        logits_E = F.linear(x, self.route_EI).float()
        if self.training and options.noise:
            logits_E = logits_E + options.noise * torch.randn_like(logits_E)
        best, places = logits_E.topk(options.top_k, dim=-1)
        chances_E = logits_E.softmax(-1)
        kept = best.softmax(-1) if options.router == "released" else chances_E.gather(-1, places)
        weights_E = torch.zeros_like(logits_E).scatter(-1, places, kept)
        if self.tokens_E is not None or (self.training and options.balance):
            chosen_E = torch.zeros_like(logits_E).scatter(-1, places, 1.0).flatten(0, -2)
            if self.tokens_E is not None and self.given_E is not None:
                self.tokens_E += chosen_E.sum(0).to(self.tokens_E)
                self.given_E = self.given_E + weights_E.flatten(0, -2).sum(0).to(self.tokens_E)
            if self.training and options.balance:
                share_E = chosen_E.mean(0) / options.top_k
                self.balance = len(share_E) * (share_E * chances_E.flatten(0, -2).mean(0)).sum()
        return weights_E.to(x.dtype)

    def _dense(self, x: Tensor, weights_E: Tensor) -> Tensor:
        """All experts on all tokens: two matrix products as wide as all ranks together."""
        hidden = F.linear(x, self.down_ErI.flatten(0, 1))
        hidden = hidden.reshape(*x.shape[:-1], *self.down_ErI.shape[:2])
        return F.linear((hidden * weights_E[..., None]).flatten(-2), self.up_EOr.transpose(0, 1).flatten(1))

    def _sparse(self, x: Tensor, weights_E: Tensor) -> Tensor:
        """Each expert on its own tokens alone."""
        tokens, weights_NE = x.flatten(0, -2), weights_E.flatten(0, -2)
        update = tokens.new_zeros(len(tokens), self.up_EOr.shape[1])
        for number, (down_rI, up_Or) in enumerate(zip(self.down_ErI, self.up_EOr, strict=True)):
            (places,) = weights_NE[:, number].nonzero(as_tuple=True)
            found = F.linear(F.linear(tokens[places], down_rI), up_Or) * weights_NE[places, number, None]
            update = update.index_add(0, places, found.to(update.dtype))
        return update.reshape(*x.shape[:-1], -1)


class Experts:
    """A handle on the experts of one transformer.

    Attributes:
        layers: the layers that carry experts, by module name.
        adapter: their name, and that of the plain LoRA that belongs to them.
        plain: whether there is one.
    """

    def __init__(self, transformer: Any, layers: Mapping[str, MoELinear], adapter: str, plain: bool) -> None:
        self.transformer, self.layers, self.adapter, self.plain = transformer, dict(layers), adapter, plain
        for name, layer in self.layers.items():
            _put(transformer, name, layer)

    @property
    def scale(self) -> float:
        """Strength of experts and plain LoRA alike; 1 is as trained."""
        layer = next(iter(self.layers.values()))
        return layer.scaling[self.adapter] * layer.r[self.adapter] / layer.lora_alpha[self.adapter]

    @scale.setter
    def scale(self, scale: float) -> None:
        if self.plain:
            adapters.enable(self.transformer, [self.adapter], [_finite(scale)])
        for layer in self.layers.values():
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
        """Put the base modules back; the base weights are bit-identical to before."""
        for name, layer in self.layers.items():
            _put(self.transformer, name, layer.base_layer)
        if self.plain:
            adapters.eject(self.transformer, self.adapter)

    def save(self, folder: Path) -> Path:
        """Write experts, routers and plain LoRA in the released layout, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            prefix = f"{checkpoint.PREFIX}{name}"
            for number in range(len(layer.route_EI)):
                tensors[f"{prefix}.lora_A.expert_{number}.weight"] = layer.down_ErI[number]
                tensors[f"{prefix}.lora_B.expert_{number}.weight"] = layer.up_EOr[number]
            tensors[f"{prefix}.lora_route.weight"] = layer.route_EI
        metadata = {
            "format": "pt",
            "icedit_moe": json.dumps(
                asdict(next(iter(self.layers.values())).options)
                | {"in_channels": self.transformer.config.in_channels}
            ),
        }
        if self.plain:
            tensors |= adapters.state(self.transformer, self.adapter)
            metadata |= adapters.metadata(self.transformer, self.adapter)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{adapters.FILE}.partial"
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata
        )
        os.replace(partial, folder / adapters.FILE)
        return folder / adapters.FILE


def attach(transformer: Any, options: MoEOptions, name: str = "icedit") -> Experts:
    """Add fresh experts and a fresh plain LoRA, which change nothing yet and are all that trains.

    Raises:
        EditkitError: where no module has one of the names.
    """
    if options.plain:
        lora = adapters.LoraOptions(rank=options.rank, alpha=options.alpha, targets=options.plain)
        adapters.attach(transformer, lora, name)
    else:
        transformer.requires_grad_(False)
    layers = {}
    for path, module in list(transformer.named_modules()):
        if "blocks." in path and path.endswith(tuple(f".{end}" for end in options.targets)):
            inputs, outputs = module.in_features, module.out_features
            device = module.weight.device
            layers[path] = MoELinear(
                module,
                name,
                torch.randn(options.experts, options.rank, inputs, device=device) / options.rank,
                torch.zeros(options.experts, outputs, options.rank, device=device),
                torch.randn(options.experts, inputs, device=device) / inputs**0.5,
                options,
            )
    if not layers:
        raise EditkitError(f"The transformer has no module named {', '.join(options.targets)} in its blocks.")
    return Experts(transformer, layers, name, bool(options.plain))


def inject(
    transformer: Any,
    source: str | Path | Mapping[str, Tensor],
    *,
    options: MoEOptions | None = None,
    name: str = "icedit",
) -> Experts:
    """Put a LoRA-MoE file, or its tensors, on a transformer.

    Args:
        transformer: a FluxTransformer2DModel of FLUX.1 Fill, its weights quantized or not.
        source: a .safetensors file, a folder with one, or its tensors by key.
        options: how to route; from the file's metadata, or as released (one expert a token), where None.
        name: of the plain LoRA that comes with the experts.

    Raises:
        EditkitError: where tensors are missing, left over, uneven, not finite, or do not fit the transformer.
    """
    if isinstance(source, Mapping):
        state: dict[str, Tensor] = dict(source)
        about: dict[str, str] = {}
    else:
        state, about = adapters.read(source)
    plain, experts = checkpoint.split(state)
    if not checkpoint.has_experts(state):
        raise EditkitError("There are no experts among these tensors; load a plain LoRA with load_adapter.")
    checkpoint.check(transformer, plain, experts)
    first = next(iter(experts.values()))
    options = options or checkpoint.options(MoEOptions, about, first)
    layers = {}
    for path, parts in experts.items():
        base = transformer.get_submodule(path)
        device = next(base.parameters()).device
        down_ErI, up_EOr = parts.down_ErI.to(device), parts.up_EOr.to(device)
        layers[path] = MoELinear(base, name, down_ErI, up_EOr, parts.route_EI.to(device), options)
    if plain:
        adapters.install(transformer, plain, name, about)
    # In this order, since the plain LoRA's loader looks for linear layers.
    handle = Experts(transformer, layers, name, bool(plain))
    for parameter in handle.parameters():
        parameter.requires_grad_(False)
    return handle


def load(transformer: Any, path: Path, name: str) -> None:
    """Put a file on a transformer under a name, be it a LoRA-MoE or a plain LoRA.

    Raises:
        EditkitError: where it is missing or does not fit.
    """
    state, _ = adapters.read(path)
    if checkpoint.has_experts(state):
        inject(transformer, path, name=name)
    else:
        adapters.load(transformer, path, name)


def _put(transformer: Any, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(transformer.get_submodule(parent), child, module)


def _finite(scale: float) -> float:
    if not math.isfinite(scale):
        raise EditkitError(f"scale={scale} is not allowed; give a finite number.")
    return float(scale)
