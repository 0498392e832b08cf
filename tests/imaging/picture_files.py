"""Pictures as files: good, odd and damaged ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

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
