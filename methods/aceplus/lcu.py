"""LCU++: the long-context condition unit of ACE++ (paper section 3.2, equations 4 and 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from editkit.backbone import Backbone
from editkit.imaging.canvas import GRID


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A condition unit: a picture, its mask and, for the full model, the content to change.

    Sampler and trainer add the unit's noise X_t, a part of the canvas' noise, and its instruction T, a part
    of the plan's text. FLUX.1 Fill reads the channels [X_t 64, image 64, mask 256], the full model reads
    [X_t 64, image 64, change 64, mask 256].

    Attributes:
        image_BCHW: the shown part of the picture, pixels in [0, 1]; removed pixels are mid-gray.
        mask_B1HW: 1 where the unit is painted, 0 where it stays.
        change_BCHW: for the full model, the content to change; None on FLUX.1 Fill.
    """

    image_BCHW: Tensor
    mask_B1HW: Tensor
    change_BCHW: Tensor | None = None

    def channels(self, backbone: Backbone, generators: Sequence[Generator] | None = None) -> Tensor:
        """Encode the channels that join the noise, B L 320 or B L 384.

        Pictures are posterior modes, or samples where there are generators.
        """
        pictures = [self.image_BCHW] + ([] if self.change_BCHW is None else [self.change_BCHW])
        parts = [backbone.encode(picture, generators) for picture in pictures]
        return torch.cat((*parts, backbone.mask(self.mask_B1HW)), dim=-1)


def masked(pixels_BCHW: Tensor, mask_B1HW: Tensor, scale: float, change: str | None) -> Unit:
    """Make the unit of a picture to edit.

    Args:
        pixels_BCHW: the picture.
        mask_B1HW: 1 where it may change.
        scale: how much of the picture is removed there: 1 leaves mid-gray, 0 removes nothing (repainting
            scale).
        change: None on FLUX.1 Fill. For the full model, where the content under the mask is shown: `split`,
            in `change` only; `whole`, in `change` and in the image; `none`, in neither.
    """
    kept_BCHW = torch.lerp(pixels_BCHW, torch.full_like(pixels_BCHW, 0.5), scale * mask_B1HW)
    if change is None:
        return Unit(image_BCHW=kept_BCHW, mask_B1HW=mask_B1HW)
    outside_BCHW, inside_BCHW = (
        torch.where(part, kept_BCHW, 0.5) for part in (mask_B1HW < 0.5, mask_B1HW > 0.5)
    )
    shown = {
        "split": (outside_BCHW, inside_BCHW),
        "whole": (kept_BCHW, kept_BCHW),
        "none": (outside_BCHW, torch.full_like(kept_BCHW, 0.5)),
    }
    image_BCHW, change_BCHW = shown[change]
    return Unit(image_BCHW=image_BCHW, mask_B1HW=mask_B1HW, change_BCHW=change_BCHW)


def reference(pixels_BCHW: Tensor, change: str | None) -> Unit:
    """Make the unit of a reference: all of it is shown, and nothing of it is painted."""
    nowhere_B1HW = torch.zeros_like(pixels_BCHW[:, :1])
    return masked(pixels_BCHW, nowhere_B1HW, 0.0, change)


def side_by_side(units: Sequence[Unit]) -> Unit:
    """Join units of one height into one, from left to right, as on the released canvas."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(unit, name) for unit in units], dim=-1)

    whole = Unit(image_BCHW=joined("image_BCHW"), mask_B1HW=joined("mask_B1HW"))
    return whole if units[0].change_BCHW is None else replace(whole, change_BCHW=joined("change_BCHW"))


def join_rows(tokens: Sequence[Tensor], height: int) -> Tensor:
    """Join tokens ...LC of pictures of one height to rows of the canvas on which they stand side by side.

    The transformer reads position ids and not the order of tokens. In rows, a canvas of separate units is cut
    like any other canvas.
    """
    rows = height // GRID
    split = [each.reshape(*each.shape[:-2], rows, -1, each.shape[-1]) for each in tokens]
    return torch.cat(split, dim=-2).flatten(-3, -2)
