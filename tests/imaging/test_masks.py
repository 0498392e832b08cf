"""Masks that are read, and what is refused as one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

import editkit
from editkit.errors import EditkitError, EditkitWarning
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
    values = masks.load_mask(make(tmp_path), (len(expected), 1)).values_HW
    assert values.dtype == np.float32
    assert values.tolist() == [pytest.approx(expected)]


def circle(blur: float = 0.0, clear: bool = False) -> Image.Image:
    """A white circle on black, or an opaque one on clear."""
    image = Image.new("L", (96, 96))
    ImageDraw.Draw(image).ellipse((20, 20, 76, 76), fill=255)
    image = image.filter(ImageFilter.GaussianBlur(blur))
    if not clear:
        return image
    coloured = Image.new("RGB", image.size, RED)
    coloured.putalpha(image)
    return coloured


NOTES: dict[str, tuple[Callable[[], Image.Image], list[str]]] = {
    "two values": (circle, []),
    "soft edges": (lambda: circle(0.5), []),
    "a wide ramp": (
        lambda: circle(9),
        [r"\d+% of the mask, read by its brightness, .* nor black; more than"],
    ),
    "white": (lambda: Image.new("L", (96, 96), 255), ["read by its brightness, is white everywhere"]),
    "opacity": (lambda: circle(clear=True), ["read by its opacity: .* where it is opaque"]),
    "a ramp of opacity": (
        lambda: circle(9, clear=True),
        ["read by its opacity: ", r"\d+% of the mask, read by its opacity, is neither opaque nor clear"],
    ),
    "opaque": (lambda: circle().convert("RGBA"), []),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes_tell_the_reading(case: str) -> None:
    make, words = NOTES[case]
    told = masks.load_mask(make(), (96, 96)).notes
    assert len(told) == len(words)
    assert all(re.search(*pair) for pair in zip(words, told, strict=True)), told


def test_what_was_decided_on_its_pixels_is_told_too(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), 255), Image.new("L", (4, 4), 0)]
    frames[0].save(tmp_path / "m.tif", save_all=True, append_images=frames[1:])
    assert "the mask: only the first of 2 frames is used" in masks.load_mask(tmp_path / "m.tif", (4, 4)).notes


def test_an_edit_warns_once_of_its_mask(random_flux) -> None:
    editor = editkit.Editor(random_flux)
    with pytest.warns(EditkitWarning) as caught:
        editor.edit(circle(), "make the circle red", mask=circle(clear=True), references=[circle()], steps=1)
    assert sum("read by its opacity" in str(warning.message) for warning in caught) == 1


BAD_MASKS: dict[str, tuple[Make, str]] = {
    "missing": (lambda p: p / "m.png", "No such file"),
    "wrong size": (lambda p: Image.new("L", (3, 2), 255), "3x2 pixels, the image 2x1"),
    "sides swapped": (
        lambda p: stored(Image.new("L", (1, 2), 255), p / "m.png"),
        "1x2 pixels, the",
    ),
    "cmyk": (lambda p: Image.new("CMYK", (2, 1)), "CMYK"),
    "ycbcr": (lambda p: Image.new("YCbCr", (2, 1)), "YCbCr"),
    "black": (lambda p: stored(gray_row([0, 0]), p / "m.png"), "0% white, read by its brightness"),
    "zeros and ones": (lambda p: gray_row([0, 1]), "0% white"),
    "opaque black": (lambda p: strokes((0, 0, 0), [255, 255]), "0% white"),
    "clear white": (lambda p: strokes((255, 255, 255), [0, 0]), "0% white"),
    "wrong type": (lambda p: 7, "of type int"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_load_mask_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD_MASKS[case]
    with pytest.raises(EditkitError, match=words) as caught:
        masks.load_mask(make(tmp_path), (2, 1))
    assert str(caught.value).startswith("The mask ")
