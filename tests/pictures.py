"""Pictures to edit, how far two are apart, and pictures that are moved."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from editkit.imaging import registration
from editkit.types import Alignment


def photo(width: int, height: int, seed: int = 0) -> Tensor:
    """A smooth picture with noise over it, 1CHW, in the 256 levels that files have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    noisy = smooth + 0.05 * torch.randn(1, 3, height, width, generator=generator)
    return (noisy.clamp(0, 1) * 255).round() / 255


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    """The same as a PIL image."""
    levels_HWC = (photo(width, height, seed)[0] * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HWC.contiguous().numpy())


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures' pixels, in levels of 255."""
    assert one.size == other.size
    a, b = (torch.frombuffer(bytearray(each.tobytes()), dtype=torch.uint8).int() for each in (one, other))
    return int((a - b).abs().max())


def shifted(picture: Tensor, right: float, down: float, wider: float = 1, taller: float = 1) -> Tensor:
    """Moved so that `measure` finds just this."""
    back = Alignment(right=-right / wider, down=-down / taller, wider=1 / wider, taller=1 / taller, blocks=0)
    return registration.undo(picture, back)
