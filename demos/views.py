"""One edit shown in four ways: the result whole, under a slider, beside its source, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from demos.device import Visit
from demos.jobs import QUICK
from demos.pictures import shown
from editkit.imaging import contact_sheet
from editkit.inference import comparison

RESULT, SLIDER, BESIDE, DIFFERENCE = WAYS = ("Result", "Slider", "Side by side", "Difference")
GAP = 8
"""Pixels between source and result."""


class Views:
    """The components of one edit, of which one is visible.

    Args:
        name: put before their labels.
    """

    def __init__(self, name: str = "") -> None:
        def label(words: str) -> str:
            return f"{name}: {words}" if name else words.capitalize()

        still: dict[str, Any] = {"format": "png", "interactive": False, "buttons": ["fullscreen"]}
        still["height"] = "auto"
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
        self.difference = gr.Image(label=label("difference, four times as strong"), visible=False, **still)
        self.parts = (self.result, self.slider, self.beside, self.difference)

    def cleared(self) -> dict[Any, Any]:
        """Nothing to show."""
        return dict.fromkeys(self.parts)

    def pointed(self, before: Image.Image, after: Image.Image, visit: Visit) -> dict[Any, Any]:
        """An edit under way, without what differs."""
        first, second = before.convert("RGB"), after.convert("RGB")
        file = shown(second, visit)
        both, _ = contact_sheet.grid([first, second], 2, gap=GAP)
        return {self.result: file, self.slider: (shown(first, visit), file), self.beside: shown(both, visit)}

    def done(self, before: Image.Image, after: Image.Image, visit: Visit) -> dict[Any, Any]:
        """An edit that is finished; source and result are of one size."""
        apart = comparison.difference(before.convert("RGB"), after.convert("RGB"))
        return self.pointed(before, after, visit) | {self.difference: shown(apart, visit)}


def chooser(name: str, *, visible: bool = True) -> Any:
    """The control that says in which way edits are shown."""
    return gr.Radio(
        list(WAYS), value=RESULT, label="Show results as", visible=visible, elem_id=f"{name}-view"
    )


def chosen(chooser: Any, views: Sequence[Views], name: str) -> None:
    """Let the control decide for these."""

    def choose(way: str) -> list[Any]:
        return [gr.update(visible=way == each) for _ in views for each in WAYS]

    parts = [part for each in views for part in each.parts]
    chooser.change(choose, [chooser], parts, api_name=f"{name}_view", **QUICK)
