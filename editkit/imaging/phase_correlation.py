"""Measure how blocks of a picture moved, by phase correlation."""

import torch
from torch import Tensor

TEXTURE = 0.01
"""Least standard deviation of a block's gray, in [0, 1], from which its shift can be measured."""
PEAK = 0.1
"""Least height of the correlation's peak, which is 1 for equal blocks."""


def shifts(first_NHW: Tensor, second_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the shift (down, right) of each block in pixels, N2, and say whether it is reliable, N.

    Blocks get a Hann window. A parabola through the peak gives fractions of a pixel.
    """
    count, height, width = first_NHW.shape
    window_HW = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
    spectra = [
        torch.fft.rfft2((blocks - blocks.mean((1, 2), keepdim=True)) * window_HW)
        for blocks in (first_NHW, second_NHW)
    ]
    cross = spectra[1] * spectra[0].conj()
    # Whitened only in part: flat pictures have few frequencies, and all others are noise.
    sizes = cross.abs().clamp(min=1e-9).sqrt()
    correlation_NHW: Tensor = torch.fft.irfft2(cross / sizes, s=(height, width))
    peaks_N, places_N = correlation_NHW.flatten(1).max(1)
    rows_N, columns_N = places_N // width, places_N % width
    every_N = torch.arange(count)

    def near(down: int, right: int) -> Tensor:
        return correlation_NHW[every_N, (rows_N + down) % height, (columns_N + right) % width]

    down_N = _centred(rows_N + _vertex(near(-1, 0), peaks_N, near(1, 0)), height)
    right_N = _centred(columns_N + _vertex(near(0, -1), peaks_N, near(0, 1)), width)
    textured_N = torch.minimum(first_NHW.std((1, 2)), second_NHW.std((1, 2))) >= TEXTURE
    sound_N = textured_N & (peaks_N >= PEAK * sizes.mean((1, 2)))
    return torch.stack((down_N, right_N), dim=1), sound_N


def _vertex(before_N: Tensor, here_N: Tensor, after_N: Tensor) -> Tensor:
    bend_N = before_N - 2 * here_N + after_N
    return torch.where(bend_N == 0, 0.0, 0.5 * (before_N - after_N) / torch.where(bend_N == 0, 1.0, bend_N))


def _centred(shift_N: Tensor, size: int) -> Tensor:
    return torch.where(shift_N > size / 2, shift_N - size, shift_N)
