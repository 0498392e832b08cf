"""Pack latents into FLUX's tokens, 2 x 2 latent cells each, and compute the tokens' position ids."""

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8
"""Pixels along the side of a latent cell."""
TOKEN = 2 * CELL
"""Pixels along the side of a token."""
CHANNELS = 16
"""Channels of a latent cell; those of SD and SDXL, whose autoencoders are as large, have 4."""


def pack(latents_BChw: Tensor) -> Tensor:
    """Pack latents BChw into tokens BLC with four times the channels; within a token, channels vary slowest.

    Packing and joining channels may be swapped: pack(cat(a, b)) = cat(pack(a), pack(b)).
    """
    batch, channels, height, width = latents_BChw.shape
    patches = latents_BChw.view(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpack(tokens_BLC: Tensor, width: int, height: int) -> Tensor:
    """Unpack tokens BLC of a canvas of `width` x `height` pixels into latents BChw."""
    batch, _, channels = tokens_BLC.shape
    rows, columns = height // TOKEN, width // TOKEN
    patches = tokens_BLC.view(batch, rows, columns, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, rows * 2, columns * 2)


def pack_mask(mask_B1HW: Tensor) -> Tensor:
    """Pack a mask as FLUX.1 Fill takes it, B L 256: the 8 x 8 pixels of a latent cell become 64 channels."""
    return pack(F.pixel_unshuffle(mask_B1HW, CELL))


def grid_ids(width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
    """Make the position ids (image, row, column), L3, of a picture; sizes and offsets are in pixels.

    They are float32 on every device: bf16 has no exact integers above 256, which sides over 4096 pixels need.
    """
    rows = torch.arange(height // TOKEN) + top // TOKEN
    columns = torch.arange(width // TOKEN) + left // TOKEN
    image_hw, row_hw, column_hw = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
        torch.tensor(image)[None, None], rows[:, None], columns[None, :]
    )
    return torch.stack((image_hw, row_hw, column_hw), dim=-1).reshape(-1, 3).float()
