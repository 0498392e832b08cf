"""Good and bad pictures, masks and outputs, all of them real files."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance

ROOT = Path(__file__).resolve().parent.parent
RED, GREEN, BLUE = (200, 30, 20), (10, 180, 40), (0, 20, 220)

Make = Callable[[Path], Any]


def scene(mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    """Green, with a red pixel at the top left and blue at the bottom right."""
    image = Image.new("RGB", size, GREEN)
    image.putpixel((0, 0), RED)
    image.putpixel((size[0] - 1, size[1] - 1), BLUE)
    return image.convert(mode)


def noise(size: tuple[int, int] = (64, 64)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def gray_row(values: list[int]) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint8))


def gray16(values: list[int]) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


def stored(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def palette(transparency: int | bytes | None = None) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def with_alpha(mode: str) -> Image.Image:
    image = scene(mode)
    image.putalpha(Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10))
    return image


def profile(colours: str = "RGB ", **renamed: str) -> bytes:
    """The sRGB profile, under another name, with some of its tags renamed."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[16:20] = colours.encode()
    for entry in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12):
        tag = data[entry : entry + 4].decode()
        data[entry : entry + 4] = renamed.get(tag, tag).encode()
    return bytes(data).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))


def swapped_profile() -> bytes:
    """Red and blue have changed places."""
    return profile(rXYZ="bXYZ", bXYZ="rXYZ")


def animated(path: Path) -> Path:
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, GREEN, BLUE)]
    return stored(frames[0], path / "a.gif", save_all=True, append_images=frames[1:])


def float_tiff(path: Path, values: list[float]) -> Path:
    return stored(Image.fromarray(np.array([values], dtype=np.float32)), path / "f.tif")


def rgb16(path: Path) -> Path:
    return written(path / "a.png", png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 65535, 0, 32896, 257, 514, 0)))


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
    picture = images.load(make(tmp_path))
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == (picture.size[1], picture.size[0], 3)
    assert [tuple(pixel) for pixel in picture.rgb[0, : len(top_row)].tolist()] == top_row
    assert picture.alpha is None
    assert note in " ".join(picture.notes)
    assert bool(note) == bool(picture.notes)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)], ids=str)
def test_load_keeps_extreme_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    assert images.load(stored(Image.new("RGB", size, RED), tmp_path / "a.png")).size == size


def test_load_cmyk_jpeg(tmp_path: Path) -> None:
    picture = images.load(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95))
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
    picture = images.load(make(tmp_path))
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
    picture = images.load(stored(image, tmp_path / f"a.{suffix}", exif=exif))
    assert picture.size == ((32, 64) if orientation > 4 else (64, 32))
    assert picture.rgb[corner].max() < 16
    others = {(0, 0), (0, -1), (-1, 0), (-1, -1)} - {corner}
    assert min(int(picture.rgb[other].min()) for other in others) > 240


def test_load_turns_alpha_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = images.load(stored(with_alpha("RGB"), tmp_path / "a.png", exif=exif))
    assert picture.alpha is not None
    assert picture.alpha[-1, -1] == 0
    assert tuple(picture.rgb[-1, -1]) == RED


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_load_converts_icc_to_srgb(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 2), (204, 51, 0)).convert(mode)
    picture = images.load(stored(image, tmp_path / "a.png", icc_profile=swapped_profile()))
    assert np.abs(picture.rgb.astype(int) - (0, 51, 204)).max() <= 2
    assert picture.notes == ()


