"""A decoder that inverts the linear encoder, written down instead of trained, in AutoencoderKL's layers.

A latent cell holds the mean of 2x2 cells and their horizontal, vertical and diagonal differences. The decoder
enlarges it twofold, after which all four places look alike, so it has to know in which place it is. Zero
padding tells where the border is: from there a checkerboard grows by one column with every convolution, and
differences between its enlarged neighbours tell left from right. Eight convolutions and two borders make
sixteen columns, which are 128 pixels. It is exact for these: wider pictures lose their differences in the
middle, and in smaller ones the checkerboards overlap, so that the norms' scales are off.

Every value v of a normed layer stands there as v and -v, since silu(v) - silu(-v) = v.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

GATE = 32.0
"""Constant that opens or closes a difference's way through silu; large beside all differences."""
RUNS = (((1, 0), 1.0), ((1, 2), -1.0), ((0, 1), 1.0), ((2, 1), -1.0))
"""Of checkerboards that grow from the left, right, top and bottom border: kernel tap of the neighbour on that
side, and the sign in the outermost column."""

Pair = tuple[int, int]
CENTRE = (1, 1)


def _pairs(start: int, count: int) -> list[Pair]:
    """Number pairs of channels (v, -v) from a start on."""
    return [(first, first + 1) for first in range(start, start + 2 * count, 2)]


