"""What the Seed search tab asks for."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import uploads, widgets
from demos.device import USUAL
from demos.instruction import Instruction
from demos.jobs import Controls
from demos.samples import FOLDER
from editkit import api
from editkit.inference import search_settings
from editkit.judges import JUDGES

OPEN = "add a square"
"""Leaves colour and place free, so that seeds differ."""
MOST = 16
"""Largest number of seeds."""


class SearchForm:
    """The components."""

    def __init__(self) -> None:
        self.picture = gr.Image(
            value=str(FOLDER / "red_circle.png"),
            label="Picture",
            type="filepath",
            format="png",
            sources=["upload", "webcam", "clipboard"],
            height=260,
            elem_id="search-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )
        self.picture_said = uploads.line("search")
        self.instruction = Instruction("search", "Instruction", OPEN, OPEN)
        with gr.Row():
            names = [each.name for each in api.methods()]
            self.method = gr.Dropdown(names, value=USUAL, label="Method", min_width=120)
            self.seeds = gr.Slider(2, MOST, value=4, step=1, label="Seeds", min_width=120)
        with gr.Row():
            self.judge = gr.Dropdown(list(JUDGES), value="preserve", label="Judge", min_width=120)
            self.seed = gr.Number(value=0, precision=0, minimum=0, label="First seed", min_width=120)
        with gr.Accordion("More", open=False):
            self.steps = widgets.number_field("Steps", info="Empty: the method's own number.")
            self.mode = gr.Radio(
                list(search_settings.MODES),
                value="continue",
                label="How the winner is finished",
                info="continue: goes on from its preview. restart: starts again, as ICEdit's authors do.",
            )
        self.controls = Controls("search", "Search", "search-edited")

    def inputs(self) -> list[Any]:
        """List the components in the order of `Search.search`."""
        asked = [self.picture, self.instruction.box, self.method, self.seeds, self.judge]
        return [*asked, self.mode, self.seed, self.steps]
