"""Annotators: what a picture is reduced to before it is painted anew under its description.

Gray and mosaic need nothing, edges and lines kornia (in the extra `control`), depth a model of transformers.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.errors import EditkitError, first_sentence
from editkit.imaging import canvas
from editkit.quiet import no_bars

MOSAIC = 16
"""Blocks along the longer side: the released ratio of 64 on a picture of 1024 pixels."""
CANNY = (100 / 255, 200 / 255)
DEPTH = "Intel/dpt-hybrid-midas"
"""The released annotator's network, as safetensors."""
BLUR = 5
"""Side of Canny's own blur."""
SIGMAS, KERNEL = (0.8, 1.28), 9
SHARPNESS, SLOPE, THRESHOLD = 20.0, 10.0, 0.05


def gray(pixels_BCHW: Tensor) -> Tensor:
    """Rec. 601 luminance in all channels."""
    return canvas.gray(pixels_BCHW).expand_as(pixels_BCHW).clone()


def mosaic(pixels_BCHW: Tensor) -> Tensor:
    """Square blocks of one colour each."""
    height, width = pixels_BCHW.shape[-2:]
    side = max(1, round(max(height, width) / MOSAIC))
    small = max(1, round(height / side)), max(1, round(width / side))
    coarse = F.interpolate(pixels_BCHW, small, mode="bicubic", antialias=True).clamp(0, 1)
    return F.interpolate(coarse, (height, width), mode="nearest-exact")


def canny(pixels_BCHW: Tensor) -> Tensor:
    """White edges on black."""
    try:
        from kornia.filters import canny as edges
    except ImportError as error:
        raise _absent("canny", "kornia") from error
    _, found_B1HW = edges(_roomy(pixels_BCHW.float(), BLUR // 2 + 1), *CANNY)
    height, width = pixels_BCHW.shape[-2:]
    return found_B1HW[..., :height, :width].expand_as(pixels_BCHW).clone()


def contour(pixels_BCHW: Tensor) -> Tensor:
    """A line drawing, black on white: the extended difference of Gaussians (Winnemoeller et al., 2012).

    The network that the released code draws with, Informative Drawings, is published as a pickle only.
    """
    try:
        from kornia.filters import gaussian_blur2d
    except ImportError as error:
        raise _absent("contour", "kornia") from error
    roomy_BCHW, (height, width) = _roomy(pixels_BCHW, KERNEL // 2 + 1), pixels_BCHW.shape[-2:]
    fine_B1HW, coarse_B1HW = (
        gaussian_blur2d(canvas.gray(roomy_BCHW), KERNEL, (sigma, sigma))[..., :height, :width]
        for sigma in SIGMAS
    )
    sharp_B1HW = fine_B1HW + SHARPNESS * (fine_B1HW - coarse_B1HW)
    # Dark areas stay white, since only differences count.
    soft_B1HW = 1 + torch.tanh(SLOPE * (sharp_B1HW - fine_B1HW + THRESHOLD).clamp(max=0))
    return soft_B1HW.expand_as(pixels_BCHW).clone()


def _roomy(pixels_BCHW: Tensor, side: int) -> Tensor:
    """A picture at least this wide and tall, since kornia reflects at the border."""
    height, width = pixels_BCHW.shape[-2:]
    return F.pad(pixels_BCHW, (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")


def depth(pixels_BCHW: Tensor) -> Tensor:
    """Near is white, far is black."""
    processor, network = _depth()
    taken = processor(images=list(pixels_BCHW.cpu()), return_tensors="pt", do_rescale=False)
    with torch.no_grad():
        near_BHW = network(**taken).predicted_depth
    near_B1HW = F.interpolate(near_BHW[:, None], pixels_BCHW.shape[-2:], mode="bicubic")
    low, high = near_B1HW.amin((2, 3), keepdim=True), near_B1HW.amax((2, 3), keepdim=True)
    return ((near_B1HW - low) / (high - low).clamp(min=1e-6)).expand_as(pixels_BCHW).clone()


CONTROLS: dict[str, Callable[[Tensor], Tensor]] = {
    "gray": gray,
    "mosaic": mosaic,
    "canny": canny,
    "contour": contour,
    "depth": depth,
}


def annotated(pixels_BCHW: Tensor, mask_B1HW: Tensor, control: str) -> Tensor:
    """A picture that went through an annotator under its mask, and is itself elsewhere."""
    with torch.autocast(pixels_BCHW.device.type, enabled=False):  # as when editing
        drawn_BCHW = CONTROLS[control](pixels_BCHW).to(pixels_BCHW)
    return torch.where(mask_B1HW > 0.5, drawn_BCHW, pixels_BCHW)


@cache
def _depth() -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    try:
        processor = AutoImageProcessor.from_pretrained(DEPTH)
        with no_bars():
            network = AutoModelForDepthEstimation.from_pretrained(DEPTH, use_safetensors=True)
    except (OSError, ValueError, ImportError) as error:
        raise EditkitError(
            f"The depth annotator cannot be loaded ({first_sentence(error)}); run: hf download {DEPTH}"
        ) from error
    return processor, network.eval()


def _absent(control: str, package: str) -> EditkitError:
    return EditkitError(f"The annotator {control} needs {package}; run: pip install 'editkit[control]'")
