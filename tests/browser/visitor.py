"""Actions of a visitor of the page in the browser, for tests."""

from __future__ import annotations

import os
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests import ROOT

SAMPLES = ROOT / "demos" / "samples"
PATIENCE = 120_000
"""Milliseconds that anything may take on a busy machine."""
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def see(locator: Locator, text: str | re.Pattern[str]) -> None:
    """Wait for words."""
    expect(locator).to_contain_text(text, timeout=PATIENCE)


def choose_sample(page: Page, number: int = 0) -> None:
    """A sample's picture in the editor, and its instruction."""
    page.locator("#compare-samples .thumbnail-item").nth(number).click()
    expect(page.locator("#compare-instruction textarea")).not_to_have_value("", timeout=PATIENCE)
    page.locator("#compare-picture").get_by_label("Brush").or_(
        page.locator("#compare-picture canvas")
    ).first.wait_for()


def compare(page: Page) -> Locator:
    """Press the button; the line that tells how things stand."""
    page.locator("#compare-go").click()
    return page.locator("#compare-status")


def steps(page: Page, number: int) -> None:
    """Ask for so many."""
    page.locator("#compare-more > button, #compare-more .label-wrap").first.click()
    page.get_by_label("Steps", exact=False).first.fill(str(number))


def only(page: Page, *methods: str) -> None:
    """Choose methods, and no others."""
    for box in page.locator("#compare-methods label").all():
        name = box.inner_text().split(":")[0].strip()
        box.locator("input").set_checked(name in methods)


def stroke(page: Page) -> None:
    """Paint a line on the picture in the editor."""
    canvas = page.locator("#compare-picture canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.35
    page.mouse.move(x, y)
    page.mouse.down()
    for place in range(8):
        page.mouse.move(x + 6 * place, y + 4 * place)
    page.mouse.up()


def late_frames(page: Page, milliseconds: int) -> None:
    """Let each frame come so much later, as where the browser is busy with a picture."""
    page.evaluate(
        """late => {
            const plain = window.requestAnimationFrame.bind(window);
            window.requestAnimationFrame = then => setTimeout(() => plain(then), late);
        }""",
        milliseconds,
    )


def frames(page: Page, count: int) -> None:
    """Wait for so many."""
    for _ in range(count):
        page.evaluate("() => new Promise(done => requestAnimationFrame(done))")


def tab(page: Page, name: str) -> None:
    """Go to a tab."""
    page.get_by_role("tab", name=name).click()
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


def shoot(page: Page, name: str, full: bool = True) -> None:
    """A picture for docs/, where the environment names a folder for it."""
    if folder := os.environ.get("EDITKIT_SCREENSHOTS"):
        page.evaluate("document.activeElement?.blur()")
        page.screenshot(path=Path(folder) / name, full_page=full)


def loaded(images: Locator, count: int) -> None:
    """Wait until so many pictures are there and decoded."""
    expect(images).to_have_count(count, timeout=PATIENCE)
    for place in range(count):
        images.nth(place).evaluate("image => image.decode()")
