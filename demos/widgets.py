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
NULL = re.compile(r"\bnull\b")
"""Word of explanations for None, which on the page is an empty field."""
NOTHING = ""
"""Value that a control shows for None."""


def number_field(label: str, value: float | None = None, **told: Any) -> Any:
    """A field for a number that may stay empty.

    It takes text, since Gradio's own for numbers sends 0 for an empty one once it was on the screen.
    """
    written = NOTHING if value is None else f"{value:.12g}"
    attributes = gr.InputHTMLAttributes(autocorrect="off", spellcheck=False)
    return gr.Textbox(value=written, label=label, max_lines=1, html_attributes=attributes, **told)


def number(label: str, written: Any, *, whole: bool = False) -> Any:
    """The number in such a field; None for an empty one, and what other clients send as it is.

    Raises:
        EditkitError: where it is no number.
    """
    if not isinstance(written, str):
        return written
    if not written.strip():
        return None
    try:
        return int(written) if whole else float(written)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise EditkitError(f"{label}={written.strip()} is not {kind}; give one, or leave it empty.") from None


def control(options: type, name: str, label: str | None = None) -> Any:
    """Make a control for a field; its label is the field's name where none is given."""
    kind, value = fields(options)[name], getattr(config.build(options, {}), name)
    text = NULL.sub("empty", explained(options).get(name, ""))
    common: dict[str, Any] = {"label": label or name.replace("_", " "), "info": text, "interactive": True}
    match _plain(kind):
        case plain if plain is bool:
            return gr.Checkbox(value=value, **common)
        case plain if plain in (int, float):
            return number_field(value=value, **common)
        case plain if plain is tuple:
            return gr.Textbox(value="\n".join(value), lines=2, max_lines=6, **common)
    choices = _choices(options, name)
    if not choices:
        return gr.Textbox(value=value or NOTHING, **common)
    listed = [(NOTHING if choice is None else choice, choice or NOTHING) for choice in choices]
    if _optional(kind):
        listed = [("none", NOTHING), *(pair for pair in listed if pair[1])]
    return gr.Dropdown(listed, value=value or NOTHING, **common)


def values(options: type, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of controls as options; defaults and empty numbers are left out.

    A field that can be a file's name has a list to choose from, so that no visitor names files of the server.

    Raises:
        EditkitError: where a number is none, or a value is not in the field's list.
    """
    defaults: Any = config.build(options, {})
    found = {name: _read(name, kind, shown[name]) for name, kind in fields(options).items() if name in shown}
    for name, value in found.items():
        offered = _choices(options, name)
        if offered and value not in (None, *offered):
            words = ", ".join(str(each) for each in offered if each is not None)
            raise EditkitError(f"{name}={value} is not offered on this page; choose one of {words}.")
    return {
        name: value
        for name, value in found.items()
        if value != getattr(defaults, name) and (value is not None or _optional(fields(options)[name]))
    }


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


@cache
def _choices(options: type, name: str) -> tuple[Any, ...]:
    """List the words in backticks of a text field's explanation that are valid values of it."""
    if _plain(fields(options)[name]) is not str:
        return ()
    text, value = explained(options).get(name, ""), getattr(config.build(options, {}), name)
    words = [word for word in re.findall(r"`([^`=]+)`", text) if _is_valid(options, name, word)]
    return tuple(dict.fromkeys([*words, value])) if words else ()


def _is_valid(options: type, name: str, value: str) -> bool:
    try:
        config.build(options, {name: value})
    except EditkitError:
        return False
    return True


def _read(name: str, kind: Any, shown: Any) -> Any:
    plain = _plain(kind)
    if plain is tuple:
        return tuple(line for line in (shown or "").splitlines() if line)
    if plain in (int, float):
        read = number(name, shown, whole=plain is int)
        return int(read) if plain is int and isinstance(read, float) and read.is_integer() else read
    if shown in (None, NOTHING):
        return None if _optional(kind) else shown
    return shown
