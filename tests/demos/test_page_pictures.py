"""Behaviour: a picture enters by the page as it enters by the command line."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image

from demos import compare as tab
from demos.kept import Kept
from demos.pictures import opened, painting, photo
from demos.place import Place
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.imaging import color_spaces, images

PIXELS = 10_000


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3)).save(path, exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)).save(path)


def wide(path: Path) -> None:
    profile = color_spaces.profile(color_spaces.PRIMARIES[12], color_spaces.srgb)
    Image.new("RGB", (20, 10), (250, 20, 90)).save(path, icc_profile=profile)


def clear(path: Path) -> None:
    Image.new("RGBA", (20, 10), (9, 9, 9, 0)).save(path)


def payload(path: Path, **more: Any) -> dict[str, Any]:
    return {"background": handle_file(path), "layers": [], "composite": None} | more


@pytest.fixture
def editor() -> Any:
    return gr.ImageEditor(type="pil", image_mode="RGBA", format="png")


@pytest.mark.parametrize("make", [turned, deep, wide, clear])
def test_every_way_in_goes_through_the_loader(make: Any, tmp_path: Path, editor: Any) -> None:
    path = tmp_path / "a.png"
    make(path)
    wanted = images.flatten(images.load_image(path))
    found = painting(PIXELS, payload(path), editor)
    assert found.problem == ""
    for image in (found.image, photo(PIXELS, {"path": str(path)}).image, opened(str(path), PIXELS).image):
        assert np.array_equal(np.asarray(image), wanted)


def test_what_the_browser_painted_on_is_taken_too(tmp_path: Path, editor: Any) -> None:
    held = io.BytesIO()
    Image.new("RGBA", (20, 10), (9, 9, 9, 0)).save(held, "PNG")
    layer = io.BytesIO()
    Image.new("RGBA", (20, 10), (255, 0, 0, 255)).save(layer, "PNG")
    editor.blob_storage["x"] = SimpleNamespace(
        background=held.getvalue(), layers=[layer.getvalue()], composite=None
    )
    found = painting(PIXELS, {"background": None, "layers": [], "composite": None, "id": "x"}, editor)
    assert found.checked().getpixel((0, 0)) == (255, 255, 255)
    assert found.mask is not None
    assert found.mask.getpixel((0, 0)) == 255


def test_notes_come_along(tmp_path: Path, editor: Any) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    for found in (
        painting(PIXELS, payload(tmp_path / "a.gif"), editor),
        opened(str(tmp_path / "a.gif"), PIXELS),
    ):
        assert "only the first of 2 frames" in found.notes[0]


@pytest.mark.parametrize("bad", [b"no picture", b""])
def test_what_is_no_picture_is_one_sentence(bad: bytes, tmp_path: Path, editor: Any) -> None:
    (tmp_path / "a.png").write_bytes(bad)
    found = painting(PIXELS, payload(tmp_path / "a.png"), editor)
    assert str(tmp_path) not in found.problem
    with pytest.raises(EditkitError, match=r"a\.png"):
        found.checked()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tab.Compare:
    with gr.Blocks():
        editor = SimpleNamespace(spec=Editor, backbone=SimpleNamespace(base=None))
        device: Any = SimpleNamespace(editor=editor, editor_of=lambda _: editor)
        kept = Kept(tmp_path_factory.mktemp("kept"), personal=True)
        place = Place(device=device, visit=gr.State(None), kept=kept, pixels=PIXELS, adapters={})
        return tab.Compare(place)


@pytest.mark.parametrize("seed", [2**64, 2**70, True, -1, 1.5])
def test_seeds_that_none_can_be_are_refused_before_anything_is_shown(
    seed: Any, page: tab.Compare, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    turned(path)
    visit: Any = SimpleNamespace(stop=None, results={})
    (said,) = page.compare(visit, payload(path), "make it red", ["kontext"], seed=seed)
    assert f"seed={seed} is not allowed" in said[page.controls.status]
