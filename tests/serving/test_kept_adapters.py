"""Adapters on one device: the last ones stay loaded, the others leave the backbone as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import editkit
from backbones.flux import Flux
from editkit import EditRequest
from editkit.adapters import layers
from editkit.inference import inputs
from editkit.serving.lane import KEPT, Lane
from editkit.serving.work import Job
from tests.pictures import image

NAMES = tuple(f"adapter{place}" for place in range(KEPT + 2))


@pytest.fixture
def lane(random_flux: Flux, tmp_path: Path) -> Iterator[Lane]:
    """A device and a folder with more adapters than it keeps."""
    for place, name in enumerate(NAMES):
        _write(tmp_path / f"{name}.safetensors", random_flux, place)
    made = Lane(editkit.Editor(random_flux), tmp_path)
    yield made
    for each in made._adapted.values():
        each.unload()


def _write(file: Path, flux: Flux, seed: int) -> None:
    layer = flux.transformer("kontext").proj_out
    layer = getattr(layer, "base_layer", layer)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "transformer.proj_out.lora_A.weight": torch.randn(2, layer.in_features, generator=generator),
        "transformer.proj_out.lora_B.weight": torch.randn(layer.out_features, 2, generator=generator),
    }
    save_file(tensors, file)


def made(lane: Lane, adapter: str | None, method: str = "kontext") -> bytes:
    """The picture of an edit."""
    request = EditRequest(image=image(24, 24), instruction="make it blue", method=method, seed=1, steps=1)
    (result,) = lane.edit([Job(prepared=inputs.prepare(request), adapter=adapter)])
    if isinstance(result, Exception):
        raise result
    assert isinstance(result.image, Image.Image), result.error
    return result.image.tobytes()


def loaded(lane: Lane, role: str = "kontext") -> set[str]:
    """Names of the adapters on a transformer."""
    transformer = lane.editor.backbone.transformer(role)
    return {name for layer in layers(transformer) for name in layer.r}


def test_the_last_adapters_stay_and_the_others_leave(lane: Lane) -> None:
    base, before = made(lane, None), loaded(lane)
    first = {name: made(lane, name) for name in NAMES}
    assert len({base, *first.values()}) == len(NAMES) + 1
    assert loaded(lane) - before == set(NAMES[-KEPT:])
    made(lane, NAMES[-KEPT])  # asked for again, it is no longer the oldest
    assert made(lane, NAMES[0]) == first[NAMES[0]]
    assert loaded(lane) - before == {NAMES[0], NAMES[-KEPT], *NAMES[-KEPT + 2 :]}
    assert made(lane, None) == base


def test_an_adapter_of_several_methods_leaves_all_of_them(lane: Lane) -> None:
    found = {method: made(lane, NAMES[0], method) for method in ("kontext", "icedit")}
    for name in NAMES[1 : KEPT + 1]:
        made(lane, name)
    roles = {method: lane.editor.method(method)[0].role for method in found}
    for role in roles.values():
        assert not {each for each in loaded(lane, role) if each.startswith(NAMES[0])}
    assert {method: made(lane, NAMES[0], method) for method in found} == found


def test_adapters_of_a_family_that_edits_nothing_leave_too(
    random_text_pipeline: Path, lane: Lane, tmp_path: Path
) -> None:
    words = Lane(editkit.load(str(random_text_pipeline), "cpu"), tmp_path)
    words.warm("kontext")
    before = loaded(words, "text")
    request = EditRequest(image=None, instruction="a circle", size=(32, 32), seed=1, steps=1)
    for name in NAMES:
        (result,) = words.edit([Job(prepared=inputs.prepare(request), adapter=name)])
        assert not isinstance(result, Exception), result
        assert result.image is not None, result.error
    assert loaded(words, "text") - before == set(NAMES[-KEPT:])


def test_a_file_that_changed_takes_the_place_of_the_old_one(lane: Lane, tmp_path: Path) -> None:
    old, before = made(lane, NAMES[0]), loaded(lane)
    assert isinstance(lane.editor.backbone, Flux)
    _write(tmp_path / f"{NAMES[0]}.safetensors", lane.editor.backbone, 100)
    (tmp_path / f"{NAMES[0]}.safetensors").touch()
    assert made(lane, NAMES[0]) != old
    assert loaded(lane) == before
