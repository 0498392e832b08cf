"""LoRA updates on every linear layer, and how two are compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from backbones.lora import fused_modules
from backbones.lora.low_rank import LowRankUpdate

RANK = 4

State = dict[str, Tensor]

Updates = dict[str, LowRankUpdate]


def drawn(flux: nn.Module, alpha: float = RANK, dtype: torch.dtype = torch.float32) -> Updates:
    """A LoRA on every linear layer."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: LowRankUpdate(
            down_rI=torch.randn(RANK, module.in_features, generator=generator).to(dtype),
            up_Or=torch.randn(module.out_features, RANK, generator=generator).to(dtype) / 10,
            alpha=alpha,
        )
        for name, module in flux.named_modules()
        if isinstance(module, nn.Linear)
    }


def shared(updates: Updates) -> Updates:
    """The same, but with one down matrix wherever the native naming fuses."""
    result = dict(updates)
    for parts in fused_modules.module_map(1, 2).values():
        for part in parts[1:]:
            down_rI = updates[parts[0]].down_rI.clone()
            result[part] = LowRankUpdate(
                down_rI=down_rI, up_Or=updates[part].up_Or, alpha=updates[part].alpha
            )
    return result


def uneven(updates: Updates) -> Updates:
    """Some parts only, other ranks and other scales."""
    result = {}
    for number, (name, update) in enumerate(updates.items()):
        rank = 1 + number % RANK
        if number % 5:
            result[name] = LowRankUpdate(
                down_rI=update.down_rI[:rank], up_Or=update.up_Or[:, :rank].contiguous(), alpha=1 + number % 3
            )
    return result


def deltas(updates: Updates) -> State:
    """What a LoRA adds to each weight."""
    return {name: u.scale * (u.up_Or.double() @ u.down_rI.double()) for name, u in updates.items()}


def close(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.shape == other[name].shape, name
        assert (tensor - other[name]).abs().max() <= 1e-6 * other[name].abs().max(), name


def identical(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


SHAPES: dict[str, Callable[[Updates], Updates]] = {"own": dict, "shared": shared, "uneven": uneven}
