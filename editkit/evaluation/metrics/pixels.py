"""L1, L2 and PSNR by torchmetrics, SSIM by scikit-image, which needs a third of the time on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editkit.evaluation.metrics.base import HIGHER, LOWER, Column
from editkit.evaluation.metrics.libraries import imported, torchmetrics
from editkit.evaluation.records import RESIZED, RGB, Case, Scores

HIGHEST_PSNR = 100.0
"""PSNR of equal pictures, which has no bound."""
KERNEL = 11
"""Side of SSIM's window, which a smaller picture cannot fill."""


class Pixels:
    """Compares results with true answers, pixel by pixel."""

    name = "pixels"
    parallel = True
    columns: tuple[Column, ...] = (
        Column(name="l1", better=LOWER, meaning="mean absolute error to the true answer"),
        Column(name="l2", better=LOWER, meaning="mean square error to the true answer"),
        Column(
            name="psnr",
            better=HIGHER,
            meaning=f"PSNR to the true answer, at most {HIGHEST_PSNR:g}",
            unit="dB",
        ),
        Column(name="ssim", better=HIGHER, meaning="SSIM to the true answer"),
    )

    def __init__(self) -> None:
        self._library = torchmetrics()
        self._ssim = imported("skimage.metrics").structural_similarity

    def describe(self) -> Mapping[str, Any]:
        """Library, range and resize rule."""
        return {
            "library": f"torchmetrics {self._library.__version__}",
            "pixels": "sRGB in [0, 1], what is clear as white",
            "resize": RESIZED,
            "ssim": f"scikit-image {version('scikit-image')}, Gaussian window {KERNEL}, sigma 1.5, no border",
        }

    def score(self, case: Case) -> Scores:
        """Score a case that has a true answer."""
        if case.answer is None:
            return Scores()
        return Scores(values=self.figures(case.result_as(case.answer), case.answer))

    def figures(self, result: RGB, other: RGB) -> dict[str, float]:
        """The four figures of two pictures of one size."""
        from torchmetrics.functional import mean_absolute_error, mean_squared_error

        first, second = tensor(result), tensor(other)
        mse = float(mean_squared_error(first, second))
        found = {
            "l1": float(mean_absolute_error(first, second)),
            "l2": mse,
            "psnr": self._psnr(first, second) if mse else HIGHEST_PSNR,
        }
        if min(result.shape[:2]) >= KERNEL:
            found["ssim"] = self._similarity(result, other)
        return found

    def _similarity(self, result: RGB, other: RGB) -> float:
        """Measure SSIM as Wang et al. (2004) define it; the mean of the channels.

        The channels stand below each other in one gray picture, which takes one call instead of three. No
        window of a pixel that counts reaches into the next channel, since the border does not count.
        """
        height, width = result.shape[:2]
        pictures = (
            each.transpose(2, 0, 1).reshape(-1, width).astype(np.float32) / np.float32(255)
            for each in (result, other)
        )
        _, map_CHW = self._ssim(
            *pictures,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        border = KERNEL // 2
        inside_CHW = map_CHW.reshape(3, height, width)[:, border:-border, border:-border]
        return float(inside_CHW.mean(dtype=np.float64))

    def _psnr(self, first: Tensor, second: Tensor) -> float:
        from torchmetrics.functional.image import peak_signal_noise_ratio

        return min(HIGHEST_PSNR, float(peak_signal_noise_ratio(first, second, data_range=1.0)))


class SourcePixels(Pixels):
    """Compares results with their sources, pixel by pixel: how much an edit changed."""

    name = "source-pixels"
    columns = tuple(
        Column(
            name=f"source_{column.name}",
            better=column.better,
            meaning=column.meaning.replace("true answer", "source"),
            unit=column.unit,
        )
        for column in Pixels.columns
    )

    def score(self, case: Case) -> Scores:
        """Score a case that has a source."""
        if case.source is None:
            return Scores()
        found = self.figures(case.result_as(case.source), case.source)
        return Scores(values={f"source_{name}": value for name, value in found.items()})


def tensor(picture: RGB) -> Tensor:
    """A picture as floats in [0, 1], 1CHW."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float().div(255).contiguous()
