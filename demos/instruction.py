"""The field for an instruction: Enter sends it, Shift+Enter makes a line, and it says where it is empty."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import theme
from editkit.errors import EditkitError
from editkit.inference.inputs import check_instruction


class Instruction:
    """The field, and the line below it.

    Args:
        name: of the tab.
        label: of the field.
        example: shown while it is empty.
        value: that it starts with.
    """

    def __init__(self, name: str, label: str, example: str, value: str = "") -> None:
        with gr.Group():
            self.box = gr.Textbox(
                label=label,
                value=value,
                placeholder=example,
                lines=1,
                max_lines=5,
                elem_id=f"{name}-instruction",
            )
            self.problem = gr.HTML(label="problem", elem_id=f"{name}-instruction-problem")

    def missing(self, written: str | None) -> dict[Any, Any]:
        """The problem where nothing is written; else nothing."""
        try:
            check_instruction(written or "")
        except EditkitError as error:
            return {self.problem: theme.problem(str(error))}
        return {}

    def fine(self) -> dict[Any, Any]:
        """No problem any more."""
        return {self.problem: ""}
