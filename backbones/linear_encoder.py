"""An encoder that is linear in pixels, written down instead of trained: AutoencoderKL's own layers do it.

A latent cell of a pixel-art picture holds 2x2 cells of one colour each. Their mean and their three
differences (the Haar transform), whitened, are 12 numbers; a fixed frame spreads them over 16 channels. Shape
and colour stay apart in the latents, and nothing is lost.
"""

import math
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
"""Rows: mean, horizontal, vertical and diagonal difference of four cells in reading order."""
STEADY = 32.0
"""Constant beside the values in front of the last norm: it keeps the norm's scale alike for all pictures."""
LOG_VARIANCE = -6.0


def whitening(pixels_BCHW: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Mean colour, and 3x3 maps that whiten the colours of four cells' mean and differences.

    Args:
        pixels_BCHW: pictures in [-1, 1], a cell 4 pixels across.
        power: 1 gives differences the variance of means; 0 leaves them as much smaller as they are in pixels.
    """
    cells_BCHW = pixels_BCHW[..., ::4, ::4]
    batch, _, height, width = cells_BCHW.shape
    blocks = cells_BCHW.reshape(batch, 3, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    parts_NC4 = blocks.reshape(-1, 3, 4) @ HAAR.T
    mean_C = parts_NC4[..., 0].mean(0)
    maps: list[Tensor] = []
    first = torch.ones(())
    for number in range(4):
        part_NC = parts_NC4[..., number] - (mean_C if number == 0 else 0)
        values, vectors = torch.linalg.eigh(part_NC.T @ part_NC / len(part_NC))
        spread = values.mean().sqrt()
        first = first if number else spread
        maps.append(vectors @ torch.diag(values**-0.5) @ vectors.T * (spread / first) ** (1 - power))
    return mean_C, torch.stack(maps)


@torch.no_grad()
def write(vae: AutoencoderKL, mean_C: Tensor, maps_4CC: Tensor) -> None:
    """Make a model's encoder the whitened Haar transform of 2x2 cells, for four blocks and 8x.

    Each value v stands twice in front of the last norm, as v and -v: silu(v) - silu(-v) = v.
    """
    encoder, latents = vae.encoder, vae.config.latent_channels
    for parameter in encoder.parameters():
        parameter.zero_()
    for block in encoder.down_blocks:
        if block.resnets[0].conv_shortcut is not None:
            block.resnets[0].conv_shortcut.weight[:3, :3, 0, 0] = torch.eye(3)
    encoder.conv_in.weight[:3, :, 1, 1] = torch.eye(3)
    *halving, _ = encoder.down_blocks
    for block in halving[:2]:
        for channel in range(3):
            block.downsamplers[0].conv.weight[channel, channel, :2, :2] = 0.25
    last = halving[2].downsamplers[0].conv
    groups, channels = encoder.conv_norm_out.num_groups, last.out_channels
    places = [place for group in range(groups) for place in _of_group(group, groups, channels)]
    for value in range(12):
        part, colour = divmod(value, 3)
        kernel_C22 = maps_4CC[part, colour][:, None, None] * HAAR[part].reshape(1, 2, 2)
        shift = float(maps_4CC[0, colour] @ mean_C) if part == 0 else 0.0
        for sign, place in zip((1, -1), places[2 * value : 2 * value + 2], strict=True):
            last.weight[place, :3, :2, :2] = sign * kernel_C22
            last.bias[place] = -sign * shift
    for group in range(groups):
        first, second = _of_group(group, groups, channels, steady=True)
        last.bias[first], last.bias[second] = STEADY, -STEADY
    encoder.conv_norm_out.weight.fill_(1)
    deviation = math.sqrt((2 * STEADY**2 + 24 / groups) / (channels / groups))
    frame_CV = _frame(latents)
    for value in range(12):
        for sign, place in zip((1, -1), places[2 * value : 2 * value + 2], strict=True):
            encoder.conv_out.weight[:latents, place, 1, 1] = sign * deviation * frame_CV[:, value]
    encoder.conv_out.bias[latents:] = LOG_VARIANCE


def inverse(channels: int, mean_C: Tensor, maps_4CC: Tensor) -> Tensor:
    """Return what `write` encodes (mean and differences of four cells, by colour) of a latent and 1.

    Returns:
        12 rows of the channels' factors and a constant.
    """
    whitened_VC = torch.linalg.pinv(_frame(channels)).reshape(4, 3, channels)
    values_VC = (torch.linalg.inv(maps_4CC) @ whitened_VC).flatten(0, 1)
    return torch.cat((values_VC, torch.cat((mean_C, torch.zeros(9)))[:, None]), dim=1)


def _frame(channels: int) -> Tensor:
    """12 orthogonal directions of this many channels."""
    random = torch.randn(channels, channels, generator=torch.Generator().manual_seed(0))
    directions_CC, _ = torch.linalg.qr(random)
    return cast(Tensor, directions_CC[:, :12] * math.sqrt(channels / 12))


def _of_group(group: int, groups: int, channels: int, *, steady: bool = False) -> range:
    """Channels of one group of the norm: pairs of values first, then the two constants."""
    start, pairs = group * channels // groups, 24 // groups
    return range(start + pairs, start + pairs + 2) if steady else range(start, start + pairs)
