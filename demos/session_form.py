"""The fields of the Session tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import option_panels, uploads
from demos.device import USUAL
from demos.instruction import Instruction
from demos.jobs import Controls
from demos.samples import FIRST_TURNS, SampleGallery
from editkit import api


class SessionForm:
    """The components.

    Args:
        base: of the page's backbone.
    """

    def __init__(self, base: str | None) -> None:
        self.picture = gr.Image(
            label="Start from",
            type="filepath",
            format="png",
            sources=["upload", "webcam", "clipboard"],
            height=200,
            elem_id="session-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )
        self.picture_said = uploads.line("session")
        self.instruction = Instruction("session", "Next edit", FIRST_TURNS[0].instruction)
        with gr.Row():
            self.method = gr.Dropdown(
                [each.name for each in api.methods()], value=USUAL, label="Method", min_width=120
            )
            self.seed = gr.Number(value=0, precision=0, minimum=0, label="Seed", min_width=120)
        self.preserve = gr.Checkbox(value=True, label="Keep pixels outside the change identical")
        self.speed = option_panels.Speed(base, USUAL, "Speed")
        self.controls = Controls("session", "Edit", "session-now")
        self.new = gr.Button("New session", size="sm", interactive=False, elem_id="session-new")
        self.samples = SampleGallery("session", FIRST_TURNS)

    def inputs(self) -> list[Any]:
        """List the components in the order of `Turns.edit`."""
        return [self.instruction.box, self.picture, self.method, self.seed, self.preserve, self.speed.box]

    def wire(self) -> None:
        """Connect the samples, and the speeds with the method."""
        self.speed.follow(self.method, "session")
        self.samples.wire(_sampled, [self.picture, self.instruction.box], "session_sample")


def _sampled(number: int) -> list[Any]:
    sample = FIRST_TURNS[number]
    return [str(sample.picture), sample.instruction]
