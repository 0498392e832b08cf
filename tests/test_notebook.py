"""Representations in notebooks and prompts."""

from __future__ import annotations

import base64
import re
from io import BytesIO

from PIL import Image

import editkit
from editkit.types import EditResult


def test_a_result_shows_its_picture_seed_and_seconds() -> None:
    picture = Image.new("RGB", (6, 4), (1, 2, 3))
    result = EditResult(image=picture, method="kontext", seed=7, timings={"a": 1.0, "b": 0.5}, notes=("<x>",))
    shown = result._repr_html_()
    found = re.search('base64,([^"]+)', shown)
    assert found
    assert Image.open(BytesIO(base64.b64decode(found[1]))).tobytes() == picture.tobytes()
    assert "kontext, seed 7, 1.5 s; &lt;x&gt;" in shown


def test_a_failed_result_shows_why() -> None:
    assert (
        "no &lt;picture&gt;" in EditResult(image=None, method="m", seed=0, error="no <picture>")._repr_html_()
    )


def test_an_editor_tells_its_backbone_device_and_options() -> None:
    editor = editkit.load("tiny", "cpu", options={"kontext": {}})
    assert repr(editor) == "Editor('tiny', device='cpu', dtype='torch.float32', options={'kontext': {}})"


def test_dir_holds_public_names_alone() -> None:
    assert dir(editkit) == sorted(["__version__", *editkit.__all__])
