"""The page of `editkit demo`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos import endpoint, settings, theme
from demos.compare import Compare
from demos.compare_form import Form
from demos.device import QUEUE, WAITING, DeviceWorker
from demos.jobs import QUICK
from demos.kept import KEY, Kept
from demos.place import Place
from demos.results import Results
from demos.samples import FOLDER
from demos.search import Search
from demos.session import Turns
from demos.train import Train
from demos.training import Training
from demos.visit import Visit, forget
from editkit import machine
from editkit.editor import Editor

HOUR = 3600
LOOKS: dict[str, Any] = {
    "theme": theme.theme(),
    "head": theme.head(),
    "allowed_paths": [str(FOLDER)],
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


OUTPUT = Path("out/page")
"""Folder of what the page keeps where none is given."""
BROWSER = "editkit-visitor"
"""Name under which a browser keeps its secret; the second use is only Gradio's encryption of it."""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Limits of the page.

    Attributes:
        pixels: largest number of pixels of a picture.
        trains: whether visitors may start a training run.
        paths: whether visitors may train on pairs at a path of this machine.
        runs: folders whose training runs the page shows.
        output: folder of the visitors' results and sessions.
        personal: whether the page is for one person, whose browsers all see the same results; otherwise each
            browser sees its own.
        adapters: further adapters that visitors may choose, which the operator trusts: files, folders or Hub
            ids by the name that the page shows.
    """

    pixels: int = 25_000_000
    trains: bool = True
    paths: bool = False
    runs: tuple[Path, ...] = ()
    output: Path = OUTPUT
    personal: bool = False
    adapters: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def opened(
    editor: Editor, options: PageOptions, worker: Executor | None = None
) -> Iterator[tuple[Any, DeviceWorker]]:
    """Open the page: give its Blocks and its device; at the end, stop and save a training run."""
    device, run = DeviceWorker(editor.configured({}, private=True), worker), Training()
    page = build(device, run, options).queue(max_size=WAITING)
    try:
        yield page, device
    finally:
        run.end()
        page.close(verbose=False)


def build(device: DeviceWorker, run: Training, options: PageOptions) -> Any:
    """Build the page's Blocks, ready to be launched."""
    backbone = device.editor.backbone
    summary = f"{backbone.name} on {backbone.device}, {str(backbone.dtype).removeprefix('torch.')}"
    summary += "".join(
        f", {each.free / 1e9:.0f} GB free" for each in machine.devices() if each.name == backbone.device.type
    )
    with gr.Blocks(title="editkit", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        visit = gr.State(Visit(), delete_callback=forget)
        browser = gr.BrowserState("", storage_key=BROWSER, secret=BROWSER)
        kept = Kept(options.output, options.personal)
        place = Place(device=device, visit=visit, kept=kept, pixels=options.pixels, adapters=options.adapters)
        gr.HTML(theme.masthead(summary))
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id="compare"):
                compare = Compare(place)
            with gr.Tab("Session", id="session"):
                turns = Turns(place)
            with gr.Tab("Seed search", id="search"):
                Search(place)
            with gr.Tab("Results", id="results") as tab:
                results = Results(place, compare.form, tabs, turns)
            train = None
            if options.trains:
                with gr.Tab("Train", id="train"):
                    train = Train(device, visit, run, options.runs, options.paths)
        _connect(compare, turns, train, tabs, visit)
        if train:
            page.load(train.shown, [train.form.watched], train.outputs, api_name="train_load", **QUICK)
        tab.select(results.shown, [visit], results.outputs, api_name="results", **QUICK)
        # Gradio deletes a state when its visitor leaves only if a handler has returned it.
        page.load(
            partial(_arrive, turns, browser),
            [visit, browser],
            [visit, browser, *turns.outputs],
            api_name="arrive",
            **QUICK,
        )
        page.load(_linked(compare.form), None, compare.form.outputs(), api_name="linked", **QUICK)
        endpoint.add(place)
    return page


def _connect(compare: Compare, turns: Turns, train: Train | None, tabs: Any, visit: Any) -> None:
    """Connect the buttons that lead from one tab to another."""
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
        train.form.attempt.click(
            partial(_attempt, train, tabs, compare.adapter_note),
            [visit, train.form.watched],
            [tabs, compare.adapter_note, train.form.status],
            concurrency_id=QUEUE,
            concurrency_limit=1,
            api_name="train_try",
        )


def _arrive(turns: Turns, browser: Any, visit: Visit, key: str | None) -> dict[Any, Any]:
    """Know a browser by its secret again, or give it one; show its last session."""
    if isinstance(key, str) and KEY.fullmatch(key):
        visit.key = key
    return {turns.visit: visit, browser: visit.secret(), **turns.arrived(visit)}


def _linked(form: Form) -> Callable[[gr.Request], dict[Any, Any]]:
    """Make a handler that fills in the settings in the page's address."""

    def linked(request: gr.Request) -> dict[Any, Any]:
        asked = settings.from_link(dict(request.query_params))
        if not asked:
            return {form.randomise: False}
        return form.filled(asked, "The settings of the link; choose the picture.")

    return linked


def _go_on(turns: Turns, tabs: Any, name: str, visit: Visit) -> dict[Any, Any]:
    return turns.take(visit, name) | {tabs: gr.Tabs(selected="session")}


def _attempt(
    train: Train, tabs: Any, adapter_note: Any, visit: Visit, watched: str | None = None
) -> dict[Any, Any]:
    words, status = train.attempted(visit, watched)
    if not words:
        return {train.form.status: status}
    return {train.form.status: status, adapter_note: words, tabs: gr.Tabs(selected="compare")}
