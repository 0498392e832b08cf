"""The page of a real server in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.browser.visitor import DESK, PATIENCE
from tests.demos.page_server import Page as Server
from tests.demos.page_server import served

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    expect.set_options(timeout=PATIENCE)
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
