"""A drawer of options for each method, from its record: a new method's appears by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from demos import theme, widgets
from editkit.config import Options
from editkit.editor import Editor
from editkit.method import Method
from editkit.types import EditRequest


class Drawer:
    """What one method can be told."""

    def __init__(self, method: Method[Options]) -> None:
        self.method = method
        with gr.Accordion(f"Options of {method.name}", open=False):
            gr.HTML(theme.hint(method.paper))
            self.guidance = gr.Number(value=None, minimum=0, label="guidance", info="Empty: its own.")
            self.task = None
            if method.tasks:
                listed = [(f"{task.name}: {task.summary}", task.name) for task in method.tasks]
                self.task = gr.Dropdown([("fitting what is given", ""), *listed], value="", label="task")
            self.options = widgets.controls(method.config)

    def named(self) -> dict[str, Any]:
        """The controls by their names in the API."""
        controls = {"guidance": self.guidance, "task": self.task, **self.options}
        return {f"{self.method.name}_{key}": control for key, control in controls.items() if control}

    def chosen(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The method's options, where they differ from its own."""
        prefix = f"{self.method.name}_"
        mine = {key.removeprefix(prefix): value for key, value in told.items() if key.startswith(prefix)}
        return widgets.values(self.method.config, {key: mine[key] for key in self.options if key in mine})

    def asked(self, request: EditRequest, told: Mapping[str, Any]) -> EditRequest:
        """A request with the method's own guidance and task."""
        name = self.method.name
        return replace(request, guidance=told.get(f"{name}_guidance"), task=told.get(f"{name}_task") or None)


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
