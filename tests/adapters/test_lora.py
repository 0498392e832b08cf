"""Laws of adapters: on, off, side by side, saved and loaded."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from backbones import packing
from backbones.flux import Flux
from editkit import EditkitError, adapters


@pytest.fixture
def transformer(random_flux: Flux) -> Any:
    """A transformer of its own to change."""
    return copy.deepcopy(random_flux.transformer("kontext"))


@torch.no_grad()
def output(transformer: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return transformer(
        hidden_states=draw(1, 12, 64),
        encoder_hidden_states=draw(1, 8, transformer.config.joint_attention_dim),
        pooled_projections=draw(1, transformer.config.pooled_projection_dim),
        timestep=torch.tensor([0.6]),
        guidance=torch.tensor([1.5]),
        txt_ids=torch.zeros(8, 3),
        img_ids=packing.grid_ids(64, 48),
        return_dict=False,
    )[0]


@torch.no_grad()
def trained(transformer: Any, name: str, seed: int = 0) -> Any:
    """Random numbers where training would have put its own."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in transformer.named_parameters():
        if f"lora_B.{name}" in key:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return transformer


def test_an_adapter_changes_nothing_until_trained(transformer: Any) -> None:
    before = output(transformer)
    adapters.attach(transformer, adapters.LoraOptions(rank=4))
    assert torch.equal(output(transformer), before)
    names = [name for name, parameter in transformer.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert not torch.allclose(output(trained(transformer, "default")), before, atol=0.1)


def test_adapter_targets(transformer: Any) -> None:
    adapters.attach(transformer, adapters.LoraOptions(rank=2, targets=("to_q",)))
    names = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert len(names) == 2 * 3
    with pytest.raises(EditkitError, match="attached"):
        adapters.attach(transformer, adapters.LoraOptions(targets=("nothing",)), "other")


@pytest.mark.parametrize("alpha", [None, 1.0, 12.0])
def test_adapter_round_trip(random_flux: Flux, transformer: Any, tmp_path: Path, alpha: float | None) -> None:
    before = output(transformer)
    options = adapters.LoraOptions(rank=4, alpha=alpha)
    adapters.attach(transformer, options)
    path = adapters.save(trained(transformer, "default"), tmp_path)
    expected = output(transformer)
    with safe_open(path, framework="pt") as opened:
        assert all(key.startswith("transformer.") for key in opened.keys())  # noqa: SIM118  (no mapping)
    other = copy.deepcopy(random_flux.transformer("kontext"))
    for number, given in enumerate((path, tmp_path)):
        adapters.load_adapter(other, given, f"copy{number}")
        adapters.enable(other, [f"copy{number}"])
        assert torch.equal(output(other), expected)
    adapters.enable(other, [])
    assert torch.equal(output(other), before)
    adapters.enable(other, ["copy0"])
    assert torch.equal(output(other), expected)
    adapters.enable(other, ["copy0"], [0.5])
    half = output(other)
    assert not torch.allclose(half, expected, atol=0.01)
    assert not torch.allclose(half, before, atol=0.01)
    adapters.enable(other, ["copy0"])
    assert torch.equal(output(other), expected)
    adapters.enable(other, ["copy0", "copy1"], [0.25, 0.25])
    assert torch.allclose(output(other), half, atol=1e-4)


def test_two_adapters_live_side_by_side(transformer: Any) -> None:
    outputs = [output(transformer)]
    for number in range(2):
        name = f"lora{number}"
        adapters.attach(transformer, adapters.LoraOptions(rank=2), name)
        trained(transformer, name, number)
    for name in ("lora0", "lora1"):
        adapters.enable(transformer, [name])
        outputs.append(output(transformer))
    adapters.enable(transformer, ["lora0", "lora1"])
    outputs.append(output(transformer))
    for one, other in itertools.combinations(outputs, 2):
        assert not torch.allclose(one, other, atol=0.01)
    adapters.eject(transformer, "lora1")
    adapters.enable(transformer, ["lora0"])
    assert torch.equal(output(transformer), outputs[1])


def test_eject_leaves_the_base_as_it_was(transformer: Any) -> None:
    before, state = output(transformer), copy.deepcopy(transformer.state_dict())
    for name in ("one", "two"):
        adapters.attach(transformer, adapters.LoraOptions(rank=2), name)
        trained(transformer, name)
    for name in ("one", "two"):
        adapters.eject(transformer, name)
    after = transformer.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert torch.equal(output(transformer), before)
    adapters.enable(transformer, [])
    adapters.attach(transformer, adapters.LoraOptions(rank=2), "one")
    assert torch.equal(output(transformer), before)


def test_adapters_that_do_not_fit(transformer: Any, tmp_path: Path) -> None:
    state = {key: tensor.clone() for key, tensor in transformer.state_dict().items()}
    with pytest.raises(EditkitError, match="exists"):
        adapters.load_adapter(transformer, tmp_path / "nothing.safetensors", "one")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(EditkitError, match="cannot be read"):
        adapters.load_adapter(transformer, tmp_path / "broken.safetensors", "one")
    assert transformer.state_dict().keys() == state.keys()


def test_dropout_is_for_training_alone(random_flux: Flux, transformer: Any, tmp_path: Path) -> None:
    adapters.attach(transformer, adapters.LoraOptions(rank=4, dropout=0.5))
    path = adapters.save(trained(transformer, "default"), tmp_path)
    expected = output(transformer.eval())
    other = copy.deepcopy(random_flux.transformer("kontext"))
    adapters.load_adapter(other, path, "copy")
    assert torch.equal(output(other), expected)
    assert not torch.equal(output(other.train()), output(other))
    adapters.load_adapter(other, path, "next")
    assert other.training
    assert not torch.equal(output(other), output(other))
