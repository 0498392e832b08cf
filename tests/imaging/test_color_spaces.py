"""Behaviour: whatever way a file tells its colours, they become sRGB, or a sentence says why not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from editkit.errors import EditkitError
from editkit.imaging import color_spaces, images

Chunk = tuple[bytes, bytes]
SRGB_CURVE = color_spaces.TRANSFERS[13]
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3 = color_spaces.PRIMARIES[12]
LEVELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(rows_HWC: np.ndarray[Any, Any], *chunks: Chunk, depth: int = 8, colour: int = 2) -> Image.Image:
    """A PNG with chunks that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = rows_HWC.shape[:2]
    width = width * depth // 8 if depth < 8 else width
    if depth < 8:
        width = rows_HWC.shape[1] * (8 // depth)
    lines = b"".join(b"\0" + row.astype(f">u{max(1, depth // 8)}").tobytes() for row in rows_HWC)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)))


def linear_of(levels: Any) -> Any:
    return SRGB_CURVE(np.asarray(levels) / 255)


def srgb_of(linear: Any) -> Any:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected(levels: Any, primaries: tuple[float, ...], curve: Any) -> Any:
    """sRGB by the book: two matrices of the same white point, and two curves."""
    matrix = np.linalg.inv(color_spaces.xyz(color_spaces.SRGB)) @ color_spaces.xyz(primaries)
    return srgb_of(curve(np.asarray(levels) / 255) @ matrix.T)


def profile(curve: Any, primaries: tuple[float, ...] = color_spaces.SRGB, name: str = "sRGB") -> bytes:
    """A profile that is called sRGB, whatever it holds."""
    data = bytearray(color_spaces.profile(primaries, curve))
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 80
    count = struct.unpack(">I", data[128:132])[0]
    tags = [struct.unpack(">4sII", data[132 + 12 * n : 144 + 12 * n]) for n in range(count)]
    table = b"".join(struct.pack(">4sII", tag, place + 12, size) for tag, place, size in tags)
    table += struct.pack(">4sII", b"desc", len(data) + 12, len(text))
    whole = bytes(data[:128]) + struct.pack(">I", count + 1) + table + bytes(data[132 + 12 * count :]) + text
    return struct.pack(">I", len(whole)) + whole[4:]


def with_profile(data: bytes) -> Image.Image:
    image = Image.fromarray(LEVELS)
    image.info["icc_profile"] = data
    return image


def exif(space: int | None, index: str | None) -> Image.Image:
    told = Image.Exif()
    inner: dict[int, Any] = {} if space is None else {0xA001: space}
    if index:
        inner[0xA005] = {1: index}
    told[0x8769] = inner
    file = io.BytesIO()
    Image.fromarray(LEVELS).save(file, "PNG", exif=told)
    return Image.open(file)


GAMMA = struct.pack(">I", 55556)
CHROMATICITIES = struct.pack(">8I", *(round(value * 100_000) for value in ADOBE))
CURVES = {"linear": lambda v: v, "gamma 2.2": lambda v: v**2.2, "gamma 1.8": lambda v: v**1.8}

