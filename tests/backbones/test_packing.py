"""Laws of packing: latents to tokens and back, and where a token stands."""

from __future__ import annotations

import pytest
import torch

from backbones import packing
from editkit.imaging import canvas


@pytest.mark.parametrize(("width", "height"), [(16, 16), (128, 128), (160, 96), (16, 512)])
def test_pack_and_unpack_are_inverse(width: int, height: int) -> None:
    latents_BChw = torch.randn(2, 16, height // 8, width // 8)
    tokens_BLC = packing.pack(latents_BChw)
    assert tokens_BLC.shape == (2, width * height // 256, 64)
    assert torch.equal(packing.unpack(tokens_BLC, width, height), latents_BChw)
    assert torch.equal(packing.pack(packing.unpack(tokens_BLC, width, height)), tokens_BLC)


def test_pack_distributes_over_channel_joins() -> None:
    one, other = torch.randn(2, 16, 8, 12), torch.randn(2, 5, 8, 12)
    joined = packing.pack(torch.cat((one, other), dim=1))
    assert torch.equal(joined, torch.cat((packing.pack(one), packing.pack(other)), dim=-1))


def test_a_token_stands_where_its_pixels_are() -> None:
    latents_BChw = torch.zeros(1, 16, 8, 12)
    latents_BChw[0, 3, 5, 10] = 1
    ((_, token, _),) = packing.pack(latents_BChw).nonzero().tolist()
    assert packing.grid_ids(96, 64)[token].tolist() == [0, 5 // 2, 10 // 2]
    assert packing.grid_ids(96, 64, image=2, left=32, top=16)[token].tolist() == [2, 5 // 2 + 1, 10 // 2 + 2]


def test_positions_of_large_canvases_are_exact() -> None:
    ids_L3 = packing.grid_ids(canvas.MAX_SIDE, 16, image=1)
    assert ids_L3[:, 2].unique().numel() == canvas.MAX_SIDE // 16
