"""The adapter that an edit uses, and editors that share a backbone."""

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
from editkit.errors import NoAdapterError
from methods.icedit import METHOD, moe
from methods.icedit.config import ADAPTERS
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear
from methods.icedit.moe_options import MoEOptions
from tests.pictures import difference, image
from tests.released_adapters import EXPERTS, RANK, released


def test_through_the_editor(random_flux: Flux, tmp_path: Path) -> None:
    """A LoRA-MoE loads, scales and switches off like any adapter, and a recipe names it."""
    transformer = random_flux.transformer("fill")
    save_file(released(transformer, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    editor, picture = editkit.Editor(random_flux), image(64, 64)

    def edit() -> editkit.EditResult:
        return editor.edit(picture, "make the red circle blue", "icedit", steps=2)

    base = edit()
    name = editor.load_adapter(tmp_path / "moe.safetensors", "icedit")
    try:
        whole = edit()
        assert difference(whole.image, base.image) > 5
        editor.use_adapters([], method="icedit")
        assert difference(edit().image, base.image) == 0
        editor.use_adapters([name], [0.5], method="icedit")
        assert difference(edit().image, base.image) > 0
        assert difference(edit().image, whole.image) > 0
    finally:
        layers = {n: m for n, m in transformer.named_modules() if isinstance(m, MoELinear)}
        Experts(transformer, layers, name, plain=True).eject()


def test_it_needs_a_picture_and_takes_no_references(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    for given, sentence in (
        ({"image": None}, "none was given"),
        ({"image": image(64, 64), "references": [image(64, 64)]}, "takes no references"),
    ):
        with pytest.raises(editkit.EditkitError, match=sentence):
            editor.edit(instruction="make it red", method="icedit", **given)


def test_a_method_uses_its_own_adapter(adapted: editkit.Editor, random_flux: Flux) -> None:
    """Unasked, until it is told to go without."""
    picture = image(64, 64)
    bare = editkit.Editor(random_flux).edit(picture, "make it blue", "icedit", steps=2)
    own = adapted.edit(picture, "make it blue", "icedit", steps=2)
    assert difference(own.image, bare.image) > 5
    ((name, scale),) = adapters.active(random_flux.transformer("fill")).items()
    assert name.startswith("moe-")
    assert scale == 1
    again = adapted.edit(picture, "make it blue", "icedit", steps=2)
    assert difference(own.image, again.image) == 0
    adapted.use_adapters([], method="icedit")
    assert difference(adapted.edit(picture, "make it blue", "icedit", steps=2).image, bare.image) == 0


def test_which_adapter_is_a_methods_own() -> None:
    def chosen(backbone: str | None, **options: Any) -> str | None:
        request = editkit.EditRequest(image=None, instruction="x")
        return METHOD.adapter(config.build(METHOD.config, options), backbone, request)

    assert chosen("tiny") == ADAPTERS["tiny"]["moe"]
    assert chosen("tiny", adapter=None) is None
    assert chosen("tiny", framework="text") is None
    assert chosen("tiny", framework="text", adapter=None) is None
    with pytest.raises(editkit.EditkitError, match="adapter=moe needs framework=inpainting"):
        chosen("tiny", framework="text", adapter="moe")
    assert chosen("flux1-dev") == "RiverZ/normal-lora"
    with pytest.raises(NoAdapterError, match="no adapter for this backbone"):
        chosen(None)
    assert chosen(None, adapter="mine.safetensors") == "mine.safetensors"
    assert chosen("tiny", adapter="lora") == ADAPTERS["tiny"]["lora"]
    with pytest.raises(editkit.EditkitError, match=r"adapter lo is neither one for tiny \(moe, lora\) nor"):
        chosen("tiny", adapter="lo")
    with pytest.raises(editkit.EditkitError, match=r"for flux1-dev \(lora, moe\)"):
        chosen("flux1-dev", adapter="mo")


def alive(transformer: FluxTransformer2DModel, **options: Any) -> Experts:
    """Fresh experts, and a fresh plain LoRA if any, that do something."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, **options))
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if parameter.requires_grad and ("up_EOr" in name or "lora_B" in name):
                parameter.normal_(std=0.2)
    return handle


PLACEMENTS = {
    "experts alone": {"plain": ()},
    "the paper's": {"targets": ("attn.to_out.0",)},
    "the released": {},
}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placements_through_a_file(
    bare: FluxTransformer2DModel, random_flux: Flux, forward: Any, tmp_path: Path, placement: str
) -> None:
    """What is attached, saved and used by an editor gives the same, and comes off again."""
    base = forward(bare)
    handle = alive(bare, **PLACEMENTS[placement])
    updated = forward(bare)
    handle.save(tmp_path)
    handle.eject()
    assert torch.equal(forward(bare), base)
    editor = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path)}})
    editor.edit(image(64, 64), "make it blue", "icedit", steps=1)
    assert torch.allclose(forward(bare), updated, atol=1e-5)
    assert not torch.allclose(updated, base, atol=1e-2)
    editor.use_adapters([], method="icedit")
    assert torch.equal(forward(bare), base)


def test_editors_that_share_a_backbone(
    bare: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path
) -> None:
    """Each edits with its own adapters, whoever edited before."""
    save_file(released(bare, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    adapted = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})
    plain = editkit.Editor(random_flux, {"icedit": {"adapter": None}})
    twin = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})
    pictures = [
        editor.edit(image(64, 64), "make it blue", "icedit", steps=1).image
        for editor in (plain, adapted, plain, adapted, twin)
    ]
    assert difference(pictures[0], pictures[1]) > 5
    assert difference(pictures[0], pictures[2]) == 0
    assert difference(pictures[1], pictures[3]) == 0
    assert difference(pictures[1], pictures[4]) == 0


def test_text_to_image_uses_no_adapter(random_flux: Flux, tmp_path: Path) -> None:
    """Not even where it shares its transformer with a method that does."""
    transformer = random_flux.transformer("kontext")
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})

    def edit() -> Any:
        return editor.edit(image(64, 64), "make it blue", "icedit", steps=1).image

    before = edit()
    adapters.attach(transformer, adapters.LoraOptions(rank=2), "style")
    try:
        with torch.no_grad():
            for layer in adapters.layers(transformer):
                layer.lora_B["style"].weight.normal_()
        editor.use_adapters(["style"], method="kontext")
        assert difference(edit(), before) == 0
    finally:
        adapters.eject(transformer, "style")


WRONG_ADAPTERS = {
    "a file that is not there": "mine.safetensors",
    "a path that is not there": "some/folder/with/mine.safetensors",
    "a name of another backbone": "moe",
}


@pytest.mark.parametrize("case", WRONG_ADAPTERS)
def test_adapters_that_are_not_there(random_flux: Flux, case: str) -> None:
    editor = editkit.Editor(random_flux, {"icedit": {"adapter": WRONG_ADAPTERS[case]}})
    with pytest.raises(editkit.EditkitError, match="an existing file or folder nor a Hub id") as caught:
        editor.edit(image(64, 64), "make it blue", "icedit", steps=1)
    assert str(caught.value).endswith(".")
