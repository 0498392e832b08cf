"""FLUX's tokens: 2x2 patches of latent cells, and where they stand."""

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8
TOKEN = 2 * CELL


def pack(latents_BChw: Tensor) -> Tensor:
    """Latents to tokens BLC, four times the channels, channel slowest within a token.

    Packing distributes over channel joins: pack(cat(a, b)) = cat(pack(a), pack(b)).
    """
    batch, channels, height, width = latents_BChw.shape
    patches = latents_BChw.view(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpack(tokens_BLC: Tensor, width: int, height: int) -> Tensor:
    """Tokens of a canvas of `width` x `height` pixels back to latents BChw."""
    batch, _, channels = tokens_BLC.shape
    rows, columns = height // TOKEN, width // TOKEN
    patches = tokens_BLC.view(batch, rows, columns, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, rows * 2, columns * 2)


def pack_mask(mask_B1HW: Tensor) -> Tensor:
    """A mask as FLUX.1 Fill takes it, B L 256: every pixel is kept, each latent cell's 8x8 as 64 channels."""
    return pack(F.pixel_unshuffle(mask_B1HW, CELL))


def grid_ids(width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
    """Position ids (image, row, column) L3 of a picture in pixels, offset by `left` and `top` pixels.

    Always float32: bf16 holds no integers above 256, which a side over 4,096 pixels needs.
    """
    rows = torch.arange(height // TOKEN) + top // TOKEN
    columns = torch.arange(width // TOKEN) + left // TOKEN
    image_hw, row_hw, column_hw = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
        torch.tensor(image)[None, None], rows[:, None], columns[None, :]
    )
    return torch.stack((image_hw, row_hw, column_hw), dim=-1).reshape(-1, 3).float()
