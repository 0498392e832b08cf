"""Infer what an edit changed, align it, and paste the source's pixels back elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from editkit.imaging import canvas, registration
from editkit.inference.inputs import PreparedRequest
from editkit.types import Alignment, Canvas

LATENT, OF_MEDIAN = 0.25, 3.0
"""Thresholds for suspected cells: a difference of latents, whose standard deviation is about 1, and a
multiple of the median difference, which encoding alone causes."""
SHOWN, SUSPECTED = 0.1, 0.03
"""Differences from which a pixel counts as changed: anywhere, and in suspected cells."""
FINE = 256
"""Side of a picture, in pixels, per pixel of feather."""
RING, FEWEST = 4, 64
"""Width of the band around a change on which tone is matched, in multiples of the feather, and the fewest
pixels that it needs."""
FURTHEST, SPREAD = 0.1, 0.05
"""Largest correction of tone, and largest median deviation in a band that counts as one tone."""
WARNED, NOTICED = 0.5, 0.1
"""Pixels of motion from which an edit gets a note, and from which `align` resamples it."""


def changed_cells(
    source_BLC: Tensor, answer_BLC: Tensor, planned: Canvas, least: float, of_median: float = 0.0
) -> Tensor:
    """Find the tokens of the answer's panel, B1hw, whose packed latents differ.

    Args:
        source_BLC: latents of the source.
        answer_BLC: latents of the answer.
        planned: the canvas.
        least: difference from which a token counts as changed.
        of_median: the same, as a multiple of the median difference.
    """
    panel = canvas.answer_panel(planned)
    rows, columns = panel.height // canvas.GRID, panel.width // canvas.GRID
    apart_BL = (answer_BLC.float() - source_BLC.float()).square().mean(-1).sqrt()
    least_B1 = (of_median * apart_BL.median(1, keepdim=True).values).clamp(min=least)
    return (apart_BL > least_B1).view(-1, 1, rows, columns)


def suspects(source_BLC: Tensor, answer_BLC: Tensor, planned: Canvas) -> Tensor:
    """Find where packed latents of the answer's panel differ; booleans B1HW in the source's pixels."""
    panel = canvas.answer_panel(planned)
    cells_B1hw = changed_cells(source_BLC, answer_BLC, planned, LATENT, OF_MEDIAN).float()
    large_B1HW = F.interpolate(cells_B1hw, (panel.height, panel.width), mode="nearest")
    return (canvas.restore(large_B1HW, panel) > 0.5).cpu()


def change(source_BCHW: Tensor, edited_BCHW: Tensor, suspects_B1HW: Tensor | None = None) -> Tensor:
    """Infer what an edit changed, B1HW: 1 inside, without specks and grown by the feather."""
    return canvas.change_mask(
        source_BCHW,
        edited_BCHW,
        threshold=SHOWN,
        grow=feather(source_BCHW),
        suspects_B1HW=suspects_B1HW,
        suspected=SUSPECTED,
    )


def feather(picture_BCHW: Tensor) -> int:
    """Return the width, in pixels, of the soft edge of a change in a picture of this size."""
    return max(2, round(max(picture_BCHW.shape[-2:]) / FINE))


def kept(source_1CHW: Tensor, edited_1CHW: Tensor, mask_11HW: Tensor) -> Tensor:
    """Paste the source back outside the mask, bit for bit; inside, match the edit's tone to the source's."""
    toned_1CHW = toned(source_1CHW, edited_1CHW, mask_11HW)
    return canvas.paste(source_1CHW, toned_1CHW, mask_11HW, feather=feather(source_1CHW))


def toned(source_1CHW: Tensor, edited_1CHW: Tensor, mask_11HW: Tensor) -> Tensor:
    """Subtract from the edit the colour shift that is measured in the band around the mask.

    The edit stays as it is where the band is too small or shows other content rather than another tone.
    """
    inside_11HW = mask_11HW > 0.5
    ring_11HW = canvas.dilate(inside_11HW, RING * feather(source_1CHW)) & ~inside_11HW
    apart_CN = (edited_1CHW - source_1CHW)[0, :, ring_11HW[0, 0]]
    if apart_CN.shape[1] < FEWEST:
        return edited_1CHW
    shift_C1 = apart_CN.median(1, keepdim=True).values
    spread_C = (apart_CN - shift_C1).abs().median(1).values
    if float(shift_C1.abs().max()) > FURTHEST or float(spread_C.max()) > SPREAD:
        return edited_1CHW
    return (edited_1CHW - shift_C1[None, ..., None]).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedImage:
    """An edited picture; `EditResult` explains `change` and `alignment`."""

    pixels_1CHW: Tensor
    change_11HW: Tensor | None = None
    alignment: Alignment | None = None
    notes: tuple[str, ...] = ()


def finish(item: PreparedRequest, edited_1CHW: Tensor, suspects_11HW: Tensor | None) -> EditedImage:
    """Measure motion, align where requested, infer the change, and preserve the source where requested."""
    if item.source_1CHW is None:
        return EditedImage(pixels_1CHW=edited_1CHW)
    moved = registration.measure(item.source_1CHW, edited_1CHW, item.mask_11HW)
    height, width = item.source_1CHW.shape[-2:]
    most = 0.0 if moved is None else max(moved.shift, moved.stretch(width, height))
    corrected = item.request.align and most > NOTICED
    if moved is not None and corrected:
        edited_1CHW = registration.undo(edited_1CHW, moved)
    mask_11HW = item.mask_11HW
    if mask_11HW is None:
        mask_11HW = change(item.source_1CHW, edited_1CHW, suspects_11HW)
    return EditedImage(
        pixels_1CHW=kept(item.source_1CHW, edited_1CHW, mask_11HW) if item.preserves else edited_1CHW,
        change_11HW=mask_11HW,
        alignment=moved,
        notes=(_motion_note(moved, width, height, corrected),) if moved is not None and most > WARNED else (),
    )


def _motion_note(moved: Alignment, width: int, height: int, corrected: bool) -> str:
    found = f"shifted by {moved.right:+.1f}, {moved.down:+.1f} pixels (right, down)"
    if moved.stretch(width, height) > WARNED:
        found += f" and scaled by {moved.wider:.3f}, {moved.taller:.3f}"
    what = "this was corrected" if corrected else "`align` corrects this"
    return f"what did not change is {found} against the source; {what}."
