"""Perceptual distance by shift-tolerant LPIPS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from editkit.evaluation.metrics.base import LOWER, Column
from editkit.evaluation.metrics.encodings import Encodings
from editkit.evaluation.metrics.pixels import tensor
from editkit.evaluation.metrics.shift_tolerant import TRUNKS, published
from editkit.evaluation.records import RESIZED, RGB, Case, Scores

SMALLEST = 32
"""Side below which the networks have nothing left to compare."""


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """Options of the metric `lpips`."""

    net: str = "alex"
    """`alex` or `vgg`."""

    def __post_init__(self) -> None:
        if self.net not in TRUNKS:
            raise ValueError(f"net must be one of {', '.join(TRUNKS)}, not {self.net!r}")


class Perceptual:
    """Measures shift-tolerant LPIPS to the true answer and to the source.

    Raises:
        AbsentMetricError: where the weights are not here.
    """

    Config = PerceptualConfig
    name = "lpips"
    parallel = True
    columns = (
        Column(name="lpips", better=LOWER, meaning="shift-tolerant LPIPS to the true answer"),
        Column(name="source_lpips", better=LOWER, meaning="shift-tolerant LPIPS to the source"),
    )

    def __init__(self, config: PerceptualConfig) -> None:
        self.config = config
        self.network, self.weights = published(config.net)
        self._features = Encodings(lambda picture: self.network.features(tensor(picture)))

    def describe(self) -> Mapping[str, Any]:
        """Network, weights and resize rule."""
        return {
            "model": f"shift-tolerant LPIPS, {self.config.net}",
            "revision": self.weights,
            "preprocessing": "sRGB to [-1, 1], the package's own shift and scale, at the picture's size",
            "resize": RESIZED,
        }

    def score(self, case: Case) -> Scores:
        """Score a case against its true answer and its source."""
        pairs = {"lpips": case.answer, "source_lpips": case.source}
        return Scores(
            values={
                name: self._distance(case.result_as(other), other)
                for name, other in pairs.items()
                if other is not None and min(other.shape[:2]) >= SMALLEST
            }
        )

    @torch.no_grad()
    def _distance(self, first: RGB, second: RGB) -> float:
        return float(self.network.distance(self._features(first), self._features(second)))
