"""Changes of an edit to what it should have left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from editkit.evaluation.metrics.base import LOWER, NEITHER, Column
from editkit.evaluation.metrics.pixels import tensor
from editkit.evaluation.records import RESIZED, Case, Scores
from editkit.imaging import registration
from editkit.inference import postprocess

REGION = "outside the mask; without one, outside the inferred change, grown by the feather"


class Preservation:
    """Compares results with their sources outside the mask, or outside the inferred change."""

    name = "preservation"
    parallel = True
    columns = (
        Column(
            name="outside", better=LOWER, meaning="mean absolute difference to the source outside the change"
        ),
        Column(name="tone", better=LOWER, meaning="largest mean shift of a channel outside the change"),
        Column(name="changed", better=NEITHER, meaning="share of the picture that changed"),
    )

    def describe(self) -> Mapping[str, Any]:
        """Return the area that it compares, and the resize rule."""
        return {"pixels": "sRGB in [0, 1]", "region": REGION, "resize": RESIZED}

    def score(self, case: Case) -> Scores:
        """Score a case that has a source."""
        source = case.source
        if source is None:
            return Scores()
        before_1CHW, after_1CHW = tensor(source), tensor(case.result_as(source))
        change_HW = change(case, before_1CHW, after_1CHW)
        apart_CN = (after_1CHW - before_1CHW)[0][:, ~change_HW]
        values = {"changed": float(change_HW.float().mean())}
        if apart_CN.numel():
            values["outside"] = float(apart_CN.abs().mean())
            values["tone"] = float(apart_CN.mean(1).abs().max())
        return Scores(values=values, notes={"region": "mask" if case.mask_HW is not None else "inferred"})


class Registration:
    """Measures how the content of results is moved and scaled against their sources."""

    name = "alignment"
    parallel = True
    columns = (
        Column(name="shift", better=LOWER, meaning="shift against the source", unit="px"),
        Column(name="scale", better=LOWER, meaning="how far the scale moves an edge", unit="px"),
    )

    def describe(self) -> Mapping[str, Any]:
        """The method, and where it looks."""
        return {
            "method": "phase correlation of blocks, then least squares",
            "region": REGION,
            "resize": RESIZED,
        }

    def score(self, case: Case) -> Scores:
        """Score a case that has a source; it has no figures where too little can be compared."""
        source = case.source
        if source is None:
            return Scores()
        before_1CHW, after_1CHW = tensor(source), tensor(case.result_as(source))
        mask_11HW = None if case.mask_HW is None else torch.from_numpy(case.mask_HW)[None, None].float()
        found = registration.measure(before_1CHW, after_1CHW, mask_11HW)
        if found is None:
            return Scores()
        height, width = source.shape[:2]
        return Scores(values={"shift": found.shift, "scale": found.stretch(width, height)})


def change(case: Case, before_1CHW: Tensor, after_1CHW: Tensor) -> Tensor:
    """Return the area that the edit may have changed, booleans (H, W)."""
    if case.mask_HW is not None:
        return torch.from_numpy(case.mask_HW)
    return postprocess.change(before_1CHW, after_1CHW)[0, 0] > 0.5
