"""A drawer of options for each method, from its record: a new method's appears by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from demos import theme, widgets
from editkit.config import Options
from editkit.editor import Editor
from editkit.fields import summary
from editkit.method import Method
from editkit.request import EditRequest


class Drawer:
    """What one method can be told."""

    def __init__(self, method: Method[Options]) -> None:
        self.method = method
        with gr.Accordion(f"Options of {method.name}", open=False):
            gr.HTML(theme.hint(method.paper))
            guidance = widgets.number_field("guidance", info=summary(EditRequest, "guidance"))
            self.fields: dict[str, Any] = {"guidance": guidance}
            if method.tasks:
                listed = [(f"{task.name}: {task.summary}", task.name) for task in method.tasks]
                choices = [("fitting what is given", ""), *listed]
                self.fields["task"] = gr.Dropdown(choices, value="", label="task")
            self.options = widgets.controls(method.config)

    def named(self) -> dict[str, Any]:
        """The controls by their names in the API."""
        controls = {**self.fields, **self.options}
        return {f"{self.method.name}_{key}": control for key, control in controls.items()}

    def chosen(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The method's options, where they differ from its own."""
        prefix = f"{self.method.name}_"
        mine = {key.removeprefix(prefix): value for key, value in told.items() if key.startswith(prefix)}
        return widgets.values(self.method.config, {key: mine[key] for key in self.options if key in mine})

    def asked(self, request: EditRequest, told: Mapping[str, Any]) -> EditRequest:
        """A request with the method's own fields.

        Raises:
            EditkitError: where the guidance is no number.
        """
        shown = {key: told.get(f"{self.method.name}_{key}") for key in self.fields}
        asked: dict[str, Any] = {key: None if value == "" else value for key, value in shown.items()}
        asked["guidance"] = widgets.number("guidance", asked["guidance"])
        return replace(request, **asked)


def apply(
    drawers: Mapping[str, Drawer], editor: Editor, requests: Sequence[EditRequest], told: Mapping[str, Any]
) -> list[tuple[Editor, EditRequest]]:
    """Requests with what the drawers of their methods say.

    Raises:
        EditkitError: for an option that a method does not take.
    """
    options = {request.method: drawers[request.method].chosen(told) for request in requests}
    configured = editor.configured(options)
    return [(configured, drawers[request.method].asked(request, told)) for request in requests]
