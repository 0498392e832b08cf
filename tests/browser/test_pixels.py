"""Small pictures are shown in their own pixels, large ones smoothly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.visitor import PATIENCE, loaded

pytestmark = pytest.mark.browser


def test_only_small_pictures_are_shown_in_their_pixels(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    sample = page.locator("#compare-samples img").first
    expect(sample).to_have_css("image-rendering", "pixelated", timeout=PATIENCE)
    for tab, picture, side, rendering in (
        ("Seed search", "#search-picture", 256, "pixelated"),
        ("Session", "#session-picture", 257, "auto"),
    ):
        Image.new("RGB", (64, side), "teal").save(tmp_path / f"{side}.png")
        page.get_by_role("tab", name=tab).click()
        page.locator(f"{picture} input[type=file]").set_input_files(tmp_path / f"{side}.png")
        shown = page.locator(f"{picture} img:visible")
        loaded(shown, 1)
        expect(shown).to_have_css("image-rendering", rendering, timeout=PATIENCE)