def test_load_leaves_srgb_exact(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = images.load(stored(noise(), tmp_path / "a.png", icc_profile=srgb))
    assert np.array_equal(picture.rgb, np.asarray(noise()))


def test_load_leaves_the_given_image_alone() -> None:
    image = with_alpha("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    before = image.tobytes()
    assert images.load(image).size == (4, 6)
    assert (image.size, image.mode, image.tobytes()) == ((6, 4), "RGBA", before)


def closed_image(path: Path) -> Image.Image:
    image = Image.open(stored(noise(), path / "a.png"))
    image.close()
    return image


BAD: dict[str, tuple[Make, str]] = {
    "missing": (lambda p: p / "none.png", "No such file"),
    "missing folder": (lambda p: p / "none" / "none.png", "No such file"),
    "below a file": (lambda p: written(p / "file", b"x") / "a.png", "Not a directory"),
    "folder": (lambda p: p, "directory"),
    "name too long": (lambda p: p / ("x" * 300 + ".png"), "too long"),
    "empty": (lambda p: written(p / "a.png", b""), "empty file"),
    "text": (lambda p: written(p / "a.png", b"this is a letter\n" * 20), "no known picture format"),
    "cut in the header": (
        lambda p: written(p / "a.png", encoded(noise(), "PNG")[:12]),
        "no known picture format",
    ),
    "truncated png": (
        lambda p: written(p / "a.png", encoded(noise(), "PNG")[:3000]),
        "damaged",
    ),
    "truncated jpeg": (lambda p: written(p / "a.jpg", encoded(noise(), "JPEG")[:2000]), "truncated"),
    "truncated webp": (lambda p: written(p / "a.webp", encoded(noise(), "WEBP")[:900]), "."),
    "truncated gif": (
        lambda p: written(p / "a.gif", encoded(noise(), "GIF")[:1500]),
        "damaged",
    ),
    "truncated tiff": (
        lambda p: written(p / "a.tif", encoded(noise(), "TIFF")[:1500]),
        "damaged",
    ),
    "damaged png": (
        lambda p: written(p / "a.png", encoded(noise(), "PNG").replace(b"IDAT", b"IDAT\xff\xff")),
        "damaged",
    ),
    "60000x60000": (lambda p: written(p / "a.png", png(60000, 60000, 8, 2, b"")), "100,000,000"),
    "10001x10000": (lambda p: written(p / "a.png", png(10001, 10000, 8, 0, b"")), "10001x10000"),
    "two million wide": (lambda p: written(p / "a.png", png(2_000_000, 60, 1, 0, b"")), "2000000x60"),
    "zero size": (lambda p: Image.new("RGB", (0, 5)), "0x5"),
    "closed image": (closed_image, "damaged"),
    "none": (lambda p: None, "NoneType"),
    "array": (lambda p: np.zeros((2, 2, 3)), "ndarray"),
    "bytes": (lambda p: b"a.png", "bytes"),
    "number": (lambda p: 7, "int"),
}


@pytest.mark.parametrize("case", BAD)
def test_load_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD[case]
    given = make(tmp_path)
    with pytest.raises(EditkitError) as caught:
        images.load(given, "reference")
    message = str(caught.value)
    assert message.startswith("The reference ")
    assert words in message
    assert message.endswith(".")
    assert "\n" not in message


def test_load_refuses_what_may_not_be_read(tmp_path: Path) -> None:
    pytest.importorskip("pwd")
    path = stored(scene(), tmp_path / "a.png")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(EditkitError, match="Permission denied"):
            images.load(path)
    finally:
        os.seteuid(user)


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
    values = images.load_mask(make(tmp_path), (len(expected), 1))
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
    "wrong type": (lambda p: np.ones((1, 2)), "ndarray"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_load_mask_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD_MASKS[case]
    with pytest.raises(EditkitError, match=words) as caught:
        images.load_mask(make(tmp_path), (2, 1))
    assert str(caught.value).startswith("The mask ")


def test_tensor_and_picture_are_inverse() -> None:
    source = with_alpha("RGB")
    loaded = images.load(source)
    pixels = images.tensor(loaded)
    assert pixels.shape == (1, 3, 4, 6)
    assert (pixels.dtype, pixels.is_contiguous()) == (torch.float32, True)
    assert images.picture(pixels, loaded.alpha).tobytes() == source.tobytes()
    assert images.picture(pixels[0]).mode == "RGB"


@pytest.mark.parametrize(
    ("value", "level"),
    [(-1.0, 0), (0.0, 0), (0.5 / 255, 1), (2.5 / 255, 3), (2.4 / 255, 2), (0.5, 128), (1.0, 255), (7.0, 255)],
)
def test_picture_rounds_half_up(value: float, level: int) -> None:
    assert images.picture(torch.full((3, 1, 1), value)).getpixel((0, 0)) == (level,) * 3


def test_picture_takes_half_precision_and_gradients() -> None:
    pixels = torch.ones(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert images.picture(pixels).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "A.PNG"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_save_keeps_pixels(mode: str, name: str, tmp_path: Path) -> None:
    image = with_alpha("RGB") if mode == "RGBA" else noise()
    images.save(image, tmp_path / name)
    with Image.open(tmp_path / name) as again:
        assert (again.mode, again.tobytes()) == (mode, image.tobytes())


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG"])
def test_save_jpeg_shows_clear_as_white(name: str, tmp_path: Path) -> None:
    images.save(Image.new("RGBA", (8, 8), (*RED, 0)), tmp_path / name)
    with Image.open(tmp_path / name) as again:
        assert (again.format, again.mode, again.getpixel((4, 4))) == ("JPEG", "RGB", (255, 255, 255))


def test_save_makes_folders_and_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.png"
    for colour in (RED, BLUE):
        images.save(Image.new("RGB", (2, 2), colour), str(path))
        assert tuple(images.load(path).rgb[0, 0]) == colour
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_save_follows_the_umask(tmp_path: Path) -> None:
    images.save(scene(), tmp_path / "a.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def a_folder(path: Path) -> Path:
    (path / "folder.png").mkdir()
    return path / "folder.png"


BAD_OUTPUTS: dict[str, tuple[Make, Image.Image, str]] = {
    "unknown suffix": (lambda p: p / "a.tiff", scene(), ".png, .webp, .jpg, .jpeg"),
    "no suffix": (lambda p: p / "a", scene(), "must end in"),
    "empty name": (lambda p: "", scene(), "must end in"),
    "a folder": (a_folder, scene(), "directory"),
    "below a file": (lambda p: written(p / "file", b"x") / "a.png", scene(), "cannot be written"),
    "deep below a file": (lambda p: written(p / "file", b"x") / "b" / "a.png", scene(), "cannot be written"),
    "name too long": (lambda p: p / ("x" * 300 + ".png"), scene(), "too long"),
    "kernel's folder": (lambda p: "/proc/editkit/a.png", scene(), "cannot be written"),
    "too wide for webp": (lambda p: p / "a.webp", Image.new("RGB", (16384, 1)), "16383"),
    "too wide for jpeg": (lambda p: p / "a.jpg", Image.new("RGB", (65536, 1)), "format"),
    "float as png": (lambda p: p / "a.png", Image.new("F", (2, 2)), "mode F"),
    "zero size": (lambda p: p / "a.png", Image.new("RGB", (0, 2)), "cannot be written"),
}


@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_save_refuses(case: str, tmp_path: Path) -> None:
    make, image, words = BAD_OUTPUTS[case]
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EditkitError) as caught:
        images.save(image, path)
    message = str(caught.value)
    assert message.startswith("The output ")
    assert words in message
    assert message.endswith(".")
    assert sorted(tmp_path.rglob("*")) == before


def test_save_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: the kernel refuses the write half way."""
    pytest.importorskip("resource")
    path = tmp_path / "a.png"
    images.save(scene(), path)
    old = path.read_bytes()
    script = (
        "import resource, sys; from PIL import Image\n"
        "from editkit import errors; from editkit.imaging import images\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: images.save(Image.effect_noise((128, 128), 99).convert('RGB'), sys.argv[1])\n"
        "except errors.EditkitError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert os.strerror(errno.EFBIG) in run.stdout
    assert "free some space" in run.stdout
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_recipe_round_trip(tmp_path: Path) -> None:
    made = provenance.make(
        method="kontext", instruction="make it größer 🙂", seed=7, size=(64, 32), mask=None
    )
    images.save(with_alpha("RGB"), tmp_path / "a.png", made)
    assert provenance.read(tmp_path / "a.png") == made
    assert made["size"] == [64, 32]
    assert made["versions"]["python"] == sys.version.split()[0]
    assert made["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def chunk_of(text: str) -> Make:
    def make(path: Path) -> Path:
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("editkit", text)
        return stored(scene(), path / "a.png", pnginfo=chunks)

    return make


BAD_RECIPES: dict[str, tuple[Make, str]] = {
    "missing": (lambda p: p / "a.png", "No such file"),
    "text": (lambda p: written(p / "a.png", b"hello"), "no known picture format"),
    "plain png": (lambda p: stored(scene(), p / "a.png"), "holds no recipe"),
    "jpeg": (lambda p: stored(scene(), p / "a.jpg"), "holds no recipe"),
    "not json": (chunk_of("{seed: 7"), "holds no recipe"),
    "not a mapping": (chunk_of("[7]"), "holds no recipe"),
}


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_recipe_read_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD_RECIPES[case]
    with pytest.raises(EditkitError, match=words):
        provenance.read(make(tmp_path))


def test_sha256_follows_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "weights.safetensors", b"abc")
    first = atomic_files.sha256(path)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert atomic_files.sha256(str(path)) == first
    written(path, b"abcd")
    assert atomic_files.sha256(path) != first
    with pytest.raises(EditkitError, match="weights"):
        atomic_files.sha256(tmp_path / "none")
