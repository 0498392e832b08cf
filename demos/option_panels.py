"""A drawer of options for each method, made from its record; a new method gets one without changes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from demos import theme, widgets
from editkit.config import Options
from editkit.editor import Editor
from editkit.fields import summary
from editkit.inference import speed
from editkit.method import Method
from editkit.request import EditRequest


class Drawer:
    """The options of one method on the page."""

    def __init__(self, method: Method[Options]) -> None:
        self.method = method
        with gr.Accordion(f"Options of {method.name}", open=False):
            gr.HTML(theme.hint(method.paper))
            guidance = widgets.number_field("guidance", info=summary(EditRequest, "guidance"))
            self.fields: dict[str, Any] = {"guidance": guidance}
            self.fields["speed"] = gr.Dropdown(
                list(speed.NAMES), value=speed.EXACT, label="speed", info=summary(EditRequest, "speed")
            )
            if method.tasks:
                listed = [(f"{task.name}: {task.summary}", task.name) for task in method.tasks]
                choices = [("fitting what is given", ""), *listed]
                self.fields["task"] = gr.Dropdown(choices, value="", label="task")
            self.options = widgets.controls(method.config)

    def named(self) -> dict[str, Any]:
        """Return the controls by their names in the API."""
        controls = {**self.fields, **self.options}
        return {f"{self.method.name}_{key}": control for key, control in controls.items()}

    def chosen(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        """Read the method's options that differ from its defaults."""
        prefix = f"{self.method.name}_"
        mine = {key.removeprefix(prefix): value for key, value in shown.items() if key.startswith(prefix)}
        return widgets.values(self.method.config, {key: mine[key] for key in self.options if key in mine})

    def request_with(self, request: EditRequest, shown: Mapping[str, Any]) -> EditRequest:
        """Add the method's own fields to a request.

        Raises:
            EditkitError: where the guidance is no number.
        """
        values = {key: shown.get(f"{self.method.name}_{key}") for key in self.fields}
        fields: dict[str, Any] = {key: None if value == "" else value for key, value in values.items()}
        fields["guidance"] = widgets.number("guidance", fields["guidance"])
        fields["speed"] = fields["speed"] or speed.EXACT
        return replace(request, **fields)


def apply(
    drawers: Mapping[str, Drawer], editor: Editor, requests: Sequence[EditRequest], shown: Mapping[str, Any]
) -> list[tuple[Editor, EditRequest]]:
    """Give requests the options and fields that the drawers show; return them with their editor.

    Raises:
        EditkitError: for an option that a method does not take.
    """
    options = {request.method: drawers[request.method].chosen(shown) for request in requests}
    configured = editor.configured(options)
    return [(configured, drawers[request.method].request_with(request, shown)) for request in requests]
