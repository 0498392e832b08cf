"""Behaviour of the page in a real Chromium: what a visitor does and sees, at a desk and on a phone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

from tests import ROOT
from tests.demos.page_server import Page as Server
from tests.demos.page_server import served

pytestmark = pytest.mark.browser

SAMPLES = ROOT / "demos" / "samples"
PATIENCE = 60_000
"""Milliseconds that anything may take on a busy machine."""
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
TABS = ("Compare", "Session", "Seed search", "Train")
CONTRAST = """() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number);
    const whole = c.startsWith('color(') ? 255 : 1;
    return [...n.slice(0, 3).map(x => whole * x), n[3] ?? 1]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]); };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (e.closest('button:disabled, [aria-disabled=true], footer, script, style')) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const back = behind(e), front = over(parse(getComputedStyle(e).color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const needed = /[\\p{L}\\p{N}]/u.test(text) ? 4.5 : 3;  // symbols are graphics to WCAG 2
    if (ratio < needed) poor.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=tab]')]
  .filter(e => e.checkVisibility({ visibilityProperty: true }) && e.type !== 'file' && e.type !== 'hidden')
  .filter(e => e.getBoundingClientRect().width > 2)
  .filter(e => !(e.ariaLabel || e.title || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()
    || document.getElementById(e.getAttribute('aria-labelledby'))?.innerText.trim()
    || [...e.querySelectorAll('img, svg')].some(i => i.alt || i.ariaLabel)))
  .map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "There is no chromium on the PATH; `make browser` installs it on Debian."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(server: Server, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page; fails afterwards where it asked other hosts for anything or said an error, or where
    Gradio got a picture in memory, which it may write again while a browser fetches it."""
    contexts, problems = [], []

    def foreign(request: Request) -> None:
        if not request.url.startswith((server.url, "data:", "blob:")):
            problems.append(request.url)

    def make(viewport: dict[str, int] = DESK, scheme: str = "light") -> Page:
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", foreign)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        expect(page.locator("#compare-go")).to_be_enabled(timeout=PATIENCE)
        return page

    yield make
    for context in contexts:
        context.close()
    assert problems == []
    said = server.log.read_text()
    # A page that is closed while its editor uploads a picture breaks that off, which uvicorn logs.
    assert said.count("Traceback") == said.count("starlette.requests.ClientDisconnect"), said
    assert not list(server.folder.rglob("image.*"))


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


def test_three_methods_are_compared(opened: Callable[..., Page]) -> None:
    page = opened()
    see(page.locator(".blank:visible"), "No results yet")
    choose_sample(page)
    see(compare(page), "3 of 3 done")
    for name in ("aceplus", "icedit", "kontext"):
        card = page.locator(f"#card-{name}")
        see(card, re.compile(r"\d+\.\d\d s"))
        see(card, "8 steps")
        loaded(card.locator("img:visible"), 2)
    shoot(page, "page.png")
    page.get_by_label("Difference").check()
    loaded(page.locator("#card-kontext img:visible"), 1)
    page.locator("#card-kontext").get_by_text("Recipe", exact=True).click()
    see(page.locator("#card-kontext .cm-content"), '"method": "kontext"')
    with page.expect_download(timeout=PATIENCE) as download:
        page.locator("#card-kontext").get_by_text("Download", exact=True).click()
    assert download.value.suggested_filename == "make-the-orange-square-green-kontext-0.png"
    from editkit.inference import provenance

    assert provenance.read(download.value.path())["seed"] == 0


def test_an_uploaded_picture_and_a_mask(opened: Callable[..., Page]) -> None:
    page = opened()
    # Gradio's editor drops a picture that comes before its own parts are there.
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible(timeout=PATIENCE)
    page.locator("#compare-picture input[type=file]").first.set_input_files(SAMPLES / "red_circle.png")
    page.locator("#compare-picture canvas").first.wait_for()
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible(timeout=PATIENCE)
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    for name in ("aceplus", "icedit"):
        page.locator("#compare-methods").get_by_label(re.compile(name)).uncheck()
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
    loaded(page.locator("#session-slider img:visible"), 2)
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


def test_a_seed_chosen_by_hand(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("tab", name="Seed search").click()
    page.locator("#search-picture input[type=file]").set_input_files(SAMPLES / "red_circle.png")
    loaded(page.locator("#search-picture img:visible"), 1)
    page.locator("#search-instruction textarea").fill("make the red circle blue")
    page.locator("#search-go").click()
    see(page.locator("#search-status"), "Done: seed")
    previews = page.locator("#search-previews .thumbnail-item")
    expect(previews).to_have_count(4, timeout=PATIENCE)
    see(page.locator("#search-reasons"), "error outside the change")
    previews.nth(2).click()
    page.get_by_role("button", name="Finish seed 2").click()
    see(page.locator("#search-status"), "Done: seed 2.")


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


def test_problems_are_said_on_the_page(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    status = compare(page)
    see(status.get_by_role("alert"), "There is no picture yet")
    choose_sample(page)
    page.locator("#compare-instruction textarea").fill("make the unicorn blue")
    see(compare(page), "does not know the word unicorn")
    page.get_by_role("tab", name="Session").click()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.locator("#session-picture input[type=file]").set_input_files(tmp_path / "bad.png")
    page.locator("#session-picture img").first.wait_for(state="attached")
    page.locator("#session-start").click()
    see(page.locator("#session-status").get_by_role("alert"), "bad.png is in no known picture format")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(PHONE, scheme)
    choose_sample(page)
    see(compare(page), "3 of 3 done")
    for card in page.locator(".card:visible").all():
        card.scroll_into_view_if_needed()
        see(card, "8 steps")
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab
        assert page.evaluate(CONTRAST) == [], tab
    page.get_by_role("tab", name="Compare").click()
    left = {round(card.bounding_box()["x"]) for card in page.locator(".card:visible").all()}  # type: ignore[index]
    assert len(left) == 1
    if scheme == "light":
        shoot(page, "page-phone.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_names_keys_and_contrast(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(DESK, scheme)
    choose_sample(page)
    for drawer in page.locator(".label-wrap:visible").all():
        drawer.click()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert page.evaluate(NAMELESS) == [], tab
        assert page.evaluate(CONTRAST) == [], tab
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-instruction textarea").focus()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert {"compare-go", "checkbox"} <= reached
    page.locator("#compare-instruction textarea").press("Shift+Enter")
    see(page.locator("#compare-status"), "3 of 3 done")
