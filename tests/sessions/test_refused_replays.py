"""Pictures that cannot be made again, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

import editkit
from editkit.imaging import images
from editkit.inference import provenance
from tests.command_line import Cli, refused
from tests.pictures import image
from tests.sessions.edits import rewritten, written


def without_recipe(path: Path) -> None:
    image(48, 40).save(path)


def other_source(path: Path) -> None:
    image(48, 40, 9).save(path.with_name("source.png"))


def damaged_recipe(path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("editkit", "{")
    image(48, 40).save(path, pnginfo=chunks)


BAD: dict[str, tuple[Callable[[Path], object], list[object], str]] = {
    "missing": (lambda path: path.unlink(), [], "cannot be read"),
    "no recipe": (without_recipe, [], "holds no recipe"),
    "half a recipe": (damaged_recipe, [], "holds no recipe"),
    "a sheet's recipe": (
        lambda path: images.save(image(9, 9), path, {"instruction": "x"}),
        [],
        "one of an edit",
    ),
    "odd options": (lambda path: rewritten(path, options=[1]), [], "does not fit"),
    "odd size": (lambda path: rewritten(path, size=7), [], "damaged"),
    "odd steps": (lambda path: rewritten(path, steps="many"), [], "steps=many"),
    "unknown method": (lambda path: rewritten(path, method="kontex"), [], "did you mean 'kontext'"),
    "no backbone": (lambda path: rewritten(path, backbone="no/such/folder"), [], "no/such/folder"),
    "another source": (other_source, [], r"was changed.*give it by --image"),
    "the wrong source": (other_source, ["--image", "source.png"], "not the one"),
    "no source": (lambda path: path.with_name("source.png").unlink(), [], "is missing.*--image"),
    "cropped": (lambda path: cropped(path), [], "48x39 pixels and its recipe makes 48x40"),
    "wrong count": (lambda path: path, ["--reference", "source.png"], "has 0 references"),
    "output of too small a format": (
        lambda path: images.save(Image.new("RGB", (1, 16_384)), path),
        ["-o", "again.webp"],
        "holds up to 16,383 pixels a side, and the picture has 1x16384",
    ),
    "output": (lambda path: path, ["-o", "again.gif"], "must end in"),
}


def cropped(path: Path) -> None:
    with Image.open(path) as file:
        images.save(file.crop((0, 0, 48, 39)), path, provenance.read_recipe(path))


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_made_again(
    case: str,
    cli: Cli,
    editor: editkit.Editor,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    change, more, words = BAD[case]
    change(written(editor, source, tmp_path / "out.png"))
    refused(cli("replay", "out.png", *more), words)
