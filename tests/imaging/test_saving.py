"""Tensors as pictures, and pictures as files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import images
from tests import ROOT
from tests.imaging.picture_files import BLUE, RED, Make, noise, scene, with_alpha, written


def test_tensor_and_picture_are_inverse() -> None:
    source = with_alpha("RGB")
    loaded = images.load_image(source)
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
        assert tuple(images.load_image(path).rgb[0, 0]) == colour
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
