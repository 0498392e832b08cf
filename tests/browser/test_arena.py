"""The arena in a browser: blind pictures, votes of several people, and the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from editkit.evaluation.arena import Votes
from tests import ROOT
from tests.browser.visitor import DESK, PATIENCE, PHONE
from tests.demos.page_server import free_port
from tests.evaluation.finished import scored

pytestmark = pytest.mark.browser
METHODS = {"nearmethod": 2, "farmethod": 40}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return scored(tmp_path, "jsonl", METHODS, ["pixels"]).path


@pytest.fixture
def address(run: Path, tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "editkit", "arena", str(run), "--port", str(free_port())]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            found = re.search(r"ready at (\S+)", line)
            assert found, line
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def opened(chromium: Browser, address: str, viewport: dict[str, int], asked: list[str]) -> Page:
    page = chromium.new_context(viewport=viewport).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)

    def heard(request: Request) -> None:
        asked.append(request.url)

    page.on("request", heard)
    page.goto(address)
    expect(page.locator("#arena-results img")).to_have_count(2, timeout=PATIENCE)
    return page


def answer(page: Page, word: str) -> None:
    for question in page.get_by_role("radio", name=word).all():
        question.check()
    page.locator("#arena-vote").click()


def test_two_voters_see_all_pairs_blindly(chromium: Browser, address: str, run: Path) -> None:
    urls: list[str] = []
    desk, phone = (opened(chromium, address, size, urls) for size in (DESK, PHONE))
    desk.locator("#arena-vote").click()
    expect(desk.get_by_role("alert")).to_contain_text("Answer at least one question")
    for voted in range(1, 5):
        for page in (desk, phone):
            instruction = page.locator("#arena-instruction").inner_text()
            answer(page, "Left")
            if voted < 4:
                expect(page.locator("#arena-instruction")).not_to_have_text(instruction)
    for page in (desk, phone):
        expect(page.locator("#arena-status")).to_contain_text("You have seen all pairs")
        assert not any(name in page.content() for name in METHODS)
    assert not any(name in url for url in urls for name in METHODS)
    votes = Votes(run / "arena.sqlite").all()
    assert len(votes) == 2 * 4 * 3
    assert len({vote.voter for vote in votes}) == 2
    desk.reload()  # the same browser is the same voter
    expect(desk.locator("#arena-status")).to_contain_text("You have seen all pairs")
    wide = phone.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
