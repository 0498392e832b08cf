"""Law: sources, references, masks and training pictures are read alike: upright, as sRGB, from any depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit import EditRequest
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.imaging import color_spaces, images
from editkit.inference.inputs import prepare

SIZE = (48, 32)
LEVELS = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS.transpose(1, 0, 2)).save(path, exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE[::-1])).save(path)


def wide(path: Path) -> None:
    profile = color_spaces.profile(color_spaces.PRIMARIES[12], color_spaces.srgb)
    Image.fromarray(LEVELS).save(path, icc_profile=profile)


FILES: dict[str, Callable[[Path], None]] = {"turned": turned, "deep": deep, "wide": wide}


@pytest.fixture(params=FILES)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A file that asks for a decision, and a plain one of what is seen in it."""
    asks, plain = tmp_path / "asks.png", tmp_path / "plain.png"
    FILES[request.param](asks)
    seen = images.flatten(images.load_image(asks))
    bare = np.asarray(Image.open(asks).convert("RGB"))
    assert seen.shape != bare.shape or np.abs(seen.astype(int) - bare).max() > 5
    Image.fromarray(seen).save(plain)
    return asks, plain


def test_pictures_of_a_request(written: tuple[Path, Path]) -> None:
    told = []
    for path in written:
        given = prepare(
            EditRequest(image=path, instruction="x", references=(path,), mask=path, preserve=True)
        ).inputs
        told.append((given.source_BCHW, *given.references, given.mask_B1HW))
    for asked, plain in zip(*told, strict=True):
        assert asked is not None
        assert asked.shape == plain.shape
        assert np.abs(asked.numpy() - plain.numpy()).max() <= 1 / 255


def test_pictures_of_training(written: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [
        {"instruction": "x", "references": [path.name]}
        | dict.fromkeys(("answer", "source", "mask"), path.name)
        for path in written
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = dataset(DataConfig(name="jsonl", path=str(tmp_path / "t.jsonl")))
    asked, plain = found[0], found[1]
    for field in ("answer", "source"):
        assert np.array_equal(getattr(asked, field), getattr(plain, field))
    assert np.array_equal(asked.references[0], plain.references[0])
    assert asked.mask is not None
    assert plain.mask is not None
    assert np.abs(asked.mask.astype(int) - plain.mask).max() <= 1
