"""Law: weights on the device stay below a preset's limit, and pictures stay the same."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import editkit
from backbones import low_memory
from backbones.low_memory import Preset
from backbones.specs import Family
from backbones.weight_tracker import weight_bytes
from tests.backbones.low_memory.small_family import (
    INSTRUCTIONS,
    SOURCE,
    editor,
    edits,
    sizes,
)
from tests.pictures import photo


@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_all_methods_in_one_process_stay_below_the_limit(
    name: str,
    family: Family,
    plain: editkit.Editor,
    pictures: list[tuple[str, bytes]],
    scaled: dict[str, Preset],
) -> None:
    low, preset, about = editor(family, low_memory=name), scaled[name], sizes(plain.backbone)
    tracker = low.backbone.placement.tracker
    assert about.whole + 2 * about.transformer > preset.weights  # which editing without it would need

    def on_device(module: nn.Module, _: Any) -> None:
        held = {id(tensor) for tensor in tracker.tensors()}
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert all(id(tensor) in held for tensor in own if isinstance(tensor, nn.Parameter)), type(module)
        assert tracker.current <= preset.weights

    watch = torch.nn.modules.module.register_module_forward_pre_hook(on_device)
    try:
        assert list(edits(low)) == pictures
    finally:
        watch.remove()
    adapters = 0.1 * about.transformer
    assert 0 < tracker.peak <= min(preset.weights, low_memory.peak_bytes(preset, about) + adapters)
    assert len(low.backbone.transformers) == preset.transformers


def test_models_take_turns_where_not_all_fit(
    family: Family, plain: editkit.Editor, pictures: list[tuple[str, bytes]], scaled: dict[str, Preset]
) -> None:
    """A transformer that fits whole goes to the CPU while a prompt is encoded, by the bound alone."""
    about = sizes(plain.backbone)
    low = editor(family, low_memory="24g")
    bound = 1.1 * about.transformer
    placement = low.backbone.placement
    placement.preset = replace(scaled["24g"], weights=bound, offload_encoders=False)
    assert about.encoders + about.transformer > bound
    assert list(edits(low)) == pictures
    assert about.transformer <= placement.tracker.peak <= bound


def test_encoders_and_autoencoder_visit_layer_by_layer(
    family: Family, plain: editkit.Editor, pictures: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even they are larger than the bound."""
    about = sizes(plain.backbone)
    for bound, uses in ((0.6 * about.encoders, "everything"), (0.5 * about.vae, "the autoencoder")):
        preset = replace(low_memory.PRESETS["16g"], weights=bound, stream=False)
        monkeypatch.setattr(low_memory, "PRESETS", {"16g": preset})
        low = editor(family, low_memory="16g")
        if uses == "everything":
            assert list(edits(low)) == pictures
        else:
            pixels = photo(64, 64, 0)
            latents = plain.backbone.encode(pixels)
            assert torch.equal(low.backbone.encode(pixels), latents)
            assert torch.equal(low.backbone.decode(latents, 64, 64), plain.backbone.decode(latents, 64, 64))
        assert 0 < low.backbone.placement.tracker.peak <= bound


def test_quantized_weights_count_as_packed() -> None:
    """A tensor of two stands for torchao's, which hold bytes and scales and look like what they were."""
    packed, scales = torch.zeros(4, 8), torch.zeros(4, 8)
    assert weight_bytes([TwoTensor(packed, scales)]) == 2 * weight_bytes([packed])
    assert weight_bytes([packed, packed]) == 4 * 8 * 4


@pytest.mark.gpu
@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_the_tracker_tells_where_weights_are(name: str, family: Family, scaled: dict[str, Preset]) -> None:
    """On CUDA with streams: what the tracker holds is on the device, and all else that is loaded is not."""
    cuda = torch.device("cuda")
    scaled[name] = replace(scaled[name], stream=True)
    low = editor(family, cuda, low_memory=name)
    backbone = low.backbone
    wanted = list(edits(editor(family, cuda)))

    def where(*_: Any) -> None:
        held = {id(tensor) for tensor in backbone.placement.tracker.tensors()}
        loaded = [*backbone.transformers.values(), backbone.vae, backbone.encoders.clip, backbone.encoders.t5]
        for parameter in (each for model in loaded for each in model.parameters()):
            assert (parameter.device.type == "cuda") == (id(parameter) in held)

    watch = torch.nn.modules.module.register_module_forward_pre_hook(where)
    try:
        found = list(edits(low))
    finally:
        watch.remove()
    assert found == wanted
    assert 0 < backbone.placement.tracker.peak <= scaled[name].weights


def test_a_transformer_that_is_let_go_leaves_no_trace(family: Family, scaled: dict[str, Preset]) -> None:
    low = editor(family, low_memory="24g")
    low.edit(SOURCE, INSTRUCTIONS["icedit"], "icedit", steps=1)
    before = weakref.ref(low.backbone.transformer("fill"))
    low.edit(SOURCE, INSTRUCTIONS["kontext"], "kontext", steps=1)
    assert before() is None


def test_encoders_wait_as_soon_as_a_prompt_is_encoded(family: Family, scaled: dict[str, Preset]) -> None:
    for name, preset in scaled.items():
        backbone = editor(family, low_memory=name).backbone
        backbone.text(["make it blue"])
        held = {id(tensor) for tensor in backbone.placement.tracker.tensors()}
        waits = id(backbone.encoders.t5.shared.weight) not in held
        assert waits == preset.offload_encoders
