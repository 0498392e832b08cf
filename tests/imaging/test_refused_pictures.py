"""Pictures that cannot be read, and what is said of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import images
from tests.imaging.picture_files import (
    Make,
    encoded,
    noise,
    png,
    scene,
    stored,
    written,
)


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
    "wrong type": (lambda p: 7, "of type int"),
    "bytes": (lambda p: b"a.png", "bytes"),
    "number": (lambda p: 7, "int"),
}


@pytest.mark.parametrize("case", BAD)
def test_load_refuses(case: str, tmp_path: Path) -> None:
    make, words = BAD[case]
    given = make(tmp_path)
    with pytest.raises(EditkitError) as caught:
        images.load_image(given, "reference")
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
            images.load_image(path)
    finally:
        os.seteuid(user)
