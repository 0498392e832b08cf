"""Plan the canvas of an input, place pixels on it, and restore the input's size afterwards.

The input is scaled uniformly and padded to the grid by repeating its edge. The canvas records both, so
`restore` returns a picture of exactly the input's size, without shift or stretch.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.errors import EditkitError
from editkit.types import Box, Canvas

GRID = 16
"""Pixels along each side of a token."""
MAX_SIDE = 8192
"""Largest side of a canvas, in pixels."""


def fit(
    original: tuple[int, int],
    *,
    size: tuple[int, int] | None = None,
    preferred: Sequence[tuple[int, int]] = (),
    area: int | None = None,
) -> Canvas:
    """Plan the canvas of one panel for an input.

    Args:
        original: (width, height) of the input.
        size: (width, height) to work at, rounded up to multiples of 16; overrides the rest.
        preferred: sizes that the network knows; the one nearest in aspect ratio is taken.
        area: without preferred sizes, the largest number of pixels; the input's own aspect ratio is kept.

    Raises:
        EditkitError: if `size` is not positive or too large.
    """
    width, height = original
    if size is not None:
        if min(size) < 1 or max(size) > MAX_SIDE:
            raise EditkitError(
                f"The size {size[0]}x{size[1]} is not allowed; each side must lie in 1 to {MAX_SIDE}."
            )
        panel_width, panel_height = (math.ceil(side / GRID) * GRID for side in size)
    elif preferred:
        ratio = width / height
        # Sides break ties, as the official choice does.
        panel_width, panel_height = min(preferred, key=lambda wh: (abs(ratio - wh[0] / wh[1]), *wh))
    else:
        scale = min(1.0, math.sqrt((area or width * height) / (width * height)))
        # Where nothing has to shrink, padding up to the grid spares the pixels a resampling.
        fitted = math.ceil if scale == 1 else math.floor
        panel_width, panel_height = (max(1, fitted(side * scale / GRID)) * GRID for side in original)
    scale = min(panel_width / width, panel_height / height)
    if not preferred and size is None:
        scale = min(scale, 1.0)
    content_width, content_height = (max(1, round(side * scale)) for side in original)
    content = Box(
        left=(panel_width - content_width) // 2,
        top=(panel_height - content_height) // 2,
        width=content_width,
        height=content_height,
    )
    answer = Box(left=0, top=0, width=panel_width, height=panel_height)
    return Canvas(width=panel_width, height=panel_height, answer=answer, content=content, original=original)


def add_left(panel: Canvas, width: int) -> Canvas:
    """Add `width` pixels of canvas to the left of a planned panel."""
    answer = replace(panel.answer, left=panel.answer.left + width)
    return replace(panel, width=panel.width + width, answer=answer)


def answer_panel(canvas: Canvas) -> Canvas:
    """Return the panel of the answer as a canvas of its own."""
    box = canvas.answer
    return replace(canvas, width=box.width, height=box.height, answer=replace(box, left=0, top=0))


def answer_tokens(tokens_BLC: Tensor, canvas: Canvas) -> Tensor:
    """Select the tokens of the answer panel, row by row, from those of the whole canvas."""
    box = canvas.answer
    batch, _, channels = tokens_BLC.shape
    grid_BhwC = tokens_BLC.view(batch, canvas.height // GRID, canvas.width // GRID, channels)
    rows = slice(box.top // GRID, (box.top + box.height) // GRID)
    columns = slice(box.left // GRID, (box.left + box.width) // GRID)
    return grid_BhwC[:, rows, columns].flatten(1, 2)


def left_of_answer(canvas: Canvas) -> Tensor:
    """Make a mask (L,) of the canvas' tokens that lie left of the answer panel."""
    columns_L = torch.arange(canvas.width * canvas.height // GRID**2) % (canvas.width // GRID)
    return columns_L < canvas.answer.left // GRID


def decoded_tokens(tokens_BLC: Tensor, canvas: Canvas, panels_alone: bool = False) -> tuple[Tensor, Canvas]:
    """Select the tokens to decode, row by row, with their canvas: all of them, or the answer panel's only."""
    if canvas.apart or panels_alone:
        return answer_tokens(tokens_BLC, canvas), answer_panel(canvas)
    return tokens_BLC, canvas


def resize(pixels_BCHW: Tensor, width: int, height: int) -> Tensor:
    """Resize by antialiased bicubic, clamped to [0, 1]; a tensor of that size is returned as it is."""
    if pixels_BCHW.shape[-2:] == (height, width):
        return pixels_BCHW
    return F.interpolate(pixels_BCHW, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


def place(pixels_BCHW: Tensor, canvas: Canvas) -> Tensor:
    """Scale and pad the input to the answer panel, BCHW."""
    content = canvas.content
    scaled_BCHW = resize(pixels_BCHW, content.width, content.height)
    right = canvas.answer.width - content.width - content.left
    bottom = canvas.answer.height - content.height - content.top
    if not (content.left or content.top or right or bottom):
        return scaled_BCHW
    return F.pad(scaled_BCHW, (content.left, right, content.top, bottom), mode="replicate")


def restore(pixels_BCHW: Tensor, canvas: Canvas) -> Tensor:
    """Crop the padding off the answer panel of a decoded canvas, and scale it to the input's size."""
    left, top = canvas.answer.left + canvas.content.left, canvas.answer.top + canvas.content.top
    content_BCHW = pixels_BCHW[..., top : top + canvas.content.height, left : left + canvas.content.width]
    return resize(content_BCHW, *canvas.original)


def dilate(mask_B1HW: Tensor, reach: int) -> Tensor:
    """Dilate a boolean mask by a square that reaches `reach` pixels to every side."""
    for side in (-1, -2):
        size, width = mask_B1HW.shape[side], 1
        near = min(reach, size)
        margin = (near, near, 0, 0) if side == -1 else (0, 0, near, near)
        mask_B1HW = F.pad(mask_B1HW, margin)
        # Doubling the covered width takes a tenth of the time of max pooling.
        while width < 2 * near + 1:
            step = min(width, 2 * near + 1 - width)
            width += step
            length = size + 2 * near + 1 - width
            mask_B1HW = mask_B1HW.narrow(side, 0, length) | mask_B1HW.narrow(side, step, length)
    return mask_B1HW


def change_mask(
    source_BCHW: Tensor,
    edited_BCHW: Tensor,
    *,
    threshold: float = 0.1,
    grow: int = 2,
    suspects_B1HW: Tensor | None = None,
    suspected: float = 0.0,
) -> Tensor:
    """Find the pixels that an edit changed: B1HW, 1 where it did.

    Specks thinner than three pixels are dropped.

    Args:
        threshold: difference in any channel, in [0, 1], above which a pixel counts as changed.
        grow: pixels by which the found areas are dilated.
        suspects_B1HW: pixels, as booleans, for which a lower threshold holds.
        suspected: that threshold.
    """
    apart_BCHW = (edited_BCHW - source_BCHW).abs()
    differs_B1HW = apart_BCHW[:, :1]
    for channel in range(1, apart_BCHW.shape[1]):  # several times faster than `amax`
        differs_B1HW = torch.maximum(differs_B1HW, apart_BCHW[:, channel : channel + 1])
    found_B1HW = differs_B1HW > threshold
    if suspects_B1HW is not None:
        found_B1HW |= suspects_B1HW & (differs_B1HW > suspected)
    eroded_B1HW = ~dilate(~found_B1HW, 1)
    return dilate(eroded_B1HW, grow + 1).float()


def paste(source_BCHW: Tensor, edited_BCHW: Tensor, mask_B1HW: Tensor, *, feather: int = 2) -> Tensor:
    """Paste the edit over the source inside the mask; the seam is blended over `feather` pixels inwards.

    Outside the mask the pixels are those of the source, bit for bit.
    """
    hard_B1HW = (mask_B1HW > 0.5).float()
    soft_B1HW = F.avg_pool2d(F.pad(hard_B1HW, (feather,) * 4, mode="replicate"), 2 * feather + 1, stride=1)
    blended_BCHW = torch.lerp(source_BCHW, edited_BCHW, soft_B1HW * hard_B1HW)
    return torch.where(hard_B1HW.bool(), blended_BCHW, source_BCHW)
