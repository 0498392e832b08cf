"""The page of `editkit demo`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from demos import theme
from demos.compare import Compare
from demos.device import QUEUE, WAITING, Device, Visit, forget
from demos.jobs import QUICK
from demos.pictures import SAMPLES
from demos.search import Search
from demos.session import Turns
from demos.train import Train
from demos.training import Training
from editkit import machine
from editkit.editor import Editor

HOUR = 3600
LOOKS: dict[str, Any] = {
    "theme": theme.theme(),
    "head": theme.style(),
    "allowed_paths": [str(SAMPLES)],
    "footer_links": ["api"],
    "run_history": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "quiet": True,
    "prevent_thread_lock": True,
}
"""Arguments of Gradio's `launch` that are the same for every page."""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Limits of the page.

    Attributes:
        pixels: largest number of pixels of a picture.
        trains: whether visitors may start a training run.
    """

    pixels: int = 25_000_000
    trains: bool = True


@contextmanager
def opened(
    editor: Editor, options: PageOptions, worker: Executor | None = None
) -> Iterator[tuple[Any, Device]]:
    """Open the page: give its Blocks and its device; at the end, stop and save a training run."""
    device, run = Device(editor, worker), Training()
    page = build(device, run, options).queue(max_size=WAITING)
    try:
        yield page, device
    finally:
        run.end()
        page.close(verbose=False)


def build(device: Device, run: Training, options: PageOptions) -> Any:
    """Build the page's Blocks, ready to be launched."""
    backbone = device.editor.backbone
    summary = f"{backbone.name} on {backbone.device}, {str(backbone.dtype).removeprefix('torch.')}"
    summary += "".join(
        f", {each.free / 1e9:.0f} GB free" for each in machine.devices() if each.name == backbone.device.type
    )
    with gr.Blocks(title="editkit", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        visit = gr.State(Visit(), delete_callback=forget)
        gr.HTML(theme.masthead(summary))
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id="compare"):
                compare = Compare(device, visit, options.pixels)
            with gr.Tab("Session", id="session"):
                turns = Turns(device, visit, options.pixels)
            with gr.Tab("Seed search", id="search"):
                Search(device, visit, options.pixels)
            train = None
            if options.trains:
                with gr.Tab("Train", id="train"):
                    train = Train(device, visit, run)
        for name, card in compare.cards.items():
            card.go_on.click(
                partial(_go_on, turns, tabs, name),
                [visit],
                [tabs, *turns.outputs],
                concurrency_id=QUEUE,
                concurrency_limit=1,
                show_progress="hidden",
                api_name=f"{name}_session",
            )
        if train:
            train.attempt.click(
                partial(_attempt, train, tabs, compare.adapter_note),
                [visit],
                [tabs, compare.adapter_note, train.status],
                concurrency_id=QUEUE,
                concurrency_limit=1,
                api_name="train_try",
            )
            page.load(train.shown, None, train.outputs, api_name="train_load", **QUICK)
        # Gradio deletes a state when its visitor leaves only if a handler has returned it.
        page.load(_arrive, [visit], [visit], api_name="arrive", **QUICK)
    return page


def _arrive(visit: Visit) -> Visit:
    return visit


def _go_on(turns: Turns, tabs: Any, name: str, visit: Visit) -> dict[Any, Any]:
    return turns.take(visit, name) | {tabs: gr.Tabs(selected="session")}


def _attempt(train: Train, tabs: Any, adapter_note: Any, visit: Visit) -> dict[Any, Any]:
    words, status = train.attempted(visit)
    if not words:
        return {train.status: status}
    return {train.status: status, adapter_note: words, tabs: gr.Tabs(selected="compare")}
