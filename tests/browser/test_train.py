"""The Train tab: pairs of one's own, phases, a clean stop, runs started elsewhere, the result in Compare."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from editkit.train import status
from tests.browser.visitor import PATIENCE, see
from tests.demos import pairs
from tests.demos.page_server import Page as Server
from tests.demos.page_server import served

pytestmark = pytest.mark.browser
LONG = 600_000
"""Milliseconds that a training run of one step may take on a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    elsewhere = folder / "elsewhere" / "a-run"
    about = {"steps": 40, "method": "kontext", "backbone": "tiny"}
    with suppress(RuntimeError), status.reporting(elsewhere, about):
        status.tell(status.TRAINING, 12, 40, "loss 0.5")
        lines = (json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in (4, 8, 12))
        (elsewhere / "log.jsonl").write_text("".join(lines))
        raise RuntimeError("the disk is full")
    with served(folder, "--runs", folder / "elsewhere", "--trust-paths") as found:
        yield found


def opened_tab(opened: Callable[..., Page], **viewport: object) -> Page:
    page = opened(**viewport)
    page.get_by_role("tab", name="Train").click()
    return page


def test_a_run_started_elsewhere_is_watched(opened: Callable[..., Page]) -> None:
    page = opened_tab(opened)
    see(page.locator("#train-status"), "a-run: failed: the disk is full")
    expect(page.locator("#train-loss")).to_be_visible()
    expect(page.locator("#train-try")).not_to_be_visible()


def test_a_run_stops_while_it_starts(opened: Callable[..., Page]) -> None:
    page = opened_tab(opened)
    page.locator("#train-start").click()
    told = page.locator("#train-status")
    see(told, re.compile("starting|loading weights"))
    expect(told).to_contain_text(re.compile(r"encoding latents [1-9]\d* of 2000"), timeout=LONG)
    page.locator("#train-stop").click()
    expect(told).to_contain_text("stopped: Training was stopped before it took a step", timeout=LONG)
    expect(page.locator("#train-resume")).to_be_enabled(timeout=PATIENCE)


def test_own_pairs_from_check_to_compare(opened: Callable[..., Page], tmp_path: Path, server: Server) -> None:
    page = opened_tab(opened)
    folder = pairs.written(tmp_path / "mine", spoilt=True)
    archive = pairs.packed(folder)
    page.get_by_label("Pairs that I upload").check()
    page.locator("#train-upload input[type=file]").set_input_files(archive)
    see(page.locator("#train-upload"), "mine")
    told = page.locator("#train-status")
    page.locator("#train-check").click()
    see(told, "These data have errors")
    see(page.locator("#train-findings"), re.compile("10 records.*sizes differ", re.DOTALL))
    expect(page.locator("#train-sheet img")).to_be_visible()
    page.get_by_label("A path on this machine").check()
    page.locator("#train-path textarea, #train-path input").fill(str(tmp_path / "nothing"))
    page.locator("#train-check").click()
    see(told, "There is nothing at")
    page.locator("#train-path textarea, #train-path input").fill(str(folder))
    page.locator("#train-steps input").fill("1")
    page.locator("#train-start").click()
    see(told, "9 pairs train, 1 is held out")
    expect(told).to_contain_text(": done", timeout=LONG)
    expect(page.locator("#train-picture img")).to_be_visible()
    page.locator("#train-try").click()
    see(page.locator("#compare-adapter"), "kontext uses")
