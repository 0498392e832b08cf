"""The fields of the Seed search tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import option_panels, uploads, widgets
from demos.instruction import Instruction
from demos.jobs import Controls
from demos.samples import OPEN
from editkit import api
from editkit.inference import search_settings
from editkit.inference.search_settings import SeedSearch
from editkit.judges import JUDGES

MOST = 16
"""Largest number of seeds."""
JUDGED = "tiny knows ShapesWorld alone. preserve reads no instruction. qwen-vl and openai read it."


class SearchForm:
    """The components.

    Args:
        base: of the page's backbone.
    """

    def __init__(self, base: str | None) -> None:
        (usual,) = OPEN.methods
        self.picture = gr.Image(
            value=str(OPEN.picture),
            label="Picture",
            type="filepath",
            format="png",
            sources=["upload", "webcam", "clipboard"],
            height=260,
            elem_id="search-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )
        self.picture_said = uploads.line("search")
        self.instruction = Instruction("search", "Instruction", OPEN.instruction, OPEN.instruction)
        with gr.Row():
            names = [each.name for each in api.methods()]
            self.method = gr.Dropdown(names, value=usual, label="Method", min_width=120)
            self.seeds = gr.Slider(2, MOST, value=4, step=1, label="Seeds", min_width=120)
        self.judge = gr.Dropdown(list(JUDGES), value=judge_for(base), label="Judge", info=JUDGED)
        with gr.Accordion("More", open=False):
            self.seed = gr.Number(value=0, precision=0, minimum=0, label="First seed")
            self.steps = widgets.number_field("Steps", info="Empty: the method's own number.")
            self.speed = option_panels.Speed(base, usual, "Speed")
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
        return [*asked, self.mode, self.seed, self.steps, self.speed.box]


def judge_for(base: str | None) -> str:
    """Name the judge that comes with editkit and knows what a backbone draws."""
    return "tiny" if base == "tiny" else SeedSearch().judge
