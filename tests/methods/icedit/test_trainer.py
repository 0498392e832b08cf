"""Training of experts from a file on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

import editkit
from backbones.flux import Flux
from editkit import adapters, config
from methods.icedit import METHOD, moe
from methods.icedit.moe_layer import MoELinear
from methods.icedit.moe_options import MoEOptions
from tests.released_adapters import RANK, released


def trainer(random_flux: Flux, **options: Any) -> Any:
    return METHOD.trainer(random_flux, config.build(METHOD.config, options))


def saved(transformer: FluxTransformer2DModel, folder: Path, **options: Any) -> Path:
    """A file of fresh experts, whose transformer is bare again."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, **options))
    path = handle.save(folder)
    handle.eject()
    return path


CONTINUED = {
    "a released file, by the config": (
        None,
        {"router": "released", "balance": 0.03, "noise": 0.5},
        0.03,
        0.5,
    ),
    "the file's own": ({"balance": 0.03, "noise": 0.5}, None, 0.03, 0.5),
    "the config's before the file's": ({"balance": 0.03}, {"balance": 0.1}, 0.1, 0.0),
}


@pytest.mark.parametrize("case", CONTINUED)
def test_experts_go_on_training(
    transformer: FluxTransformer2DModel,
    file: Path,
    random_flux: Flux,
    forward: Any,
    tmp_path: Path,
    case: str,
) -> None:
    held, asked, balance, noise = CONTINUED[case]
    path = file if held is None else saved(transformer, tmp_path, **held)
    going_on = trainer(random_flux, moe=asked and asked | {"rank": RANK})
    going_on.load(transformer, path)
    layers = [module for module in transformer.modules() if isinstance(module, MoELinear)]
    assert {(layer.options.balance, layer.options.noise) for layer in layers} == {(balance, noise)}
    transformer.train()
    forward(transformer)
    mean = torch.stack([layer.balance for layer in layers]).mean()
    assert going_on.penalty().item() == pytest.approx((balance * mean).item())
    assert going_on.figures() == {"balance": pytest.approx(mean.item(), abs=1e-4)}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"router": "paper"}, "moe.router is paper, but released"),
        ({"experts": 2}, "moe.experts is 2, but 4"),
        ({"rank": 8}, "moe.rank is 8, but 3"),
        ({"top_k": 2}, "moe.top_k is 2, but 1"),
        ({"alpha": 8.0}, "moe.alpha does not fit"),
        (
            {"targets": ["attn.to_out.0"]},
            "moe.targets must be the layers with experts .*: proj_out, ff.net.2",
        ),
    ],
)
def test_options_that_contradict_the_file(
    transformer: FluxTransformer2DModel, file: Path, random_flux: Flux, asked: dict[str, Any], sentence: str
) -> None:
    options = {"rank": RANK, "router": "released"} | asked
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        trainer(random_flux, moe=options).load(transformer, file)
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


def test_experts_are_not_asked_of_a_plain_file(
    transformer: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path
) -> None:
    save_file(released(transformer, RANK), tmp_path / "plain.safetensors")
    with pytest.raises(editkit.EditkitError, match="has no experts; leave options"):
        trainer(random_flux, moe={"rank": RANK}).load(transformer, tmp_path / "plain.safetensors")
