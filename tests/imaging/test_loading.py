"""Pictures that are read: modes, depths, alpha, orientation, colour profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from editkit.imaging import images
from tests.imaging.picture_files import (
    GREEN,
    RED,
    Make,
    animated,
    float_tiff,
    gray16,
    gray_row,
    noise,
    palette,
    profile,
    rgb16,
    scene,
    stored,
    swapped_profile,
    with_alpha,
)

GOOD: dict[str, tuple[Make, list[Any], str]] = {
    "rgb png": (lambda p: stored(scene(), p / "a.png"), [RED, GREEN], ""),
    "path as text": (lambda p: str(stored(scene(), p / "a.png")), [RED, GREEN], ""),
    "name without suffix": (lambda p: stored(scene(), p / "a", format="PNG"), [RED, GREEN], ""),
    "wrong suffix": (lambda p: stored(scene(), p / "a.jpg", format="PNG"), [RED, GREEN], ""),
    "lossless webp": (lambda p: stored(scene(), p / "a.webp", lossless=True), [RED, GREEN], ""),
    "bmp": (lambda p: stored(scene(), p / "a.bmp"), [RED, GREEN], ""),
    "pil image": (lambda p: scene(), [RED, GREEN], ""),
    "hsv in memory": (lambda p: Image.new("HSV", (2, 1)), [(0, 0, 0)] * 2, ""),
    "1x1": (lambda p: stored(Image.new("RGB", (1, 1), RED), p / "a.png"), [RED], ""),
    "gray": (lambda p: stored(Image.new("L", (2, 1), 77), p / "a.png"), [(77, 77, 77)] * 2, ""),
    "one bit": (lambda p: stored(Image.new("1", (2, 1), 1), p / "a.png"), [(255, 255, 255)] * 2, ""),
    "16-bit gray": (
        lambda p: stored(gray16([0, 128, 129, 32896, 65535]), p / "a.png"),
        [(v, v, v) for v in (0, 0, 1, 128, 255)],
        "",
    ),
    "16-bit gray tiff": (
        lambda p: stored(gray16([0, 257, 65535]), p / "a.tif"),
        [(v, v, v) for v in (0, 1, 255)],
        "",
    ),
    "16-bit big-endian in memory": (
        lambda p: Image.frombytes("I;16B", (2, 1), b"\x80\x80\xff\xff"),
        [(128, 128, 128), (255, 255, 255)],
        "",
    ),
    "16-bit rgb": (rgb16, [(255, 0, 128), (1, 2, 0)], ""),
    "32-bit values of 16": (
        lambda p: Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.int32)),
        [(v, v, v) for v in (0, 128, 255)],
        "0 to 65535",
    ),
    "32-bit values of 8": (
        lambda p: Image.fromarray(np.array([[-5, 7, 255]], dtype=np.int32)),
        [(v, v, v) for v in (0, 7, 255)],
        "0 to 255",
    ),
    "float of 1": (lambda p: float_tiff(p, [0, 0.5, 1]), [(v, v, v) for v in (0, 128, 255)], "0 to 1"),
    "float of 255": (lambda p: float_tiff(p, [0, 7, 255]), [(v, v, v) for v in (0, 7, 255)], "0 to 255"),
    "float beyond its range": (
        lambda p: float_tiff(p, [-0.1, 1.1, float("nan")]),
        [(v, v, v) for v in (0, 255, 0)],
        "0 to 1",
    ),
    "float without light": (lambda p: float_tiff(p, [0, 0]), [(0, 0, 0)] * 2, "0 to 1"),
    "cmyk in memory": (lambda p: Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [(255, 0, 0)], ""),
    "palette": (lambda p: stored(palette(), p / "a.png"), [RED, GREEN], ""),
    "animated gif": (animated, [RED, RED], "only the first of 3 frames"),
    "broken icc": (
        lambda p: stored(scene(), p / "a.png", icc_profile=b"no profile at all"),
        [RED, GREEN],
        "colour profile",
    ),
    "icc of another colour space": (
        lambda p: stored(scene(), p / "a.png", icc_profile=profile("GRAY", rTRC="kTRC")),
        [RED, GREEN],
        "colour profile",
    ),
    "gray with gray icc": (
        lambda p: stored(gray_row([0, 77, 255]), p / "a.png", icc_profile=profile("GRAY", rTRC="kTRC")),
        [(v, v, v) for v in (0, 77, 255)],
        "",
    ),
    "gray with rgb icc": (
        lambda p: stored(gray_row([0, 77, 255]), p / "a.png", icc_profile=swapped_profile()),
        [(v, v, v) for v in (0, 77, 255)],
        "",
    ),
    "phone's jpeg with a preview": (
        lambda p: stored(gray_row([9] * 8), p / "a.mpo", save_all=True, append_images=[scene()]),
        [(9, 9, 9)],
        "",
    ),
    "broken exif": (lambda p: stored(scene(), p / "a.png", exif=b"Exif\0\0nothing"), [RED, GREEN], ""),
}


@pytest.mark.parametrize("case", GOOD)
def test_load(case: str, tmp_path: Path) -> None:
    make, top_row, note = GOOD[case]
    picture = images.load_image(make(tmp_path))
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == (picture.size[1], picture.size[0], 3)
    assert [tuple(pixel) for pixel in picture.rgb[0, : len(top_row)].tolist()] == top_row
    assert picture.alpha is None
    assert note in " ".join(picture.notes)
    assert bool(note) == bool(picture.notes)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)], ids=str)
def test_load_keeps_extreme_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    assert images.load_image(stored(Image.new("RGB", size, RED), tmp_path / "a.png")).size == size


def test_load_cmyk_jpeg(tmp_path: Path) -> None:
    picture = images.load_image(
        stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)
    )
    assert np.abs(picture.rgb.astype(int) - (255, 0, 0)).max() <= 3
    assert picture.mode == "CMYK"


ALPHA: dict[str, tuple[Make, list[int], list[Any]]] = {
    "rgba": (lambda p: stored(with_alpha("RGB"), p / "a.png"), [0, 10, 20], [RED, GREEN]),
    "rgba webp": (
        lambda p: stored(with_alpha("RGB"), p / "a.webp", lossless=True, exact=True),
        [0, 10],
        [RED],
    ),
    "la": (lambda p: stored(with_alpha("L"), p / "a.png"), [0, 10, 20], []),
    "opaque rgba": (lambda p: scene("RGBA"), [255, 255], [RED, GREEN]),
    "palette with one clear colour": (lambda p: stored(palette(1), p / "a.png"), [255, 0], [RED, GREEN]),
    "palette with opacities": (
        lambda p: stored(palette(), p / "a.png", transparency=b"\x80\x40"),
        [128, 64],
        [RED, GREEN],
    ),
    "gif with a clear colour": (lambda p: stored(palette(1), p / "a.gif"), [255, 0], [RED]),
    "rgb with a clear colour": (
        lambda p: stored(scene(), p / "a.png", transparency=RED),
        [0, 255],
        [RED, GREEN],
    ),
}


@pytest.mark.parametrize("case", ALPHA)
def test_load_keeps_alpha(case: str, tmp_path: Path) -> None:
    make, opacities, colours = ALPHA[case]
    picture = images.load_image(make(tmp_path))
    assert picture.alpha is not None
    assert picture.alpha.shape == picture.rgb.shape[:2]
    assert picture.alpha[0, : len(opacities)].tolist() == opacities
    assert [tuple(pixel) for pixel in picture.rgb[0, : len(colours)].tolist()] == colours


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    # Where the stored top left pixel is seen, as (row, column).
    list(enumerate([(0, 0), (0, -1), (-1, -1), (-1, 0)] * 2, start=1)),
)
def test_load_turns_upright(orientation: int, corner: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = images.load_image(stored(image, tmp_path / f"a.{suffix}", exif=exif))
    assert picture.size == ((32, 64) if orientation > 4 else (64, 32))
    assert picture.rgb[corner].max() < 16
    others = {(0, 0), (0, -1), (-1, 0), (-1, -1)} - {corner}
    assert min(int(picture.rgb[other].min()) for other in others) > 240


def test_load_turns_alpha_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = images.load_image(stored(with_alpha("RGB"), tmp_path / "a.png", exif=exif))
    assert picture.alpha is not None
    assert picture.alpha[-1, -1] == 0
    assert tuple(picture.rgb[-1, -1]) == RED


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_load_converts_icc_to_srgb(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 2), (204, 51, 0)).convert(mode)
    picture = images.load_image(stored(image, tmp_path / "a.png", icc_profile=swapped_profile()))
    assert np.abs(picture.rgb.astype(int) - (0, 51, 204)).max() <= 2
    assert picture.notes == ()


def test_load_leaves_srgb_exact(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = images.load_image(stored(noise(), tmp_path / "a.png", icc_profile=srgb))
    assert np.array_equal(picture.rgb, np.asarray(noise()))


def test_load_leaves_the_given_image_alone() -> None:
    image = with_alpha("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    before = image.tobytes()
    assert images.load_image(image).size == (4, 6)
    assert (image.size, image.mode, image.tobytes()) == ((6, 4), "RGBA", before)
