"""Skipped blocks by request: what they change, that nothing stays behind, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit.backbone import Backbone
from editkit.errors import EditkitError
from editkit.inference import speed
from editkit.inference.speed_settings import FirstBlock, MagCache, TaylorSeer, as_text, parse
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


@contextmanager
def last_block_calls(backbone: Backbone, role: str) -> Iterator[list[int]]:
    """The rows of each pass that reached the last block."""
    rows: list[int] = []
    attention = backbone.transformer(role).single_transformer_blocks[-1].attn
    handle = attention.register_forward_hook(lambda *call: rows.append(len(call[2])))
    try:
        yield rows
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("method", "role"), [("kontext", "kontext"), ("icedit", "fill"), ("aceplus", "fill")]
)
def test_measured_ratios_skip_blocks(tiny: Backbone, method: str, role: str) -> None:
    editor, words = editkit.Editor(tiny), "make the red circle blue"
    exact = editor.edit(image(128, 128), words, method).image
    with last_block_calls(tiny, role) as rows:
        made = editor.edit(image(128, 128), words, method, speed="cache=mag,threshold=1e6,full_share=0.25")
    assert len(rows) == 3, "two at the start, and one after three that were skipped"
    assert difference(made.image, exact) > 0
    assert editor.edit(image(128, 128), words, method).image.tobytes() == exact.tobytes()
    never = editor.edit(image(128, 128), words, method, speed="cache=mag,threshold=1e-9").image
    assert never.tobytes() == exact.tobytes()


@pytest.mark.parametrize(("mode", "winner"), [("continue", 2), ("restart", 3)])
def test_ratios_go_on_where_a_search_stopped(tiny: Backbone, mode: str, winner: int) -> None:
    search = editkit.SeedSearch(seeds=2, mode=mode, preview_steps=2)
    with last_block_calls(tiny, "kontext") as rows:
        editkit.Editor(tiny).edit(
            image(128, 128),
            "make the red circle blue",
            search=search,
            speed="cache=mag,threshold=1e6,full_share=0.25",
        )
    assert rows == [2, 2][: 1 + (mode == "continue")] + [1] * winner


def test_weights_without_ratios_are_refused(random_flux: Flux) -> None:
    with pytest.raises(EditkitError, match=r"No ratios of MagCache were measured for the role 'kontext'"):
        edited(random_flux, speed="cache=mag")


def test_blocks_of_a_pipeline_for_text_to_image_are_skipped(random_text_pipeline: Path) -> None:
    editor = editkit.load(str(random_text_pipeline), "cpu")
    exact, skipped = (
        editor.edit(None, "a red circle", size=(64, 64), steps=4, speed=speed) for speed in ("exact", ALWAYS)
    )
    assert difference(exact.image, skipped.image) > 0


def test_settings_are_read_as_they_are_written() -> None:
    for settings in (
        FirstBlock(threshold=0.2),
        TaylorSeer(full_steps=4, interval=5, order=2),
        MagCache(threshold=0.1, most_skipped=5, full_share=0.25),
    ):
        assert parse(as_text(settings)) == settings
        assert speed.resolve(as_text(settings), "tiny", "kontext") == settings


@pytest.mark.parametrize(
    "given",
    [
        "cache=magic",
        "cache=first_block,interval=3",
        "cache=first_block,threshold=0",
        "cache=taylor_seer,order=0",
        "cache=mag,full_share=1.5",
        "cache=mag,most_skipped=0",
        "cache=first_block,cache=taylor_seer",
        "full_steps=2,full_steps=3",
        "full_steps=2,context=some",
    ],
)
def test_wrong_settings_are_refused(given: str) -> None:
    with pytest.raises(EditkitError):
        speed.check_speed(given)
