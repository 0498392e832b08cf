"""Motion between two pictures is measured outside the change."""

from __future__ import annotations

import random

import pytest
import torch
from PIL import Image

import editkit
from editkit import shapesworld as world
from editkit.backbone import Backbone
from editkit.imaging import images, registration
from tests.pictures import photo, shifted

MOTIONS = [(0.3, 0.0, 1, 1), (0.6, -0.4, 1, 1), (-1.5, 2.5, 1, 1), (4.2, -3, 1, 1), (1, 0.5, 1.02, 0.99)]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("size", [(160, 120), (700, 520)])
def test_motion_is_measured_outside_the_change(motion: tuple[float, ...], size: tuple[int, int]) -> None:
    source = photo(*size)
    width, height = size
    edited = source.clone()
    edited[..., : height // 3, : width // 3] = photo(width // 3, height // 3, 1)
    found = registration.measure(source, shifted(edited, *motion))
    assert found is not None
    assert (found.right, found.down) == pytest.approx(motion[:2], abs=0.03)
    assert found.wider * width / 2 == pytest.approx(motion[2] * width / 2, abs=0.1)
    assert found.taller * height / 2 == pytest.approx(motion[3] * height / 2, abs=0.1)


def test_a_mask_takes_its_pixels_out() -> None:
    """Three quarters that move one way are the edit's where the mask says so."""
    source = photo(160, 160)
    edited, mask = source.clone(), torch.zeros(1, 1, 160, 160)
    edited[..., :, 40:], mask[..., :, 40:] = shifted(source, 3, 0)[..., :, 40:], 1
    found = registration.measure(source, edited)
    assert found is not None
    assert found.right == pytest.approx(3, abs=0.1)
    found = registration.measure(source, edited, mask)
    assert found is None or abs(found.right) < 0.1


def test_nothing_to_see_is_no_alignment() -> None:
    flat = torch.full((1, 3, 96, 96), 0.4)
    assert registration.measure(flat, flat) is None
    assert registration.measure(photo(96, 96), photo(96, 96, 1)) is None
    assert registration.measure(photo(4, 4), photo(4, 4)) is None


def test_real_edits_and_by_how_much_they_were_moved(tiny: Backbone) -> None:
    """On top of what the network moved itself."""
    editor, seen = editkit.Editor(tiny), 0
    for seed in (0, 2, 3, 5, 6):
        source = Image.fromarray(world.render(world.draw_scene(random.Random(seed))))
        result = editor.edit(source, "add a blue star in the top left", steps=4)
        before, after = (images.tensor(images.load_image(each)) for each in (source, result.image))
        base = registration.measure(before, after)
        if base is None or result.alignment is None:
            continue
        # Of the picture before it was rounded to 256 levels.
        assert base.shift == pytest.approx(result.alignment.shift, abs=0.05)
        for right, down in ((0.7, -0.5), (2.25, 1.5)):
            found = registration.measure(before, shifted(after, right, down))
            if found is None:
                continue
            assert found.right - base.right == pytest.approx(right, abs=0.3)
            assert found.down - base.down == pytest.approx(down, abs=0.3)
            seen += 1
    assert seen >= 4
