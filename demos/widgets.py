"""Controls for a dataclass of options, explained by the strings below its fields."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import gradio as gr

from editkit import config
from editkit.errors import EditkitError
from editkit.fields import explained

TRAINING = "Training:"
"""Beginning of the explanation of fields that edits do not use."""
NOTHING = ""
"""Value that a control shows for None."""


def controls(options: type) -> dict[str, Any]:
    """Make a control for each field that edits use and that one control can show, by the field's name."""
    return {name: _control(options, name) for name in fields(options)}


def values(options: type, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Read options from the values of controls, without those at their defaults."""
    defaults: Any = config.build(options, {})
    found = {name: _read(kind, shown[name]) for name, kind in fields(options).items() if name in shown}
    return {name: value for name, value in found.items() if value != getattr(defaults, name)}


@cache
def fields(options: type) -> Mapping[str, Any]:
    """Return the types of the fields with a control, by name."""
    hints, words = get_type_hints(options), explained(options)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(options)
        if not words.get(field.name, "").startswith(TRAINING) and _plain(hints[field.name]) is not None
    }


def _plain(kind: Any) -> Any:
    """Return str, int, float, bool or tuple for a type that may allow None; None for other types."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [each for each in get_args(kind) if each is not type(None)]
        return _plain(inner[0]) if len(inner) == 1 else None
    if get_origin(kind) is tuple:
        return tuple if get_args(kind) == (str, ...) else None
    return kind if kind in (str, int, float, bool) else None


def _optional(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _control(options: type, name: str) -> Any:
    kind, value = fields(options)[name], getattr(config.build(options, {}), name)
    text = explained(options).get(name, "")
    common: dict[str, Any] = {"label": name.replace("_", " "), "info": text, "interactive": True}
    match _plain(kind):
        case plain if plain is bool:
            return gr.Checkbox(value=value, **common)
        case plain if plain in (int, float):
            return gr.Number(value=value, precision=0 if plain is int else None, **common)
        case plain if plain is tuple:
            return gr.Textbox(value="\n".join(value), lines=2, max_lines=6, **common)
    choices = _choices(options, name, text, value)
    if not choices:
        return gr.Textbox(value=value or NOTHING, **common)
    listed = [(NOTHING if choice is None else choice, choice or NOTHING) for choice in choices]
    if _optional(kind):
        listed = [("none", NOTHING), *(pair for pair in listed if pair[1])]
    return gr.Dropdown(
        listed, value=value or NOTHING, allow_custom_value=_is_valid(options, name, "anything else"), **common
    )


def _choices(options: type, name: str, text: str, value: Any) -> list[Any]:
    """List the words in backticks of the explanation that are valid values of the field."""
    words = [word for word in re.findall(r"`([^`=]+)`", text) if _is_valid(options, name, word)]
    return list(dict.fromkeys([*words, value])) if words else []


def _is_valid(options: type, name: str, value: str) -> bool:
    try:
        config.build(options, {name: value})
    except EditkitError:
        return False
    return True


def _read(kind: Any, shown: Any) -> Any:
    if _plain(kind) is tuple:
        return tuple(line for line in (shown or "").splitlines() if line)
    if shown in (None, NOTHING):
        return None if _optional(kind) else shown
    return int(shown) if _plain(kind) is int else shown
