"""Effects of adapters on each layer of a transformer, and spellings of a LoRA's file.

A layer is measured by feeding it a unit matrix, so it does not matter which kind of layer it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.lora import dialect_writer
from editkit import adapters
from tests.backbones.lora.updates import State, Updates

Spell = Callable[[Updates], State]
DOWN_UP = (("lora_A", "lora_down"), ("lora_B", "lora_up"))


def fresh(flux: FluxTransformer2DModel) -> FluxTransformer2DModel:
    """The same transformer once more."""
    copy: FluxTransformer2DModel = FluxTransformer2DModel.from_config(flux.config).eval()
    copy.load_state_dict(flux.state_dict())
    return copy


def loaded(flux: FluxTransformer2DModel, state: State, folder: Path) -> FluxTransformer2DModel:
    """The same transformer with an adapter called mine."""
    save_file(state, folder / "x.safetensors")
    adapted = fresh(flux)
    adapters.load_adapter(adapted, folder / "x.safetensors", "mine")
    return adapted


def linears(flux: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers by name."""
    return {name: module for name, module in flux.named_modules() if isinstance(module, nn.Linear)}


def changes(flux: nn.Module, adapted: nn.Module) -> State:
    """What each layer adds to the base's (O, I + 1): to its matrix and, at the end, to its bias."""
    found = {}
    with torch.no_grad():
        for name, base in linears(flux).items():
            layer = adapted.get_submodule(name)
            inputs = torch.cat([torch.eye(base.in_features), torch.zeros(1, base.in_features)])
            difference = layer(inputs) - base(inputs)
            found[name] = torch.cat([difference[:-1] - difference[-1:], difference[-1:]]).T
    return found


def wanted(updates: Updates, scale: float = 1) -> State:
    """What each layer must add (O, I + 1)."""
    return {
        name: torch.cat([scale * u.scale * u.up_Or @ u.down_rI, torch.zeros(len(u.up_Or), 1)], dim=1)
        for name, u in updates.items()
    }


def agree(found: State, expected: State) -> None:
    """Assert that changes are alike; a layer that is not expected to change must not."""
    assert expected.keys() <= found.keys()
    for name, change in found.items():
        want = expected.get(name, torch.zeros_like(change))
        assert (change - want).abs().max() <= 1e-3 * want.abs().max() + 1e-5, name


def renamed(prefix: str, *replacements: tuple[str, str]) -> Spell:
    """diffusers' names behind a prefix, with other words in them."""

    def spell(updates: Updates) -> State:
        state = {}
        for name, update in updates.items():
            state |= {f"{name}.lora_A.weight": update.down_rI, f"{name}.lora_B.weight": update.up_Or}
        for old, new in replacements:
            state = {key.replace(old, new): tensor for key, tensor in state.items()}
        return {prefix + key: tensor for key, tensor in state.items()}

    return spell


def flat(prefix: str) -> Spell:
    """diffusers' names joined by `_`, with alpha."""

    def spell(updates: Updates) -> State:
        state: State = {}
        for name, update in updates.items():
            stem = prefix + name.replace(".", "_")
            state |= {f"{stem}.lora_down.weight": update.down_rI, f"{stem}.lora_up.weight": update.up_Or}
            state |= {f"{stem}.alpha": torch.tensor(update.alpha)}
        return state

    return spell


def written(dialect: str, prefix: str = "") -> Spell:
    """A dialect that editkit writes, behind a prefix."""

    def spell(updates: Updates) -> State:
        state, _ = dialect_writer.to_dialect(updates, dialect)
        return {prefix + key: tensor for key, tensor in state.items()}

    return spell


def draw(*shape: int) -> Tensor:
    """Small random values, the same ones for each shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) / 4
