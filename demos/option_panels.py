"""A drawer of options for each method, made from its record; a new method gets one without changes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from demos import theme, widgets
from demos.jobs import QUICK
from editkit.config import Options
from editkit.editor import Editor
from editkit.fields import summary
from editkit.inference import speed
from editkit.method import Method
from editkit.request import EditRequest


class Speed:
    """The control for how much work to save; it offers what was measured for a method on this backbone.

    Args:
        base: of the backbone; None where nothing was measured for it.
        method: name of the method, which `follow` may change.
        label: of the control.
    """

    def __init__(self, base: str | None, method: str, label: str = "speed") -> None:
        self.base = base
        choices = self._choices(method)
        self.box = gr.Dropdown(
            choices,
            value=speed.EXACT,
            label=label,
            info=summary(EditRequest, "speed"),
            visible=len(choices) > 1,
            min_width=120,
        )

    def _choices(self, method: str) -> list[str]:
        return [speed.EXACT, *speed.measured(self.base, method)]

    def follow(self, method: Any, name: str) -> None:
        """Offer what was measured for the method that another control names."""

        def chosen(method: str, now: str) -> Any:
            choices = self._choices(method)
            value = now if now in choices else speed.EXACT
            return gr.update(choices=choices, value=value, visible=len(choices) > 1)

        method.change(chosen, [method, self.box], [self.box], api_name=f"{name}_speeds", **QUICK)


class Drawer:
    """The options of one method on the page: those that matter first, the others behind "Expert".

    Args:
        method: which one.
        base: of the page's backbone.
    """

    def __init__(self, method: Method[Options], base: str | None) -> None:
        self.method, self.base = method, base
        first = method.main_options
        own = ["speed", *(["task"] if method.tasks else [])]
        names = ["guidance", *own, *widgets.fields(method.config)]
        made: dict[str, Any] = {}
        with gr.Accordion(f"Options of {method.name}", open=False, elem_id=f"options-{method.name}"):
            gr.HTML(theme.hint(f"After {method.paper}"))
            made |= {name: self._control(name, first[name]) for name in first}
            with gr.Accordion("Expert", open=False):
                made |= {name: self._control(name, None) for name in names if name not in first}
        self.fields = {name: made[name] for name in names if name in ("guidance", "speed", "task")}
        self.options = {name: made[name] for name in names if name not in self.fields}

    def _control(self, name: str, label: str | None) -> Any:
        if name == "guidance":
            return widgets.number_field(label or name, info=summary(EditRequest, name))
        if name == "speed":
            return Speed(self.base, self.method.name, label or name).box
        if name == "task":
            listed = [(f"{task.name}: {task.summary}", task.name) for task in self.method.tasks]
            return gr.Dropdown([("fitting what is given", ""), *listed], value="", label=label or name)
        return widgets.control(self.method.config, name, label)

    def named(self) -> dict[str, Any]:
        """Return the controls by their names in the API."""
        controls = {**self.fields, **self.options}
        return {f"{self.method.name}_{key}": control for key, control in controls.items()}

    def chosen(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        """Read the method's options that differ from its defaults.

        Raises:
            EditkitError: where one is not of its kind.
        """
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
        fields["speed"] = fields.get("speed") or speed.EXACT
        return replace(request, **fields)


def apply(
    drawers: Mapping[str, Drawer],
    editor: Editor,
    requests: Sequence[EditRequest],
    shown: Mapping[str, Any],
    lora: Mapping[str, float] | None = None,
) -> list[tuple[Editor, EditRequest]]:
    """Give requests the options and fields that the drawers show; return them with their editor.

    Args:
        drawers: by method.
        editor: whose backbone makes the edits.
        requests: of methods with a drawer.
        shown: values of the controls by their names in the API.
        lora: adapters that every method wears as well, with their scales.

    Raises:
        EditkitError: for an option that a method does not take.
    """
    options = {request.method: drawers[request.method].chosen(shown) for request in requests}
    configured = editor.configured(options, lora)
    return [(configured, drawers[request.method].request_with(request, shown)) for request in requests]
