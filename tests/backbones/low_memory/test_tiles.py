"""Behaviour: the autoencoder takes as many pixels at once as a preset allows."""

from __future__ import annotations

from dataclasses import replace

import torch

import editkit
from backbones import low_memory
from backbones.specs import Family
from tests.backbones.low_memory.small_family import (
    SOURCE,
    editor,
)


def test_previews_are_decoded_in_parts(family: Family, plain: editkit.Editor) -> None:
    low = editor(family, low_memory="24g")
    low.backbone.placement.preset = replace(low_memory.PRESETS["24g"], pixels=2 * 64 * 64)
    batches: list[int] = []
    low.backbone.vae.decoder.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    search = {"seeds": 5, "preview_steps": 1}
    found = [each.edit(SOURCE, "make it blue", search=search).image for each in (low, plain)]
    assert batches == [2, 2, 1, 1]
    assert found[0] == found[1]


def test_large_pictures_go_tile_by_tile(family: Family, plain: editkit.Editor) -> None:
    low = editor(family, low_memory="24g")
    low.backbone.placement.preset = replace(low_memory.PRESETS["24g"], pixels=128 * 128)
    tokens = torch.randn(1, (256 // 16) * (128 // 16), 64, generator=torch.Generator().manual_seed(0))
    whole = plain.backbone.decode(tokens, 256, 128)
    shapes: list[int] = []
    low.backbone.vae.decoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-1]))
    tiled = low.backbone.decode(tokens, 256, 128)
    assert len(shapes) > 1
    assert max(shapes) == 128 // 8
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.05
    shapes.clear()
    assert torch.equal(
        low.backbone.decode(tokens[:, :64], 128, 128), plain.backbone.decode(tokens[:, :64], 128, 128)
    )
    assert shapes == [128 // 8]
