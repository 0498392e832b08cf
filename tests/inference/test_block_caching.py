"""Skipped blocks by request: what they change, that nothing stays behind, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit.errors import EditkitError
from editkit.inference import speed
from editkit.inference.speed_settings import FirstBlock, TaylorSeer, as_text, parse
from tests.pictures import difference, image

METHODS = ("kontext", "icedit", "aceplus")
ALWAYS, NEVER = "cache=first_block,threshold=1e6", "cache=first_block,threshold=1e-9"
TAYLOR = "cache=taylor_seer,full_steps=2,interval=2,order=1"


def edited(flux: Flux, method: str = "kontext", **fields: Any) -> Image.Image:
    """An edit in six steps."""
    editor = editkit.Editor(flux)
    made = editor.edit(image(128, 128), "make the red circle blue", method, **{"steps": 6, **fields}).image
    assert made is not None
    return made


@pytest.mark.parametrize("method", METHODS)
def test_the_request_decides_and_nothing_stays_behind(random_flux: Flux, method: str) -> None:
    exact = edited(random_flux, method)
    skipped = edited(random_flux, method, speed=ALWAYS)
    assert difference(skipped, exact) > 0
    assert edited(random_flux, method).tobytes() == exact.tobytes()
    assert edited(random_flux, method, speed=ALWAYS).tobytes() == skipped.tobytes()


def test_a_threshold_that_is_never_met_is_exact(random_flux: Flux) -> None:
    assert difference(edited(random_flux, speed=NEVER), edited(random_flux)) == 0


def test_it_does_what_the_loading_option_does(random_flux: Flux, random_pipeline: str) -> None:
    settings = parse(TAYLOR)
    assert isinstance(settings, TaylorSeer)
    loaded = editkit.load(str(random_pipeline), "cpu", cache=settings.loading)
    wanted = loaded.edit(image(128, 128), "make the red circle blue", steps=6).image
    again = editkit.load(str(random_pipeline), "cpu")
    made = again.edit(image(128, 128), "make the red circle blue", steps=6, speed=TAYLOR)
    assert made.image.tobytes() == wanted.tobytes()
    assert made.recipe["speed"] == TAYLOR


def test_settings_are_read_as_they_are_written() -> None:
    for settings in (FirstBlock(threshold=0.2), TaylorSeer(full_steps=4, interval=5, order=2)):
        assert parse(as_text(settings)) == settings
        assert speed.resolve(as_text(settings), "tiny", "kontext") == settings


@pytest.mark.parametrize(
    "given",
    [
        "cache=magic",
        "cache=first_block,interval=3",
        "cache=first_block,threshold=0",
        "cache=taylor_seer,order=0",
        "cache=first_block,cache=taylor_seer",
        "full_steps=2,full_steps=3",
    ],
)
def test_wrong_settings_are_refused(given: str) -> None:
    with pytest.raises(EditkitError):
        speed.check_speed(given)