CONVERTED: dict[str, tuple[Any, tuple[float, ...], Any]] = {
    **{
        f"a profile called sRGB with {name}": (lambda c=c: with_profile(profile(c)), color_spaces.SRGB, c)
        for name, c in CURVES.items()
    },
    "a profile called sRGB with wide primaries": (
        lambda: with_profile(profile(SRGB_CURVE, P3, "e-sRGB")),
        P3,
        SRGB_CURVE,
    ),
    "cICP Display P3": (lambda: png(LEVELS, (b"cICP", bytes((12, 13, 0, 1)))), P3, SRGB_CURVE),
    "cICP linear": (
        lambda: png(LEVELS, (b"cICP", bytes((1, 8, 0, 1)))),
        color_spaces.SRGB,
        CURVES["linear"],
    ),
    "cICP before gAMA": (
        lambda: png(LEVELS, (b"gAMA", GAMMA), (b"cICP", bytes((12, 13, 0, 1)))),
        P3,
        SRGB_CURVE,
    ),
    "gAMA of 1.8": (
        lambda: png(LEVELS, (b"gAMA", GAMMA)),
        color_spaces.SRGB,
        lambda v: v ** (1 / 0.55556),
    ),
    "cHRM": (lambda: png(LEVELS, (b"cHRM", CHROMATICITIES)), ADOBE, SRGB_CURVE),
    "EXIF's R03": (lambda: exif(0xFFFF, "R03"), ADOBE, lambda v: v ** (563 / 256)),
    "EXIF's colour space 2": (lambda: exif(2, None), ADOBE, lambda v: v ** (563 / 256)),
}
SPARED: dict[str, Any] = {
    "sRGB's profile": lambda: with_profile(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "sRGB under another name": lambda: with_profile(profile(SRGB_CURVE, name="mine")),
    "sRGB chunk before gAMA": lambda: png(LEVELS, (b"sRGB", b"\0"), (b"gAMA", GAMMA)),
    "sRGB's gAMA": lambda: png(LEVELS, (b"gAMA", struct.pack(">I", 45455))),
    "cICP sRGB": lambda: png(LEVELS, (b"cICP", bytes((1, 13, 0, 1)))),
    "cICP that says nothing": lambda: png(LEVELS, (b"cICP", bytes((2, 2, 0, 1)))),
    "EXIF's sRGB": lambda: exif(1, "R98"),
    "nothing": lambda: png(LEVELS),
}
NOTED: dict[str, tuple[Any, str]] = {
    "no gamma": (lambda: png(LEVELS, (b"gAMA", bytes(4))), "gamma"),
    "no primaries": (lambda: png(LEVELS, (b"cHRM", bytes(32))), "chromaticities"),
    "unknown cICP": (lambda: png(LEVELS, (b"cICP", bytes((77, 13, 0, 1)))), "77"),
    "narrow range": (lambda: png(LEVELS, (b"cICP", bytes((1, 13, 0, 0)))), "range"),
    "uncalibrated": (lambda: exif(0xFFFF, None), "uncalibrated"),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_colours_of_other_spaces_become_srgb(case: str) -> None:
    make, primaries, curve = CONVERTED[case]
    picture = images.load_image(make())
    assert np.abs(picture.rgb - expected(LEVELS, primaries, curve)).max() <= 2
    assert np.abs(picture.rgb.astype(int) - LEVELS).max() > 5
    assert picture.notes == ()


@pytest.mark.parametrize("case", SPARED)
def test_srgb_is_kept_exactly(case: str) -> None:
    picture = images.load_image(SPARED[case]())
    assert np.array_equal(picture.rgb, LEVELS)
    assert picture.notes == ()


@pytest.mark.parametrize("case", [*CONVERTED, *NOTED])
def test_a_picture_that_was_decoded_is_decoded_alike_again(case: str) -> None:
    make = CONVERTED[case][0] if case in CONVERTED else NOTED[case][0]
    image = make()
    first, again = images.load_image(image), images.load_image(image)
    assert np.array_equal(first.rgb, again.rgb)
    assert first.notes == again.notes


@pytest.mark.parametrize("case", NOTED)
def test_what_cannot_be_used_is_noted(case: str) -> None:
    make, words = NOTED[case]
    picture = images.load_image(make())
    assert np.array_equal(picture.rgb, LEVELS)
    assert words in " ".join(picture.notes)


@pytest.mark.parametrize("transfer", [16, 18])
def test_pictures_of_high_dynamic_range_are_refused(transfer: int) -> None:
    image = png(LEVELS, (b"cICP", bytes((9, transfer, 0, 1))))
    for _ in range(2):
        with pytest.raises(EditkitError, match="high dynamic range"):
            images.load_image(image)


def test_avif_says_it_as_png_does() -> None:
    file = io.BytesIO()
    Image.fromarray(LEVELS).save(file, "AVIF", quality=100, subsampling="4:4:4")
    data = file.getvalue()
    place = data.index(b"colrnclx") + 8
    plain = images.load_image(Image.open(io.BytesIO(data))).rgb
    image = Image.open(io.BytesIO(data[:place] + b"\0\x0c\0\x0d" + data[place + 4 :]))
    for _ in range(2):  # the second time it is decoded already
        wide = images.load_image(image).rgb
        assert np.abs(wide - expected(plain, P3, SRGB_CURVE)).max() <= 2


def test_gray_of_16_bits_follows_its_profile() -> None:
    levels = np.arange(0, 256, 17)[None]
    picture = images.load_image(png(257 * levels, (b"gAMA", GAMMA), depth=16, colour=0))
    assert np.abs(picture.rgb[..., 0] - srgb_of((levels / 255) ** 1.8)).max() <= 2


@pytest.mark.parametrize(
    ("depth", "colour", "row", "clear"),
    [
        (16, 0, [[1000, 40000, 1001]], [1000]),
        (16, 2, [[[1000, 2000, 3000], [40000, 5, 6], [9999, 2000, 3000]]], [1000, 2000, 3000]),
        (2, 0, [[0b00_01_10_11]], [0]),
        (4, 0, [[0x5F]], [5]),
        (8, 0, [[5, 6, 7]], [5]),
    ],
)
def test_a_clear_colour_is_clear_at_every_depth(depth: int, colour: int, row: Any, clear: list[int]) -> None:
    told = (b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    image = png(np.array(row), told, depth=depth, colour=colour)
    for _ in range(2):  # the second time it is decoded already
        picture = images.load_image(image)
        assert picture.alpha is not None
        first, *others = picture.alpha[0].tolist()
        assert first == 0
        assert set(others) == {255}
