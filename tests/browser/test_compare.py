"""Behaviour of the Compare tab in a real browser."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from PIL import Image
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.visitor import (
    PATIENCE,
    SAMPLES,
    choose_sample,
    compare,
    loaded,
    see,
    shoot,
    steps,
    stroke,
)

pytestmark = pytest.mark.browser


def test_three_methods_are_compared(opened: Callable[..., Page]) -> None:
    page = opened()
    see(page.locator(".blank:visible"), "No results yet")
    choose_sample(page)
    see(compare(page), "3 of 3 done")
    for name in ("aceplus", "icedit", "kontext"):
        card = page.locator(f"#card-{name}")
        see(card, re.compile(r"\d+\.\d\d s"))
        see(card, "8 steps")
        loaded(card.locator("img:visible"), 1)
    shoot(page, "page.png")
    card = page.locator("#card-kontext")
    for way, count in (("Slider", 2), ("Side by side", 1), ("Difference", 1), ("Result", 1)):
        page.locator("#compare-view").get_by_label(way).check()
        loaded(card.locator("img:visible"), count)
    page.locator("#card-kontext").get_by_text("Recipe", exact=True).click()
    see(page.locator("#card-kontext .cm-content"), '"method": "kontext"')
    with page.expect_download(timeout=PATIENCE) as download:
        page.locator("#card-kontext").get_by_text("Download", exact=True).click()
    assert download.value.suggested_filename == "make-the-orange-square-green-kontext-0.png"
    from editkit.inference import provenance

    assert provenance.read_recipe(download.value.path())["seed"] == 0


def test_an_uploaded_picture_and_a_mask(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("#compare-picture input[type=file]").first.set_input_files(SAMPLES / "red_circle.png")
    page.locator("#compare-picture canvas").first.wait_for()
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible(timeout=PATIENCE)
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    for name in ("aceplus", "icedit"):
        page.locator("#compare-methods").get_by_label(re.compile(name)).uncheck()
    stroke(page)
    see(compare(page), "1 of 1 done")
    page.locator("#card-kontext").get_by_text("Recipe", exact=True).click()
    see(page.locator("#card-kontext .cm-content"), '"mask": true')


def test_stop_and_compare_again(opened: Callable[..., Page]) -> None:
    page = opened()
    choose_sample(page, 1)
    steps(page, 1000)
    status = compare(page)
    see(status, re.compile(r"step \d+ of 1000, about \d+"))
    see(page.locator(".card:visible").first, "A preview")
    page.locator("#compare-stop").click()
    see(status, "Stopped.")
    assert "1000 of 1000" not in status.inner_text()
    expect(page.locator("#compare-go")).to_be_enabled(timeout=PATIENCE)
    page.get_by_label("Steps", exact=False).first.fill("2")
    see(compare(page), "3 of 3 done")


def test_an_answer_to_stop_that_comes_late_changes_nothing(opened: Callable[..., Page]) -> None:
    page = opened()
    choose_sample(page, 1)
    steps(page, 1000)
    status = compare(page)
    see(status, "of 1000")
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/run/predict*", lambda route: held.append((route, route.fetch())))
    page.locator("#compare-stop").click()
    see(status, "Stopped.")
    expect(page.locator("#compare-stop")).to_be_disabled()
    for route, answer in held:
        with page.expect_event("requestfinished"):
            route.fulfill(response=answer)
    assert held
    page.wait_for_timeout(500)
    see(status, "Stopped.")


def test_the_result_is_shown_whole(opened: Callable[..., Page]) -> None:
    page = opened()
    choose_sample(page)
    steps(page, 8)
    see(compare(page), "3 of 3 done")
    picture = page.locator("#card-kontext img:visible")
    loaded(picture, 1)
    shown = Image.open(io.BytesIO(page.request.get(picture.get_attribute("src") or "").body()))
    source = Image.open(SAMPLES / "three_shapes.png").convert("RGB")
    edited = shown.convert("RGB").resize(source.size, Image.Resampling.NEAREST)
    red, green, _ = edited.getpixel((95, 34))  # type: ignore[misc]
    assert green > red
    assert picture.bounding_box()["width"] > 200  # type: ignore[index]