@torch.no_grad()
def write(vae: AutoencoderKL, values_VC: Tensor) -> None:
    """Make a model's decoder the inverse of its linear encoder, for four blocks of one layer and 8x.

    Args:
        vae: a model with two norm groups, 64 channels in its two innermost blocks, and 12 in the others.
        values_VC: 12 values of a latent (mean, horizontal, vertical and diagonal difference, by colour, in
            [-1, 1]) as a linear function of its channels and, last, 1.
    """
    decoder: Any = vae.decoder  # diffusers' blocks have no types
    for parameter in decoder.parameters():
        parameter.zero_()
    inner, second, *_ = decoder.up_blocks
    x_BChw = _read_values(decoder.conv_in, values_VC, vae.config.sample_size // 8)
    for resnet in (*decoder.mid_block.resnets, *inner.resnets):
        x_BChw = _grow(resnet, x_BChw)
    x_BChw = _lay_out_gates(inner.upsamplers[0].conv, F.interpolate(x_BChw, scale_factor=2.0))
    x_BChw = _open_gates(second.resnets[0], x_BChw)
    _add_differences(second.resnets[1], x_BChw)
    _write_pixels(decoder)


ONE, *_boards = _pairs(32, 9)
BOARDS, GROWN = _boards[:4], _boards[4:]
"""Checkerboards from the four borders, and in the middle of a block what they were before it."""


def _read_values(conv_in: Any, values_VC: Tensor, side: int) -> Tensor:
    """Put the values beside a constant; return the layer's output for latents of 0, B C h w."""
    values, latents = len(values_VC), conv_in.in_channels
    conv_in.weight[:values, :, 1, 1] = values_VC[:, :latents]
    conv_in.bias[:values] = values_VC[:, latents]
    _constant(conv_in, ONE, 1.0)
    # What must be known of a layer's input does not depend on the values, which are zero here.
    zeros_BChw = torch.zeros(1, conv_in.out_channels, side, side)
    zeros_BChw[:, ONE[0]], zeros_BChw[:, ONE[1]] = 1.0, -1.0
    return zeros_BChw


def _grow(resnet: Any, x_BChw: Tensor) -> Tensor:
    """Let the checkerboards grow by two columns and rows; return the block's output."""
    _carry(resnet.conv1, ONE, ONE)
    for board, grown in zip(BOARDS, GROWN, strict=True):
        _carry(resnet.conv1, board, grown)
        _carry(resnet.conv2, grown, board, -1.0)
    for conv in (resnet.conv1, resnet.conv2):
        for board, (tap, sign) in zip(BOARDS, RUNS, strict=True):
            # 1 less its neighbour is 1 at the border alone; elsewhere the neighbour's sign turns around.
            _carry(conv, ONE, board, sign)
            _carry(conv, ONE, board, -sign, tap)
            _carry(conv, board, board, -1.0, tap)
    middle_BChw = resnet.conv1(_keep_sizes(resnet.norm1, x_BChw))
    _keep_sizes(resnet.norm2, middle_BChw)
    return cast(Tensor, resnet(x_BChw, None))


_inner, _outer = _pairs(0, 16), _pairs(32, 10)
GATES = [*zip(_inner[::2], _inner[1::2], strict=True), (_outer[0], _outer[1])]
"""By difference and colour: one pair lets it pass where its sign is +1, the other one where it is -1."""
MEANS, STEADY, SUMS, SLOPES = _outer[2:5], _outer[5], _outer[6:8], _outer[8:]
"""Means by colour; a constant; by axis a checkerboard plus and minus its slope, one of which is 0."""


def _lay_out_gates(conv: Any, x_BChw: Tensor) -> Tensor:
    """Copy values to their gates, and bring every place's sign in reach."""
    for value, pair in enumerate(MEANS):
        _copy(conv, value, pair, 0.5)
    for value, gate in enumerate(GATES, start=len(MEANS)):
        for pair in gate:
            _copy(conv, value, pair, 0.5)
    sides = (((1, 0), (1, 2)), ((0, 1), (2, 1)))
    for axis, (before, after) in enumerate(sides):
        for board, _ in BOARDS[2 * axis : 2 * axis + 2]:
            for pair, sign in ((SUMS[axis], 1.0), (SLOPES[axis], -1.0)):
                _copy(conv, board, pair, GATE)
                _copy(conv, board, pair, sign * GATE / 2, after)
                _copy(conv, board, pair, -sign * GATE / 2, before)
    _constant(conv, STEADY, GATE)
    return cast(Tensor, conv(x_BChw))


def _open_gates(resnet: Any, x_BChw: Tensor) -> Tensor:
    """Add the place's sign by columns, by rows, and their product to the gates of such differences."""
    column, row, alike, unlike = _pairs(0, 4)
    for axis, own in enumerate((column, row)):
        for pair, share in ((own, 0.5), (alike, 0.5), (unlike, 0.5 - axis)):
            _add_size(resnet.conv1, SUMS[axis], pair, share)
            _add_size(resnet.conv1, SLOPES[axis], pair, -share)
    middle_BChw = resnet.conv1(_keep_sizes(resnet.norm1, x_BChw))
    _keep_sizes(resnet.norm2, middle_BChw)
    for number, gate in enumerate(GATES):
        for sign, pair in zip((1.0, -1.0), gate, strict=True):
            for channel in pair:
                weight_C = resnet.conv2.weight[channel, :, 1, 1]
                if number < 6:
                    weight_C[list((column, row)[number // 3])] += torch.tensor((sign, -sign))
                else:
                    weight_C[list(alike)] += sign / 2
                    weight_C[list(unlike)] -= sign / 2
    return cast(Tensor, resnet(x_BChw, None))


def _add_differences(resnet: Any, x_BChw: Tensor) -> None:
    """Add each difference with its place's sign to its colour's mean."""
    *changes, steady = _pairs(0, 4)
    for number, gate in enumerate(GATES):
        for sign, pair in zip((1.0, -1.0), gate, strict=True):
            _carry(resnet.conv1, pair, changes[number % 3], sign / 2)
    _constant(resnet.conv1, steady, GATE)
    middle_BChw = resnet.conv1(_keep_sizes(resnet.norm1, x_BChw))
    _keep_sizes(resnet.norm2, middle_BChw)
    for change, mean in zip(changes, MEANS, strict=True):
        _carry(resnet.conv2, change, mean)


def _write_pixels(decoder: Any) -> None:
    """Enlarge the cells to pixels."""
    _, second, third, _ = decoder.up_blocks
    for colour, (mean, _) in enumerate(MEANS):
        second.upsamplers[0].conv.weight[colour, mean, 1, 1] = 1.0
        third.resnets[0].conv_shortcut.weight[colour, colour, 0, 0] = 1.0
    last, group = third.upsamplers[0].conv, decoder.conv_norm_out.num_channels // 2
    places = [*_pairs(0, 2), *_pairs(group, 1)]
    for colour, place in enumerate(places):
        _copy(last, colour, place, 1.0)
    for start in (group - 2, 2 * group - 2):
        _constant(last, (start, start + 1), GATE)
    side = torch.zeros(1, last.in_channels, 8, 8)
    _keep_sizes(decoder.conv_norm_out, last(side))
    for colour, place in enumerate(places):
        decoder.conv_out.weight[colour, list(place), 1, 1] = torch.tensor((1.0, -1.0))


def _keep_sizes(norm: Any, x_BChw: Tensor) -> Tensor:
    """Let a norm keep the sizes of its input, whose groups have the mean 0; return silu of its output."""
    groups_GN = x_BChw.reshape(norm.num_groups, -1)
    deviation_G = groups_GN.std(dim=1, unbiased=False)
    norm.weight.copy_(deviation_G.repeat_interleave(norm.num_channels // norm.num_groups))
    return F.silu(norm(x_BChw))


def _constant(conv: Any, pair: Pair, value: float) -> None:
    conv.bias[list(pair)] = torch.tensor((value, -value))


def _copy(conv: Any, channel: int, pair: Pair, factor: float, tap: tuple[int, int] = CENTRE) -> None:
    """Write a channel of the input, as it is, to a pair."""
    row, column = tap
    conv.weight[list(pair), channel, row, column] += torch.tensor((factor, -factor))


def _carry(conv: Any, source: Pair, pair: Pair, factor: float = 1.0, tap: tuple[int, int] = CENTRE) -> None:
    """Write the value of a pair behind silu to a pair."""
    _copy(conv, source[0], pair, factor, tap)
    _copy(conv, source[1], pair, -factor, tap)


def _add_size(conv: Any, source: Pair, pair: Pair, factor: float) -> None:
    """Write the absolute value of a pair behind silu, silu(v) + silu(-v), to a pair."""
    for channel in source:
        _copy(conv, channel, pair, factor)
