"""Behaviour: `low_memory=auto` goes by the device's memory and by the bytes of the weights in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones import low_memory
from backbones.load_options import LoadOptions
from backbones.low_memory import Preset, WeightBytes
from backbones.specs import FAMILIES, Family
from backbones.weight_sizes import family_bytes, role_bytes
from backbones.weight_tracker import tensors, weight_bytes
from editkit import machine
from editkit.errors import EditkitError
from tests.backbones.low_memory.small_family import editor, edits

PUBLISHED = low_memory.published_weights()


def card(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """A machine with one GPU of this memory."""
    found = machine.FoundDevice(name="cuda", model="a card", memory=round(size), free=0)
    monkeypatch.setattr(machine, "devices", lambda: [found])


def auto(*roles: WeightBytes) -> Preset | None:
    return low_memory.choose_preset("auto", "cuda", lambda: roles)


@pytest.mark.parametrize(
    ("gigabytes", "roles", "name"),
    [(36, 1, "24g"), (37, 1, None), (60, 2, "48g"), (61, 2, None), (16, 4, "16g")],
)
def test_it_goes_by_memory(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, roles: int, name: str | None
) -> None:
    card(monkeypatch, gigabytes * 1e9)
    assert auto(*[PUBLISHED] * roles) == (None if name is None else low_memory.PRESETS[name])


def test_largest_presets() -> None:
    chosen = {memory: low_memory.largest_preset(memory * 1e9) for memory in (12, 15.8, 23.5, 25.2, 47.6, 80)}
    assert chosen == {12: None, 15.8: "16g", 23.5: "24g", 25.2: "24g", 47.6: "48g", 80: "48g"}
    assert [low_memory.fits_without_preset(memory * 1e9) for memory in (80, 141)] == [False, True]


def test_a_small_card_takes_a_small_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 10e9)
    q4 = replace(PUBLISHED, transformer=6.7e9)
    assert auto(q4) == auto(PUBLISHED, q4) == replace(low_memory.PRESETS["16g"], weights=7e9)
    for roles, size in (([PUBLISHED], "23.8"), ([replace(q4, transformer=6.9e9)], "6.9")):
        words = rf"no preset for a transformer of {size} GB on the 10.0 GB of cuda; load a smaller file"
        with pytest.raises(EditkitError, match=words):
            auto(*roles)


def test_float32_leaves_packed_weights_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer in NF4 is on a card of 12 GB whole, whatever the precision of the rest."""
    options = LoadOptions(quantization={"load_in_4bit": True})
    half, full = (
        family_bytes(FAMILIES["flux1-dev"], options, dtype)[0] for dtype in (torch.bfloat16, torch.float32)
    )
    assert full.transformer == half.transformer == pytest.approx(6.7e9, rel=0.01)
    assert (full.encoders, full.vae) == (2 * half.encoders, 2 * half.vae)
    card(monkeypatch, 12e9)
    assert auto(full) == replace(low_memory.PRESETS["16g"], weights=9e9)


def test_a_folder_counts_as_it_is_loaded(family: Family) -> None:
    backbone = editor(family).backbone
    for name, role in family.roles.items():
        counted = role_bytes(name, role, LoadOptions(), torch.float32.itemsize)
        encoders = [*tensors(backbone.encoders.clip), *tensors(backbone.encoders.t5)]
        assert counted.transformer == pytest.approx(weight_bytes(tensors(backbone.transformer(name))), 0.01)
        assert counted.encoders == pytest.approx(weight_bytes(encoders), 0.02)  # it holds a tied matrix twice
        assert counted.vae == pytest.approx(weight_bytes(tensors(backbone.vae)), 0.02)
        given = LoadOptions(transformer=f"{role.source}/transformer", vae=Path(role.source) / "vae")
        replaced = role_bytes("kontext", family.roles["kontext"], given, torch.float32.itemsize)
        assert (replaced.transformer, replaced.vae) == (counted.transformer, counted.vae)


def test_a_folder_by_a_relative_path_counts_the_same(monkeypatch: pytest.MonkeyPatch, family: Family) -> None:
    role = family.roles["kontext"]
    monkeypatch.chdir(Path(role.source).parent)
    relative = replace(role, source=Path(role.source).name)
    assert role_bytes("kontext", relative, LoadOptions()) == role_bytes("kontext", role, LoadOptions())


def test_edits_below_the_smallest_preset(
    monkeypatch: pytest.MonkeyPatch, family: Family, pictures: list[tuple[str, bytes]]
) -> None:
    """The pictures are the same on a card that holds one transformer and no text encoders beside it."""
    sizes = family_bytes(family, LoadOptions(), torch.float32)
    bound = 1.03 * max(each.transformer + each.vae for each in sizes)  # adapters come on top
    assert bound < min(each.whole for each in sizes)
    card(monkeypatch, bound + low_memory.ROOM)
    monkeypatch.setitem(
        low_memory.PRESETS, "16g", replace(low_memory.PRESETS["16g"], weights=2 * bound, stream=False)
    )
    monkeypatch.setattr(low_memory, "PRESETS", {"16g": low_memory.PRESETS["16g"]})
    made = editor(family, low_memory="auto")
    assert made.backbone.placement.preset.weights == pytest.approx(bound)
    assert list(edits(made)) == pictures
    assert 0.9 * bound < made.backbone.placement.tracker.peak <= bound
