"""Behaviour: pictures that the embedded backbone does not know are remarked on, and its own are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import editkit
from backbones import known_pictures
from editkit import shapesworld
from editkit.backbone import Backbone
from tests.pictures import image


@pytest.mark.parametrize("kind", ["recolour", "style", "letter", "background"])
def test_drawings_of_the_world_are_known(kind: str) -> None:
    for seed in range(10):
        scene = shapesworld.example(seed, kind).source
        assert scene is not None
        assert known_pictures.remarks("tiny", shapesworld.render(scene)) == []


def test_a_photograph_is_remarked_on_with_the_way_out() -> None:
    (said,) = known_pictures.remarks("tiny", np.asarray(image(160, 120)))
    assert "The picture is 160x120 and has" in said
    assert "'flux1-dev'" in said
    (square,) = known_pictures.remarks("tiny", np.asarray(image(128, 128)))
    assert "128x128 and has" not in square


def test_noise_of_a_compressed_drawing_is_no_photograph() -> None:
    scene = shapesworld.example(0, "recolour").source
    assert scene is not None
    noisy = shapesworld.render(scene) + np.random.default_rng(0).integers(-3, 4, (128, 128, 3))
    assert known_pictures.remarks("tiny", noisy.clip(0, 255).astype(np.uint8)) == []


def test_an_edit_carries_the_remark_and_its_own_result_brings_none(tiny: Backbone) -> None:
    editor = editkit.Editor(tiny)
    with pytest.warns(UserWarning, match="photographs"):
        melted = editor.edit(image(128, 128), "make the red circle blue", steps=1)
    assert any("kinds of colours" in note for note in melted.notes)
    scene = shapesworld.example(0, "recolour")
    assert scene.source is not None
    edited = editor.edit(Image.fromarray(shapesworld.render(scene.source)), scene.instruction)
    assert edited.image is not None
    assert editor.backbone.remarks_on_picture(np.asarray(edited.image)) == []
