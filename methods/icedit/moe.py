"""Add a LoRA-MoE to a transformer, new or from a file (ICEdit, section 3.2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit import adapters
from editkit.backbone import Transformer
from editkit.errors import EditkitError
from methods.icedit import moe_file
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear
from methods.icedit.moe_options import MoEOptions


def target_layers(transformer: Transformer, targets: Sequence[str]) -> dict[str, Any]:
    """Find the linear layers inside blocks whose names end in one of the targets; by name."""
    return {
        path: module
        for path, module in transformer.named_modules()
        if "blocks." in path
        and path.endswith(tuple(f".{end}" for end in targets))
        and hasattr(module, "in_features")
    }


def attach(transformer: Transformer, options: MoEOptions, name: str = "icedit") -> Experts:
    """Add new experts and a new plain LoRA; they have no effect yet and are the only parts that train.

    Raises:
        EditkitError: where no module's name ends in a target.
    """
    # A layer in both lists gets experts.
    plain = tuple(end for end in options.plain if end not in options.targets)
    if plain:
        lora = adapters.LoraOptions(rank=options.rank, alpha=options.alpha, targets=plain)
        adapters.attach(transformer, lora, name)
    else:
        transformer.requires_grad_(False)
    layers = {}
    for path, module in target_layers(transformer, options.targets).items():
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
        names = ", ".join(options.targets) or "nothing"
        raise EditkitError(f"The transformer's blocks have no linear layer that is called {names}.")
    return Experts(transformer, layers, name, bool(plain))


def inject(
    transformer: Transformer,
    source: str | Path | Mapping[str, Tensor],
    *,
    options: MoEOptions | None = None,
    name: str = "icedit",
) -> Experts:
    """Add a LoRA-MoE from a file, or from its tensors, to a transformer.

    Args:
        transformer: FLUX.1 Fill's transformer; its weights may be quantized.
        source: a .safetensors file, a folder with one, or tensors by key.
        options: options of the experts; where None, those of the file's metadata, or as released (one expert
            for each token).
        name: name of the adapter.

    Raises:
        EditkitError: where tensors are missing, left over, uneven, not finite, or do not fit the transformer.
    """
    if isinstance(source, Mapping):
        state: dict[str, Tensor] = dict(source)
        about: dict[str, str] = {}
    else:
        state, about = adapters.read_adapter(source)
    plain, experts = moe_file.split(state)
    if not moe_file.has_experts(state):
        raise EditkitError("There are no experts among these tensors; load a plain LoRA with load_adapter.")
    moe_file.check_fit(transformer, plain, experts, about)
    first = next(iter(experts.values()))
    options = options or moe_file.options(MoEOptions, about, first)
    if few := [path for path, parts in experts.items() if len(parts.route_EI) < options.top_k]:
        raise EditkitError(f"{few[0]} has fewer experts than the {options.top_k} that a token uses.")
    layers = {}
    for path, parts in experts.items():
        base = transformer.get_submodule(path)
        device = next(base.parameters()).device
        # The base's precision, as in peft's plain LoRA; a lower one would route tokens differently.
        tensors = (parts.down_ErI, parts.up_EOr, parts.route_EI)
        dtype = transformer.dtype if transformer.dtype.itemsize > 1 else parts.route_EI.dtype
        down_ErI, up_EOr, route_EI = (tensor.to(device, dtype) for tensor in tensors)
        layers[path] = MoELinear(base, name, down_ErI, up_EOr, route_EI, options)
    if plain:
        adapters.install(transformer, plain, name, about)
    # After the plain LoRA, whose loader looks for linear layers.
    handle = Experts(transformer, layers, name, bool(plain))
    for parameter in handle.parameters():
        parameter.requires_grad_(False)
    return handle


def load_moe(transformer: Transformer, path: Path, name: str) -> None:
    """Load a LoRA-MoE or a plain LoRA from a file onto a transformer under a name.

    Raises:
        EditkitError: where the file is missing or does not fit.
    """
    state, _ = adapters.read_adapter(path)
    if moe_file.has_experts(state):
        inject(transformer, path, name=name)
    else:
        adapters.load_adapter(transformer, path, name)
