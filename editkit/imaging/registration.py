"""Measure how a picture is shifted and scaled against another, and undo it.

Phase correlation measures the shift of each block. The median over the blocks is the common motion, since
blocks that an edit changed are few. Least squares over the pixels then refine it to fractions of a pixel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.imaging import canvas, color
from editkit.imaging.phase_correlation import TEXTURE, shifts
from editkit.types import Alignment

BLOCKS = 5
"""Number of blocks along each side; they overlap."""
SHARE, LARGEST = 3, 128
"""A block's side is the picture's divided by `SHARE`, and at most `LARGEST` pixels."""
FEWEST = 6
"""Least number of blocks that must be reliable, and agree."""
FOR_SCALE = 12
"""Least number of reliable blocks for a scale; with fewer, the edit itself could look like one."""
AGREE, MOST = 0.75, 0.6
"""Distance in pixels within which a block agrees with the common motion, and share that must agree.

Refining may move the motion by that distance, too.
"""
POINTS, POINTS_LEAST, ROUNDS = 20_000, 100, 3
"""Most and fewest pixels of the least squares, and their number of rounds."""
UNSURE = 0.2
"""Largest allowed standard error of the motion, in pixels."""


def measure(first_1CHW: Tensor, second_1CHW: Tensor, changed_11HW: Tensor | None = None) -> Alignment | None:
    """Measure how the second of two pictures of one size moved against the first, pixels in [0, 1].

    Blocks that lie mostly where `changed` is 1 do not count, if enough others are left. Returns None if the
    pictures have too little texture, or if their blocks contradict each other.
    """
    height, width = first_1CHW.shape[-2:]
    tall, wide = (min(max(8, side // SHARE), LARGEST) for side in (height, width))
    if tall > height or wide > width:
        return None
    corners = [
        ((height - tall) * row // (BLOCKS - 1), (width - wide) * column // (BLOCKS - 1))
        for row in range(BLOCKS)
        for column in range(BLOCKS)
    ]
    places_N2 = torch.tensor(corners) + torch.tensor((tall, wide)) / 2 - torch.tensor((height, width)) / 2

    def blocks(picture_1CHW: Tensor) -> Tensor:
        cut = [picture_1CHW[0, :, top : top + tall, left : left + wide] for top, left in corners]
        return torch.stack(cut)

    shifts_N2, sound_N = shifts(*(color.luma(blocks(picture))[:, 0] for picture in (first_1CHW, second_1CHW)))
    if changed_11HW is not None:
        outside_N = sound_N & (blocks(changed_11HW).flatten(1).mean(1) <= 0.5)
        sound_N = outside_N if int(outside_N.sum()) >= FEWEST else sound_N
    coarse = _common_motion(places_N2[sound_N], shifts_N2[sound_N])
    return None if coarse is None else _refine(first_1CHW, second_1CHW, coarse, changed_11HW)


def undo(picture_1CHW: Tensor, moved: Alignment) -> Tensor:
    """Undo the motion that `measure` found in the second picture."""
    height, width = picture_1CHW.shape[-2:]
    matrix_123 = picture_1CHW.new_tensor(
        [[[moved.wider, 0, 2 * moved.right / width], [0, moved.taller, 2 * moved.down / height]]]
    )
    grid_1HW2 = F.affine_grid(matrix_123, list(picture_1CHW.shape), align_corners=False)
    return _sample(picture_1CHW, grid_1HW2).clamp(0, 1)


def _common_motion(places_N2: Tensor, shifts_N2: Tensor) -> Alignment | None:
    """Find the motion that most blocks agree on; places are (row, column) from the middle."""
    count = len(places_N2)
    if count < FEWEST:
        return None
    sides = range(2) if count >= FOR_SCALE else ()
    slopes_2 = torch.zeros(2)
    for side in sides:
        slopes_2[side] = _slope(places_N2[:, side], shifts_N2[:, side])
    rest_N2 = shifts_N2 - slopes_2 * places_N2
    middle_2 = rest_N2.median(0).values
    agreeing = int(((rest_N2 - middle_2).abs() < AGREE).all(1).sum())
    if agreeing < max(FEWEST, MOST * count):
        return None
    (down, right), (taller, wider) = middle_2.tolist(), (1 + slopes_2).tolist()
    return Alignment(right=right, down=down, wider=wider, taller=taller, blocks=count)


def _refine(
    first_1CHW: Tensor, second_1CHW: Tensor, coarse: Alignment, changed_11HW: Tensor | None
) -> Alignment | None:
    """Refine a motion to a fraction of a pixel.

    Returns None if too few pixels have texture, or if the refined motion contradicts the blocks: an edit
    that changed every edge fits best to a motion that did not happen. The scale is refined only if there
    were enough blocks to measure one.
    """
    height, width = first_1CHW.shape[-2:]
    # Scale, like shift, is in pixels: those by which it moves an edge.
    moved_4 = torch.tensor(
        (coarse.right, coarse.down, (coarse.wider - 1) * width / 2, (coarse.taller - 1) * height / 2)
    )
    pixels = _textured_pixels(first_1CHW, second_1CHW, moved_4, changed_11HW)
    if pixels is None:
        return None
    found_4, error = _lucas_kanade(pixels, color.luma(second_1CHW), moved_4, coarse.blocks >= FOR_SCALE)
    if not error <= UNSURE or float((found_4 - moved_4)[:2].abs().max()) > AGREE:
        return None
    right, down, across, along = found_4.tolist()
    return Alignment(
        right=right,
        down=down,
        wider=1 + 2 * across / width,
        taller=1 + 2 * along / height,
        blocks=coarse.blocks,
    )


def _textured_pixels(
    first_1CHW: Tensor, second_1CHW: Tensor, moved_4: Tensor, changed_11HW: Tensor | None
) -> tuple[Tensor, ...] | None:
    """Return pixels of the first picture with texture: gray, slopes to the right and down, places x and y.

    Returns None if there are too few. Places run from -1 to 1.
    """
    height, width = first_1CHW.shape[-2:]
    stride = math.ceil(math.sqrt(height * width / POINTS))
    rows, columns = torch.arange(1, height - 1, stride), torch.arange(1, width - 1, stride)
    y_RC, x_RC = torch.meshgrid((2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1, indexing="ij")

    def near(down: int, right: int) -> Tensor:
        return first_1CHW[:, :, rows + down][..., columns + right]

    right_RC, down_RC = (
        (color.luma(ahead) - color.luma(behind))[0, 0] / 2
        for ahead, behind in ((near(0, 1), near(0, -1)), (near(1, 0), near(-1, 0)))
    )
    textured_RC = torch.hypot(right_RC, down_RC) > TEXTURE
    found_1CRC = _sample_moved(second_1CHW, moved_4, x_RC, y_RC)
    outside_RC = textured_RC & (canvas.change_mask(near(0, 0), found_1CRC)[0, 0] == 0)
    counts_RC = outside_RC if int(outside_RC.sum()) >= POINTS_LEAST else textured_RC
    if changed_11HW is not None:
        counts_RC &= changed_11HW[0, 0, rows][:, columns] <= 0.5
    if int(counts_RC.sum()) < POINTS_LEAST:
        return None
    pixels_RC = (color.luma(near(0, 0))[0, 0], right_RC, down_RC, x_RC, y_RC)
    return tuple(values_RC[counts_RC] for values_RC in pixels_RC)


def _lucas_kanade(
    pixels: tuple[Tensor, ...], second_11HW: Tensor, moved_4: Tensor, scaled: bool
) -> tuple[Tensor, float]:
    """Fit the motion by robust least squares over the gradient, as Lucas and Kanade do.

    Returns the motion and the largest standard error among its parts, in pixels.
    """
    first_N, right_N, down_N, x_N, y_N = pixels
    scales = [right_N * x_N, down_N * y_N] if scaled else []
    # A constant takes up a change in brightness, which is not a motion.
    system_NK = torch.stack([right_N, down_N, *scales, torch.ones_like(x_N)], dim=1)
    known = system_NK.shape[1] - 1
    for _ in range(ROUNDS):
        apart_N = first_N - _sample_moved(second_11HW, moved_4, x_N[None], y_N[None]).flatten()
        weights_N = (1 + (apart_N / (3 * apart_N.abs().median() + 1e-3)).square()) ** -2
        weighed_NK = system_NK * weights_N[:, None]
        square_KK = weighed_NK.T @ system_NK + 1e-6 * torch.eye(known + 1)
        step_K = torch.linalg.solve(square_KK, weighed_NK.T @ apart_N)
        moved_4 = moved_4 + F.pad(step_K[:known], (0, len(moved_4) - known))
    variance = (weights_N * (apart_N - system_NK @ step_K).square()).sum() / weights_N.sum()
    errors_K = (torch.linalg.inv(square_KK).diagonal() * variance).sqrt()
    return moved_4, float(errors_K[:known].max())


def _sample_moved(picture_1CHW: Tensor, moved_4: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample a picture at the moved places of the other picture."""
    height, width = picture_1CHW.shape[-2:]
    across = x + (moved_4[0] + moved_4[2] * x) * 2 / width
    along = y + (moved_4[1] + moved_4[3] * y) * 2 / height
    return _sample(picture_1CHW, torch.stack((across, along), dim=-1)[None])


def _sample(picture_1CHW: Tensor, grid_1HW2: Tensor) -> Tensor:
    """Sample by bicubic, with the edge repeated; places run from -1 to 1, the outer edges of the picture."""
    sampled_1CHW: Tensor = F.grid_sample(
        picture_1CHW, grid_1HW2, mode="bicubic", padding_mode="border", align_corners=False
    )
    return sampled_1CHW


def _slope(places_N: Tensor, shifts_N: Tensor) -> float:
    """Estimate the Theil-Sen slope: the median over all pairs."""
    apart_NN, more_NN = (values[:, None] - values for values in (places_N, shifts_N))
    pairs = apart_NN > 1
    return float((more_NN[pairs] / apart_NN[pairs]).median()) if pairs.any() else 0.0
