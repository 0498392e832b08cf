"""Draw the samples of the page, pictures of held-out seeds of ShapesWorld, into demos/samples."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demos.pictures import PAINT
from editkit import shapesworld
from editkit.imaging import images
from editkit.shapesworld.masked import masked_example

FOLDER = Path(__file__).parent / "samples"
EDITS = {
    "remove": ("remove", 106),
    "replace": ("replace", 104),
    "add": ("add", 108),
    "move": ("move", 105),
    "background": ("background", 101),
    "gray": ("style", 102),
    "letter": ("letter", 110),
    "character": ("character reference", 100),
    "in_style": ("style reference", 102),
}
"""Kind and seed by the name of the file."""
OPACITY = 0.7
"""Of the paint in the pictures that show it."""
MASKED = {"painted": ("local editing", 104), "brought_in": ("local reference", 105)}


def main() -> None:
    """Write the pictures and print the instructions that belong to them."""
    for name, (kind, seed) in EDITS.items():
        example = shapesworld.example(seed, kind)
        assert example.source is not None
        _save(name, shapesworld.render(example.source))
        print(f"{name}: {example.instruction}")
    for name, (kind, seed) in MASKED.items():
        masked = masked_example(seed, kind)
        assert masked.source is not None
        assert masked.mask is not None
        picture = shapesworld.render(masked.source)
        _save(name, picture)
        paint = np.zeros((*masked.mask.shape, 4), np.uint8)
        paint[masked.mask > 0] = [*bytes.fromhex(PAINT.removeprefix("#")), 255]
        images.save(Image.fromarray(paint), FOLDER / f"{name}-paint.png")
        shown = np.where(
            masked.mask[..., None] > 0, OPACITY * paint[..., :3] + (1 - OPACITY) * picture, picture
        )
        _save(f"{name}-shown", shown.astype(np.uint8))
        for reference in masked.references:
            _save(f"{name}-reference", shapesworld.render(reference))
        print(f"{name}: {masked.instruction}")


def _save(name: str, pixels: NDArray[np.uint8]) -> None:
    images.save(Image.fromarray(pixels), FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
