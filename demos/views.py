"""One edit shown in four ways: the result whole, under a slider, beside its source, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from demos import theme
from demos.jobs import QUICK
from demos.pictures import shown
from demos.visit import Visit
from editkit.imaging import contact_sheet
from editkit.inference import comparison

RESULT, SLIDER, BESIDE, DIFFERENCE = WAYS = ("Result", "Slider", "Side by side", "Difference")
GAP = 8
"""Pixels between source and result."""


class Views:
    """The components of one edit, of which one is visible; the source lies over it while a key is held.

    Args:
        name: put before their labels.
    """

    def __init__(self, name: str = "") -> None:
        def label(words: str) -> str:
            return f"{name}: {words}" if name else words.capitalize()

        still: dict[str, Any] = {"format": "png", "interactive": False, "height": "auto"}
        with gr.Column(elem_classes="viewer", min_width=0):
            self.source = gr.Image(label=label("source"), elem_classes="source", buttons=[], **still)
            still["buttons"] = ["fullscreen"]
            self.result = gr.Image(label=label("result"), elem_classes="result", **still)
            self.slider = gr.ImageSlider(
                label=label("before and after"),
                format="png",
                type="pil",
                interactive=False,
                max_height=420,
                visible=False,
            )
            self.beside = gr.Image(label=label("before, after"), visible=False, **still)
            self.difference = gr.Image(
                label=label("difference, four times as strong"), visible=False, **still
            )
        self.parts = (self.source, self.result, self.slider, self.beside, self.difference)

    def cleared(self) -> dict[Any, Any]:
        """Nothing to show."""
        return dict.fromkeys(self.parts)

    def pointed(self, before: Image.Image, after: Image.Image, visit: Visit) -> dict[Any, Any]:
        """An edit under way, without what differs."""
        first, second = before.convert("RGB"), after.convert("RGB")
        source, file = shown(first, visit), shown(second, visit)
        both, _ = contact_sheet.grid([first, second], 2, gap=GAP)
        return {
            self.source: source,
            self.result: file,
            self.slider: (source, file),
            self.beside: shown(both, visit),
        }

    def done(self, before: Image.Image, after: Image.Image, visit: Visit) -> dict[Any, Any]:
        """An edit that is finished; source and result are of one size."""
        apart = comparison.difference(before.convert("RGB"), after.convert("RGB"))
        return self.pointed(before, after, visit) | {self.difference: shown(apart, visit)}


class Chooser:
    """The controls of how edits are shown: the way, zoom, and the held source.

    Args:
        name: of the tab.
        region: id of the element that holds the views; it has the class `viewers`.
        visible: whether from the start.
    """

    def __init__(self, name: str, region: str, *, visible: bool = True) -> None:
        self.name = name
        with gr.Column(visible=visible, min_width=0, elem_classes="lookbar") as self.whole:
            self.way = gr.Radio(list(WAYS), value=RESULT, label="Show results as", elem_id=f"{name}-view")
            gr.HTML(theme.zoombar(region))

    def decide(self, views: Sequence[Views]) -> None:
        """Let the control decide for these."""

        def choose(way: str) -> list[Any]:
            return [gr.update(visible=way == each) for _ in views for each in WAYS]

        parts = [part for each in views for part in each.parts[1:]]
        self.way.change(choose, [self.way], parts, api_name=f"{self.name}_view", **QUICK)
