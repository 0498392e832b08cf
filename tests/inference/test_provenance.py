"""Recipes in pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance
from tests.imaging.picture_files import Make, scene, stored, with_alpha, written


def test_recipe_round_trip(tmp_path: Path) -> None:
    made = provenance.make(
        method="kontext", instruction="make it größer 🙂", seed=7, size=(64, 32), mask=None
    )
    images.save(with_alpha("RGB"), tmp_path / "a.png", made)
    assert provenance.read_recipe(tmp_path / "a.png") == made
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
        provenance.read_recipe(make(tmp_path))
