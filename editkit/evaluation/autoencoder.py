"""Measure what a backbone's autoencoder loses: Kontext's table of VAEs (arXiv 2506.15742, Table 1)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from editkit.backbone import Backbone
from editkit.errors import EditkitError
from editkit.evaluation.metrics.pixels import Pixels, tensor
from editkit.evaluation.metrics.shift_tolerant import published
from editkit.evaluation.records import RGB, StoredPicture

SIDE = 256
"""Side of the pictures, in pixels."""
BATCH = 8
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FIGURES = ("pdist", "ssim", "psnr")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """The mean of a figure over pictures.

    Attributes:
        mean: over all pictures.
        error: its standard error; None for a single picture.
    """

    mean: float
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of an autoencoder on a set of pictures.

    Attributes:
        backbone: whose autoencoder it is.
        weights: hash of its weights.
        figures: by name: perceptual distance, SSIM, PSNR in dB.
        n: number of pictures.
        unreadable: why others were left out.
        depends: what the figures depend on.
    """

    backbone: str
    weights: str
    figures: dict[str, Figure]
    n: int
    unreadable: list[str]
    depends: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        figures = {
            name: {"mean": each.mean, "standard error": each.error} for name, each in self.figures.items()
        }
        return {
            "backbone": self.backbone,
            "vae": self.weights,
            "n": self.n,
            **figures,
            "unreadable": self.unreadable,
            "depends on": self.depends,
        }


def pictures(path: Path, limit: int | None = None) -> list[Path]:
    """The pictures of a folder and all below it, by name; or one picture.

    Raises:
        EditkitError: where there are none.
    """
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    found = [each for each in found if each.suffix.lower() in SUFFIXES][:limit]
    if not found:
        raise EditkitError(f"There are no pictures at {path}; give a folder of {', '.join(SUFFIXES)} files.")
    return found


def measure(backbone: Backbone, paths: Sequence[Path], watch: Callable[[int], None]) -> Losses:
    """Encode and decode pictures at 256 by 256, by the mode of the posterior, and compare.

    Args:
        backbone: whose autoencoder is measured.
        paths: pictures; each is scaled and cut to its middle.
        watch: told of the number of pictures that are done.

    Raises:
        EditkitError: where no picture can be read, or a package of the metrics is missing.
    """
    compared = Comparison()
    unreadable, values = list[str](), {name: list[float]() for name in FIGURES}
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        read = list(_read(batch, unreadable))
        if read:
            for before, after in zip(read, _decoded(backbone, read), strict=True):
                for name, value in compared.figures(before, after).items():
                    values[name].append(value)
        watch(len(batch))
    n = len(values["psnr"])
    if not n:
        raise EditkitError(f"None of the {len(paths)} pictures can be read; the first: {unreadable[0]}")
    return Losses(
        backbone=backbone.name,
        weights=backbone.vae_hash(),
        figures={name: figure(each) for name, each in values.items()},
        n=n,
        unreadable=unreadable,
        depends={
            "pictures": f"scaled to cover {SIDE} by {SIDE} (Pillow bicubic) and cut to the middle, sRGB",
            "latents": "mode of the posterior; the picture is rounded to 8 bits after decoding",
            **compared.depends,
            "precision": str(backbone.dtype).removeprefix("torch."),
        },
    )


class Comparison:
    """Compares pictures before and after, by a network of VGG's shape, SSIM and PSNR.

    Raises:
        EditkitError: where a package is missing.
    """

    def __init__(self) -> None:
        self._network, weights = published("vgg")
        self._pixels = Pixels()
        told = self._pixels.describe()
        self.depends = {
            "pdist": f"shift-tolerant LPIPS on VGG, {weights}; the paper does not define its own distance",
            "ssim": str(told["ssim"]),
            "psnr": str(told["library"]),
        }

    @torch.no_grad()
    def figures(self, before: RGB, after: RGB) -> dict[str, float]:
        """The three figures of a pair."""
        found = self._pixels.figures(after, before)
        distance = float(self._network(tensor(after), tensor(before)))
        return {"pdist": distance, "ssim": found["ssim"], "psnr": found["psnr"]}


def figure(values: Sequence[float]) -> Figure:
    """Mean and standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Figure(mean=statistics.fmean(values), error=error)


def _read(paths: Sequence[Path], unreadable: list[str]) -> Iterator[RGB]:
    for path in paths:
        try:
            whole = StoredPicture(value=path.name, folder=path.parent, what=f"picture {path}").picture()
        except EditkitError as error:
            unreadable.append(str(error))
            continue
        yield np.asarray(ImageOps.fit(whole, (SIDE, SIDE), Image.Resampling.BICUBIC))


@torch.no_grad()
def _decoded(backbone: Backbone, read: Sequence[RGB]) -> list[RGB]:
    pixels_BCHW = torch.cat([tensor(each) for each in read]).to(backbone.device, backbone.dtype)
    made_BCHW = backbone.decode(backbone.encode(pixels_BCHW), SIDE, SIDE).float().clamp(0, 1)
    levels = (made_BCHW * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return list(levels)
