"""Behaviour of the Session tab in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.visitor import (
    PATIENCE,
    choose_sample,
    compare,
    loaded,
    see,
    shoot,
)

pytestmark = pytest.mark.browser


def test_a_session_with_undo_and_branch(opened: Callable[..., Page]) -> None:
    page = opened()
    choose_sample(page)
    see(compare(page), "3 of 3 done")
    page.locator("#go-on-kontext").click()
    see(page.locator("#session-status"), "Started from Compare")
    history = page.locator("#session-history .thumbnail-item")
    expect(history).to_have_count(2, timeout=PATIENCE)
    page.locator("#session-instruction textarea").fill("remove the pink diamond")
    page.locator("#session-go").click()
    see(page.locator("#session-status"), "Turn 2 done")
    expect(history).to_have_count(3, timeout=PATIENCE)
    see(page.locator("#session-drift"), "of 255 levels")
    loaded(page.locator("#session-now img:visible"), 1)
    shoot(page, "session.png")
    page.locator("#session-undo").click()
    see(page.locator("#session-status"), "Undone")
    see(history.nth(1), "now: 1.")
    history.nth(0).click()
    see(page.locator("#session-status"), "branches off here")
    page.locator("#session-instruction textarea").fill("make the pink diamond red")
    page.locator("#session-go").click()
    see(page.locator("#session-status"), "Turn 3 done")
    see(history.nth(3), "now: 3. make the pink diamond red")
    page.locator("#session-export").click()
    with page.expect_download(timeout=PATIENCE) as download:
        page.get_by_text("Strip (PNG)").click()
    assert Image.open(download.value.path()).width > 2 * 128
