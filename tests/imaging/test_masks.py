"""Masks that are read, and what is refused as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import masks
from tests.imaging.picture_files import RED, Make, float_tiff, gray16, gray_row, stored


def strokes(colour: tuple[int, int, int], opacities: list[int]) -> Image.Image:
    image = Image.new("RGB", (len(opacities), 1), colour)
    image.putalpha(Image.fromarray(np.array([opacities], dtype=np.uint8)))
    return image


def white_on_clear() -> Image.Image:
    return Image.fromarray(np.array([[[255, 255, 255, 255], [0, 0, 0, 0]]], dtype=np.uint8))


MASKS: dict[str, tuple[Make, list[float]]] = {
    "one bit": (lambda p: stored(gray_row([0, 255]).convert("1"), p / "m.png"), [0, 1]),
    "gray": (lambda p: stored(gray_row([0, 51, 255]), p / "m.png"), [0, 0.2, 1]),
    "16 bits": (lambda p: stored(gray16([0, 13107, 65535]), p / "m.png"), [0, 0.2, 1]),
    "rgb": (lambda p: stored(gray_row([0, 255]).convert("RGB"), p / "m.png"), [0, 1]),
    "palette": (lambda p: stored(gray_row([0, 255]).convert("P"), p / "m.png"), [0, 1]),
    "float": (lambda p: float_tiff(p, [0, 1]), [0, 1]),
    "opaque rgba": (lambda p: stored(gray_row([0, 255]).convert("RGBA"), p / "m.png"), [0, 1]),
    "opaque white": (lambda p: strokes((255, 255, 255), [255, 255]), [1, 1]),
    "black strokes on clear": (lambda p: strokes((0, 0, 0), [0, 51, 255]), [0, 0.2, 1]),
    "red strokes on clear": (lambda p: stored(strokes(RED, [255, 0]), p / "m.png"), [1, 0]),
    "white strokes on clear black": (lambda p: white_on_clear(), [1, 0]),
}


@pytest.mark.parametrize("case", MASKS)
def test_load_mask(case: str, tmp_path: Path) -> None:
    make, expected = MASKS[case]
    values = masks.load(make(tmp_path), (len(expected), 1))
    assert values.dtype == np.float32
    assert values.tolist() == [pytest.approx(expected)]


BAD_MASKS: dict[str, tuple[Make, str]] = {
    "missing": (lambda p: p / "m.png", "No such file"),
    "wrong size": (lambda p: Image.new("L", (3, 2), 255), "3x2 pixels, the image 2x1"),
    "sides swapped": (
        lambda p: stored(Image.new("L", (1, 2), 255), p / "m.png"),
        "1x2 pixels, the",
    ),
    "cmyk": (lambda p: Image.new("CMYK", (2, 1)), "CMYK"),
    "ycbcr": (lambda p: Image.new("YCbCr", (2, 1)), "YCbCr"),
    "black": (lambda p: stored(gray_row([0, 0]), p / "m.png"), "0% white"),
    "zeros and ones": (lambda p: gray_row([0, 1]), "0% white"),
    "opaque black": (lambda p: strokes((0, 0, 0), [255, 255]), "0% white"),
    "clear white": (lambda p: strokes((255, 255, 255), [0, 0]), "0% white"),
    "wrong type": (lambda p: 7, "of type int"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_load_mask_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD_MASKS[case]
    with pytest.raises(EditkitError, match=words) as caught:
        masks.load(make(tmp_path), (2, 1))
    assert str(caught.value).startswith("The mask ")
