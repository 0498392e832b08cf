"""ACE++'s full model, with the content under the mask on channels of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors.torch import save_file

import editkit
from backbones.conversion import state_dict
from backbones.flux import Flux
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from backbones.specs import FAMILIES, PARAMETERS, PUBLISHED_SHAPE
from tests.methods.aceplus.plans import conditioner, inputs
from tests.pictures import difference, image
from tests.random_weights import transformer_config

FULL_SIZE = PUBLISHED_SHAPE | {"in_channels": 448, "out_channels": 64, "guidance_embeds": True}


def test_full_model_has_the_released_tensors() -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(FULL_SIZE)
    native = state_dict.diffusers_to_native(transformer.state_dict())
    assert len(native) == 780
    assert tuple(native["img_in.weight"].shape) == (3072, 448)
    back = state_dict.native_to_diffusers(native)
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in transformer.state_dict().items()}
    role = FAMILIES["flux1-dev"].roles["ace"]
    assert (role.file, role.in_channels) == ("ali-vilab/ACE_Plus/ace_plus_fft.safetensors", 448)
    # One transformer, not Fill's as well.
    assert role.disk_gb == pytest.approx(2e-9 * sum(PARAMETERS.values()), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_full_model_from_a_file(dtype: torch.dtype, tmp_path: Path) -> None:
    made = FluxTransformer2DModel.from_config(transformer_config(448))
    native = state_dict.diffusers_to_native(made.state_dict())
    path = tmp_path / "ace_plus_fft.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in native.items()}, path)
    options = LoadOptions(transformer={"ace": str(path)}, axes=(8, 12, 12))
    loaded = load_transformer(options, "ace", Path, torch.float32)
    assert loaded.config.in_channels == 448
    for name, tensor in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())


@torch.no_grad()
def test_widened_fill_is_fill_where_nothing_is_to_change(random_flux: Flux) -> None:
    """The mask's columns move from 128 to 192, so the network reads the same before it has learnt."""
    from backbones.widening import widen_transformer

    fill = random_flux.transformer("fill")
    wide = widen_transformer(fill, 448)
    weight, base = wide.x_embedder.weight, fill.x_embedder.weight
    assert torch.equal(weight[:, :128], base[:, :128])
    assert (weight[:, 128:192] == 0).all()
    assert torch.equal(weight[:, 192:], base[:, 128:])
    given = inputs(mask=True, task="repainting")
    plans = [
        conditioner(random_flux, encoding="mode", **options).plan(given)
        for options in ({}, {"model": "full"})
    ]
    noise = random_flux.noise(plans[0].canvas, [torch.Generator().manual_seed(0)])
    for plan, transformer in zip(plans, (fill, wide), strict=True):
        hidden = torch.cat((noise, plan.conditioning.channel_BLC), dim=-1)
        embedded = transformer.x_embedder(hidden)
        if plan is plans[0]:
            first = embedded
    assert torch.allclose(embedded, first, atol=1e-5)


def test_full_model_edits(random_flux: Flux) -> None:
    editors = [
        editkit.Editor(random_flux, {"aceplus": {"model": "full", "change": change}})
        for change in ("split", "whole", "none")
    ]
    picture, mask = image(64, 64), Image.new("L", (64, 64), 255)
    found = [e.edit(picture, "make it red", "aceplus", steps=2, mask=mask).image for e in editors]
    assert difference(found[0], found[1]) > 5
    assert difference(found[0], found[2]) > 5


def test_a_saved_full_model_is_known_by_its_channels(random_flux: Flux, tmp_path: Path) -> None:
    random_flux.save("ace", tmp_path / "ace")
    editor = editkit.load(str(tmp_path / "ace"), options={"aceplus": {"model": "full"}})
    assert set(editor.backbone.roles) == {"ace"}
    mine = editkit.Editor(random_flux, {"aceplus": {"model": "full"}})
    pictures = [
        each.edit(image(64, 64), "make it red", "aceplus", steps=2, guidance=2.0).image
        for each in (editor, mine)
    ]
    assert difference(*pictures) <= 1
