"""Annotators: reduce a picture to gray, blocks, edges, lines or depth, from which it is painted anew.

Edges and lines need kornia, which is in the extra `control`. Depth needs a model of transformers.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.errors import EditkitError, first_sentence
from editkit.imaging import color
from editkit.quiet import no_bars

MOSAIC = 16
"""Number of blocks along the longer side; the released code has blocks of 64 pixels at 1024."""
CANNY = (100 / 255, 200 / 255)
DEPTH = "Intel/dpt-hybrid-midas"
"""The released annotator's network, in safetensors."""
BLUR = 5
"""Side of the kernel of Canny's blur."""
SIGMAS, KERNEL = (0.8, 1.28), 9
SHARPNESS, SLOPE, THRESHOLD = 20.0, 10.0, 0.05


def gray(pixels_BCHW: Tensor) -> Tensor:
    """Rec. 601 luma in all channels."""
    return color.luma(pixels_BCHW).expand_as(pixels_BCHW).clone()


def mosaic(pixels_BCHW: Tensor) -> Tensor:
    """Average a picture over square blocks."""
    height, width = pixels_BCHW.shape[-2:]
    side = max(1, round(max(height, width) / MOSAIC))
    small = max(1, round(height / side)), max(1, round(width / side))
    coarse = F.interpolate(pixels_BCHW, small, mode="bicubic", antialias=True).clamp(0, 1)
    return F.interpolate(coarse, (height, width), mode="nearest-exact")


def canny(pixels_BCHW: Tensor) -> Tensor:
    """Draw Canny edges, white on black."""
    try:
        from kornia.filters import canny as edges
    except ImportError as error:
        raise _absent("canny", "kornia") from error
    _, found_B1HW = edges(_padded(pixels_BCHW.float(), BLUR // 2 + 1), *CANNY)
    height, width = pixels_BCHW.shape[-2:]
    return found_B1HW[..., :height, :width].expand_as(pixels_BCHW).clone()


def contour(pixels_BCHW: Tensor) -> Tensor:
    """Draw lines, black on white, by the extended difference of Gaussians (Winnemoeller et al., 2012).

    The released code uses the network Informative Drawings, which is published only as a pickle.
    """
    try:
        from kornia.filters import gaussian_blur2d
    except ImportError as error:
        raise _absent("contour", "kornia") from error
    roomy_BCHW, (height, width) = _padded(pixels_BCHW, KERNEL // 2 + 1), pixels_BCHW.shape[-2:]
    fine_B1HW, coarse_B1HW = (
        gaussian_blur2d(color.luma(roomy_BCHW), KERNEL, (sigma, sigma))[..., :height, :width]
        for sigma in SIGMAS
    )
    sharp_B1HW = fine_B1HW + SHARPNESS * (fine_B1HW - coarse_B1HW)
    # Dark areas stay white, since the threshold applies to differences.
    soft_B1HW = 1 + torch.tanh(SLOPE * (sharp_B1HW - fine_B1HW + THRESHOLD).clamp(max=0))
    return soft_B1HW.expand_as(pixels_BCHW).clone()


def _padded(pixels_BCHW: Tensor, side: int) -> Tensor:
    """Pad a picture to at least this width and height, which kornia needs to reflect at the border."""
    height, width = pixels_BCHW.shape[-2:]
    return F.pad(pixels_BCHW, (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")


def depth(pixels_BCHW: Tensor) -> Tensor:
    """Estimate depth: near is white, far is black."""
    processor, network = _depth()
    batch = processor(images=list(pixels_BCHW.cpu()), return_tensors="pt", do_rescale=False)
    with torch.no_grad():
        near_BHW = network(**batch).predicted_depth
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
    """Replace what is under the mask of a picture with its annotation."""
    with torch.autocast(pixels_BCHW.device.type, enabled=False):  # as in edits
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
