"""A judge without a model: the better edit changed something and left the rest as it was."""

import time
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from editkit.errors import EditkitError
from editkit.imaging import canvas, images
from editkit.judges.base import TIE, Case, Judge
from editkit.search_types import Verdict


@dataclass(frozen=True, kw_only=True)
class PreserveConfig:
    """Options of the judge `preserve`."""

    margin: float = 0.001
    """Largest difference of the mean absolute errors outside the change, pixels in [0, 1], that is a tie."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin must lie in [0, 1], not {self.margin}")


class PreserveJudge(Judge):
    """Compares agreement with the source outside the change; it does not read the instruction."""

    symmetric = True
    needs_source = True

    def __init__(self, config: PreserveConfig) -> None:
        self.config = config

    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Prefer the edit with the smaller error outside its change; an edit that changed nothing loses.

        Raises:
            EditkitError: for text to image, where there is nothing to preserve.
        """
        if case.source is None:
            raise EditkitError("The judge 'preserve' needs a source picture; choose another judge.")
        start = time.perf_counter()
        source = _tensor(case.source)
        errors, seen = zip(*(_error(source, _tensor(edited)) for edited in (first, second)), strict=True)
        better = TIE
        if abs(errors[0] - errors[1]) > self.config.margin:
            better = "first" if errors[0] < errors[1] else "second"
        reply = f"error outside the change: {errors[0]:.4f} and {errors[1]:.4f}"
        return Verdict(better=better, reply=reply, seconds=time.perf_counter() - start, seen=seen)


def _tensor(picture: Image.Image) -> Tensor:
    return images.tensor(images.load_image(picture))


def _error(source_1CHW: Tensor, edited_1CHW: Tensor) -> tuple[float, str]:
    """Return the mean absolute error over unchanged pixels, 1 where all or none changed; and words for it."""
    same = canvas.change_mask(source_1CHW, edited_1CHW) == 0
    if same.all():
        return 1.0, "changed nothing"
    if not same.any():
        return 1.0, "changed everything"
    difference_1CHW = (source_1CHW - edited_1CHW).abs().mean(1, keepdim=True)
    error = float(torch.masked_select(difference_1CHW, same).mean())
    return error, f"the rest differs by {255 * error:.1f} of 255 levels on average"


CONFIG, JUDGE = PreserveConfig, PreserveJudge
