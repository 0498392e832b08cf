"""Settings of a comparison as text by name: from a recipe, in a link, and onto the page's controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from demos import widgets
from editkit import api, config
from editkit.errors import EditkitError
from editkit.inference import speed

LONGEST = 4000
"""Characters of a value in a link."""
LISTED = ","
"""Between methods in a link."""
OWN = ("__", "view", "session_hash", "deep_link")
"""Beginnings of Gradio's own names in a link."""


def of_recipe(recipe: Mapping[str, Any], base: str | None) -> dict[str, str]:
    """Return the settings in a recipe that differ from the defaults, for a page of this base."""
    (method,) = (each for each in api.methods() if each.name == recipe["method"])
    found: dict[str, Any] = {
        "instruction": recipe["instruction"],
        "methods": method.name,
        "seed": recipe["seed"],
        "steps": recipe["steps"],
        "preserve": bool(recipe["preserve"]),
    }
    usual: Any = config.build(method.config, {})
    own = {"guidance": recipe["guidance"], "task": recipe["task"]} | {
        name: value
        for name in widgets.fields(method.config)
        if _text(value := recipe["options"].get(name)) != _text(getattr(usual, name))
    }
    if not method.tasks:
        del own["task"]
    if (used := recipe.get("speed", speed.EXACT)) != speed.EXACT:
        own["speed"] = speed.name_of(used, base, method.name)
    found |= {f"{method.name}_{name}": value for name, value in own.items()}
    return {name: _text(value) for name, value in found.items()}


def remarks(recipe: Mapping[str, Any]) -> list[str]:
    """Say what of a recipe settings do not hold."""
    left = [
        words
        for words, there in (
            ("the paint", recipe.get("mask")),
            ("the references", recipe.get("references")),
            ("further adapters", recipe.get("lora")),
        )
        if there
    ]
    return [f"Settings do not hold {' and '.join(left)} of this result; give them again."] if left else []


def link(settings: Mapping[str, str]) -> str:
    """Return the query of a link that holds the settings."""
    return f"?{urlencode({name: value for name, value in settings.items() if value != ''})}"


def from_link(query: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in a link's query, without Gradio's own words."""
    return {name: value for name, value in query.items() if not name.startswith(OWN)}


def applied(controls: Mapping[str, Any], settings: Mapping[str, str]) -> tuple[dict[Any, Any], list[str]]:
    """Set controls; those that are not named get their defaults. Also return what was left out, and why.

    Nothing in a link is taken for the name of a file: text goes into fields for words and numbers, and a
    field with a list takes what is in its list.
    """
    changes = {control: gr.update(value=control.value) for control in controls.values()}
    read = [_change(name, text, controls) for name, text in settings.items()]
    for change, _ in read:
        changes |= change
    return changes, [note for _, note in read if note]


def _change(name: str, text: str, controls: Mapping[str, Any]) -> tuple[dict[Any, Any], str]:
    """Return the change of a control, or why there is none."""
    try:
        if name not in controls:
            raise EditkitError(f"{name[:40]} is no setting of this page; it was left out.")
        return {controls[name]: gr.update(value=_value(name, controls[name], text))}, ""
    except EditkitError as error:
        return {}, str(error)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)


def _value(name: str, control: Any, text: str) -> Any:
    if len(text) > LONGEST:
        raise EditkitError(f"{name} is longer than {LONGEST} characters; it was left out.")
    if isinstance(control, gr.Checkbox):
        return _one_of(name, text, {"true": True, "false": False})
    if isinstance(control, gr.Dropdown):
        return _one_of(name, text, {str(value): value for _, value in control.choices})
    if isinstance(control, gr.CheckboxGroup):
        known = {str(value): value for _, value in control.choices}
        return [_one_of(name, each, known) for each in text.split(LISTED)]
    if isinstance(control, gr.Number):
        if not text.isdecimal():
            raise EditkitError(f"{name}={text} is not a whole number; it was left out.")
        return int(text)
    return text


def _one_of(name: str, text: str, known: Mapping[str, Any]) -> Any:
    if text not in known:
        words = ", ".join(each for each in known if each)
        raise EditkitError(f"{name}={text} is none of {words}; it was left out.")
    return known[text]
