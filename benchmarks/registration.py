"""Compare the measurement of motion around an edit with scikit-image's and kornia's.

pip install scikit-image kornia; python benchmarks/registration.py

Each pair is a picture and an edit of it: a ShapesWorld scene, or a smooth noisy picture with a patch of
another one. The edit is moved by up to 4 pixels and, every second time, scaled by up to 2%. Scenes whose
background or style was edited are not moved. Errors are in pixels at the picture's edge, where scale counts
most; an answer is wrong where its error is above half a pixel.
"""

import argparse
import random
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from kornia.geometry.transform import HomographyWarper, ImageRegistrator
from kornia.geometry.transform.image_registrator import Similarity
from skimage.registration import phase_cross_correlation
from torch import Tensor

from editkit import shapesworld as world
from editkit.imaging import color, registration
from editkit.types import Alignment

LOCAL, GLOBAL = ("recolour", "remove", "replace", "add"), ("background", "style")
SHIFT, SCALE = 4.0, 0.02
WRONG = 0.5
"""Pixels."""
TEXTURE = 0.01
FINE = 10
"""Parts of a pixel."""


def scene(seed: int, side: int, edits: tuple[str, ...] = LOCAL) -> tuple[Tensor, Tensor]:
    """A ShapesWorld picture and an edit of it, 1CHW."""
    example = world.example(seed, edits[seed % len(edits)])
    assert example.source is not None
    pair = (world.render(each, side) for each in (example.source, example.answer))
    first, second = (torch.from_numpy(each).permute(2, 0, 1)[None].float() / 255 for each in pair)
    return first, second


def repainted(seed: int, side: int) -> tuple[Tensor, Tensor]:
    """A ShapesWorld picture and an edit of all of it, 1CHW."""
    return scene(seed, side, GLOBAL)


def texture(seed: int, side: int) -> tuple[Tensor, Tensor]:
    """A smooth picture with noise over it, and the same with a patch of another, 1CHW."""
    generator = torch.Generator().manual_seed(seed)
    coarse_2C56 = torch.rand(2, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse_2C56, (side, side), mode="bicubic", align_corners=True)
    first, other = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1).split(1)
    second = first.clone()
    second[..., : side // 3, : side // 3] = other[..., : side // 3, : side // 3]
    return first, second


def moved(picture_1CHW: Tensor, motion: Alignment) -> Tensor:
    """Moved and scaled, in the 256 levels that files have."""
    back = Alignment(
        right=-motion.right / motion.wider,
        down=-motion.down / motion.taller,
        wider=1 / motion.wider,
        taller=1 / motion.taller,
        blocks=0,
    )
    return (registration.undo(picture_1CHW, back) * 255).round() / 255


def whole(normalization: str | None) -> Callable[[Tensor, Tensor], Alignment | None]:
    """scikit-image's shift of the whole picture."""

    def measure(first_1CHW: Tensor, second_1CHW: Tensor) -> Alignment | None:
        grays = [color.luma(each)[0, 0].numpy() for each in (first_1CHW, second_1CHW)]
        (up, left), *_ = phase_cross_correlation(*grays, upsample_factor=FINE, normalization=normalization)
        return Alignment(right=-float(left), down=-float(up), wider=1.0, taller=1.0, blocks=1)

    return measure


def by_blocks(windowed: bool) -> Callable[[Tensor, Tensor], Alignment | None]:
    """editkit's agreement of blocks and least squares, over scikit-image's shifts of the blocks."""

    def shifts(first_NHW: Tensor, second_NHW: Tensor) -> tuple[Tensor, Tensor]:
        height, width = first_NHW.shape[-2:]
        window_HW = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
        found = []
        for pair in zip(first_NHW, second_NHW, strict=True):
            blocks = [((each - each.mean()) * window_HW if windowed else each).numpy() for each in pair]
            shift, *_ = phase_cross_correlation(*blocks, upsample_factor=FINE)
            found.append(-torch.from_numpy(np.asarray(shift, dtype=np.float32)))
        textured_N = torch.minimum(first_NHW.std((1, 2)), second_NHW.std((1, 2))) >= TEXTURE
        return torch.stack(found), textured_N

    def measure(first_1CHW: Tensor, second_1CHW: Tensor) -> Alignment | None:
        own, registration.shifts = registration.shifts, shifts
        try:
            return registration.measure(first_1CHW, second_1CHW)
        finally:
            registration.shifts = own

    return measure


def descent(first_1CHW: Tensor, second_1CHW: Tensor) -> Alignment | None:
    """kornia's registration of the whole picture by gradient descent: shift and one scale."""
    model = Similarity(rotation=False, scale=True, shift=True)
    registrator = ImageRegistrator(model, warper=HomographyWarper)
    matrix_33 = registrator.register(second_1CHW, first_1CHW).detach()[0]
    height, width = first_1CHW.shape[-2:]
    return Alignment(
        right=float(matrix_33[0, 2]) * width / 2,
        down=float(matrix_33[1, 2]) * height / 2,
        wider=float(matrix_33[0, 0]),
        taller=float(matrix_33[1, 1]),
        blocks=1,
    )


WAYS: dict[str, Callable[[Tensor, Tensor], Alignment | None]] = {
    "editkit": registration.measure,
    "scikit-image, whole": whole("phase"),
    "scikit-image, whole, not whitened": whole(None),
    "scikit-image, blocks": by_blocks(windowed=False),
    "scikit-image, blocks, windowed": by_blocks(windowed=True),
    "kornia": descent,
}


def error(found: Alignment, motion: Alignment, side: int) -> float:
    """Pixels between where an edge of the picture is said to be and where it is."""
    across = abs(found.right - motion.right) + abs(found.wider - motion.wider) * side / 2
    along = abs(found.down - motion.down) + abs(found.taller - motion.taller) * side / 2
    return max(across, along)


def motions(count: int, most: float) -> Iterator[Alignment]:
    """Half of them with a scale; `most` is a share of the largest motion."""
    rng = random.Random(0)
    for number in range(count):
        right, down = (rng.uniform(-SHIFT, SHIFT) * most for _ in range(2))
        scale = 1 + rng.uniform(-SCALE, SCALE) * (number % 2) * most
        yield Alignment(right=right, down=down, wider=scale, taller=scale, blocks=0)


def main() -> None:
    """Print a row for each way and kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", type=int, default=100, help="pictures of each kind")
    parser.add_argument("--side", type=int, default=128, help="pixels of their sides")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="Could not determine RMS error")  # of blocks without texture
    print("| pictures | measured by | answers | median error | 95% below | wrong | ms |")
    print("| --- " * 7 + "|")
    kinds = (("scenes", scene, 1.0), ("textures", texture, 1.0), ("scenes, not moved", repainted, 0.0))
    for kind, draw, most in kinds:
        pairs = [
            (first, moved(second, motion), motion)
            for number, motion in enumerate(motions(given.n, most))
            for first, second in [draw(number, given.side)]
        ]
        for name, measure in WAYS.items():
            start = time.perf_counter()
            found = [(measure(first, second), motion) for first, second, motion in pairs]
            seconds = (time.perf_counter() - start) / len(pairs)
            errors = [error(each, motion, given.side) for each, motion in found if each is not None]
            middle, most = np.quantile(errors, (0.5, 0.95)) if errors else (np.nan, np.nan)
            wrong = sum(each > WRONG for each in errors)
            figures = f"{len(errors)} | {middle:.3f} | {most:.3f} | {wrong} | {1000 * seconds:.0f}"
            print(f"| {kind} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
