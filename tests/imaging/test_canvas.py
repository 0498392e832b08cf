"""Laws of the canvas: nothing moves, the exact size comes back, pixels outside a mask stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from backbones import specs
from editkit.imaging import canvas
from tests.pictures import photo

SIZES = (
    (1, 1),
    (1, 4000),
    (4000, 1),
    (7, 5),
    (16, 16),
    (17, 31),
    (128, 128),
    (129, 127),
    (640, 427),
    (1023, 777),
)

POLICIES: dict[str, dict[str, Any]] = {
    "own size": {},
    "area": {"area": 128 * 128},
    "tiny": {"preferred": ((128, 128),)},
    "kontext": {"preferred": specs.KONTEXT_SIZES},
    "size": {"size": (100, 50)},
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", SIZES)
def test_canvas_round_trip(size: tuple[int, int], policy: str) -> None:
    width, height = size
    planned = canvas.fit(size, **POLICIES[policy])
    content = planned.content
    assert planned.width % 16 == planned.height % 16 == 0
    assert planned.original == size
    assert content.left >= 0
    assert content.top >= 0
    assert content.left + content.width <= planned.answer.width
    assert content.top + content.height <= planned.answer.height
    pixels_BCHW = photo(width, height)
    placed_BCHW = canvas.place(pixels_BCHW, planned)
    assert placed_BCHW.shape == (1, 3, planned.height, planned.width)
    assert placed_BCHW.min() >= 0
    assert placed_BCHW.max() <= 1
    restored_BCHW = canvas.restore(placed_BCHW, planned)
    assert restored_BCHW.shape == pixels_BCHW.shape
    if (content.width, content.height) == size:
        assert torch.equal(restored_BCHW, pixels_BCHW)
    else:
        # Uniform but for whole pixels: each side is within half a pixel of one common scale.
        scale = min(planned.answer.width / width, planned.answer.height / height)
        scale = min(scale, 1.0) if policy == "area" else scale
        for side, scaled in ((width, content.width), (height, content.height)):
            assert scaled == 1 or abs(scaled - side * scale) <= 0.5


def test_own_size_is_never_scaled() -> None:
    for size in SIZES:
        planned = canvas.fit(size)
        assert (planned.content.width, planned.content.height) == size


@pytest.mark.parametrize("size", SIZES)
def test_area_is_kept_to(size: tuple[int, int]) -> None:
    area = 128 * 128
    planned = canvas.fit(size, area=area)
    # One row and one column of the grid beyond it at most, since sides are rounded up.
    assert (planned.width - 16) * (planned.height - 16) <= area
    assert planned.content.width <= size[0]
    assert planned.content.height <= size[1]
    small = canvas.fit((96, 64), area=area)
    assert (small.width, small.height) == (96, 64)


def test_preferred_size_is_the_nearest_in_shape() -> None:
    wide = canvas.fit((1600, 700), preferred=specs.KONTEXT_SIZES)
    assert (wide.width, wide.height) == (1568, 672)
    for size in specs.KONTEXT_SIZES:
        planned = canvas.fit(size, preferred=specs.KONTEXT_SIZES)
        assert (planned.width, planned.height) == (planned.content.width, planned.content.height) == size


def test_padding_repeats_the_edge() -> None:
    planned = canvas.fit((20, 20))
    pixels_BCHW = photo(20, 20)
    placed_BCHW = canvas.place(pixels_BCHW, planned)
    left, top = planned.content.left, planned.content.top
    assert (left, top) == (6, 6)
    assert torch.equal(placed_BCHW[..., : top + 1, left], pixels_BCHW[..., :1, 0].expand(1, 3, top + 1))
    assert torch.equal(placed_BCHW[..., -1, -1], pixels_BCHW[..., -1, -1])


def motion(before_HW: Tensor, after_HW: Tensor) -> tuple[float, float, float]:
    """Shift right and down in pixels, and growth about the centre, by least squares over the gradient."""
    down_HW, right_HW = torch.gradient(before_HW.double())
    height, width = before_HW.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    outward_HW = right_HW * (columns - (width - 1) / 2) + down_HW * (rows - (height - 1) / 2)
    system = torch.stack([right_HW, down_HW, outward_HW], dim=-1).reshape(-1, 3)
    change = (before_HW - after_HW).double().reshape(-1, 1)
    shift_x, shift_y, growth = torch.linalg.lstsq(system, change).solution.flatten().tolist()
    return shift_x, shift_y, growth


def blobs(width: int, height: int, shift: float = 0.0, growth: float = 0.0) -> Tensor:
    """A picture without fine detail, 1CHW, moved right by `shift` pixels and grown about its centre."""
    x = ((torch.arange(width) - shift - (width - 1) / 2) / (1 + growth) + (width - 1) / 2) / width
    y = ((torch.arange(height) - (height - 1) / 2) / (1 + growth) + (height - 1) / 2) / height
    waves = [
        torch.sin(7 * x + 3 * y[:, None] + c) + torch.cos(4 * x - 6 * y[:, None] - 2 * c) for c in range(3)
    ]
    return (torch.stack(waves)[None] / 4 + 0.5).float()


def test_motion_is_measured() -> None:
    still = blobs(200, 150)
    assert motion(still[0, 0], blobs(200, 150, shift=0.2)[0, 0]) == pytest.approx((0.2, 0, 0), abs=0.02)
    assert motion(still[0, 0], blobs(200, 150, growth=0.002)[0, 0])[2] == pytest.approx(0.002, abs=3e-4)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(128, 128), (129, 127), (640, 427), (1023, 777), (500, 200), (97, 301)])
def test_nothing_moves_or_grows(size: tuple[int, int], policy: str) -> None:
    pixels_BCHW = blobs(*size)
    planned = canvas.fit(size, **POLICIES[policy])
    restored_BCHW = canvas.restore(canvas.place(pixels_BCHW, planned), planned)
    assert float((restored_BCHW - pixels_BCHW).abs().max()) < 0.05
    assert float((restored_BCHW - pixels_BCHW).abs().mean()) < 0.002
    shift_x, shift_y, growth = motion(pixels_BCHW[0, 0], restored_BCHW[0, 0])
    # In pixels of whichever is coarser, canvas or input; growth as what it does to the furthest pixel.
    scale = min(planned.content.width / size[0], 1.0)
    for moved in (shift_x, shift_y, growth * max(size) / 2):
        assert abs(moved) * scale < 0.05


def test_paste_keeps_what_lies_outside() -> None:
    source, edited = photo(90, 70), photo(90, 70, 1)
    mask = torch.zeros(1, 1, 70, 90)
    mask[..., 20:50, 30:70] = 1
    mask[..., 10, 10] = 0.4
    pasted = canvas.paste(source, edited, mask)
    outside = (mask <= 0.5).expand_as(source)
    assert torch.equal(pasted[outside], source[outside])
    assert torch.equal(pasted[..., 24:46, 34:66], edited[..., 24:46, 34:66])
    edge = pasted[..., 20, 30:70]
    assert not torch.equal(edge, edited[..., 20, 30:70])
    everywhere = canvas.paste(source, edited, torch.ones(1, 1, 70, 90))
    assert torch.equal(everywhere, edited)


def test_change_finds_what_changed() -> None:
    source = photo(64, 64)
    edited = source.clone()
    edited[..., 20:30, 40:52] = 1 - edited[..., 20:30, 40:52].round()
    edited[..., 5, 5] = 1 - edited[..., 5, 5].round()  # a speck
    edited[..., 0:8, 56:64] = 1 - edited[..., 0:8, 56:64].round()  # in the corner
    found = canvas.change_mask(source, edited)
    expected = torch.zeros_like(found)
    expected[..., 18:32, 38:54] = 1
    expected[..., 0:10, 54:64] = 1
    assert torch.equal(found, expected)
    assert canvas.change_mask(source, source).sum() == 0
