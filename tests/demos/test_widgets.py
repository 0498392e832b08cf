"""Controls from records of options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pytest

import editkit
from demos import option_panels, widgets
from editkit import config
from editkit.errors import EditkitError


@dataclass(frozen=True, kw_only=True)
class Options:
    """One field of each kind."""

    layout: str = "wide"
    """`wide`: side by side, up to `depth` of them; `tall`: on top of each other."""
    adapter: str | None = "default"
    """`default`, a file or a folder; null goes without."""
    word: str = "scene"
    """Any word."""
    depth: int = 3
    """How deep."""
    scale: float | None = None
    """How strong; as it is where null."""
    flip: bool = False
    """Whether."""
    parts: tuple[str, ...] = ("a", "b")
    """One a line."""
    dropout: float = 0.1
    """Training: never seen by an edit."""
    nested: dict[str, int] | None = None
    """No control shows this."""

    def __post_init__(self) -> None:
        if self.layout not in ("wide", "tall"):
            raise ValueError(f"layout must be wide or tall, not {self.layout!r}")


def test_a_dataclass_becomes_controls() -> None:
    with gr.Blocks():
        found = {name: widgets.control(Options, name) for name in widgets.fields(Options)}
    assert {name: type(control) for name, control in found.items()} == {
        "layout": gr.Dropdown,
        "adapter": gr.Dropdown,
        "word": gr.Textbox,
        "depth": gr.Textbox,
        "scale": gr.Textbox,
        "flip": gr.Checkbox,
        "parts": gr.Textbox,
    }
    assert [value for _, value in found["layout"].choices] == ["wide", "tall"]
    assert not found["layout"].allow_custom_value
    assert [value for _, value in found["adapter"].choices] == ["", "default"]
    assert not found["adapter"].allow_custom_value
    assert found["depth"].info == "How deep."
    shown = {"layout": "tall", "adapter": "", "depth": 5.0, "scale": None, "flip": True, "parts": "a\nb"}
    assert widgets.values(Options, shown) == {"layout": "tall", "adapter": None, "depth": 5, "flip": True}


@pytest.mark.parametrize("empty", [None, "", " "])
def test_an_empty_number_is_none_at_all(empty: str | None) -> None:
    assert widgets.values(Options, {"depth": empty, "scale": empty}) == {}
    assert widgets.number("steps", empty) is None


def test_numbers_are_read_as_they_are_written() -> None:
    assert widgets.values(Options, {"depth": "5", "scale": "0"}) == {"depth": 5, "scale": 0.0}
    with pytest.raises(EditkitError, match=r"depth=5\.5 is not a whole number; give one, or leave it empty"):
        widgets.values(Options, {"depth": "5.5"})
    with pytest.raises(EditkitError, match="scale=strong is not a number"):
        widgets.values(Options, {"scale": "strong"})


@pytest.mark.parametrize("path", ["/etc/passwd", "../weights", "owner/name", "a.safetensors"])
def test_no_field_takes_a_path_of_the_server(path: str) -> None:
    with pytest.raises(EditkitError, match="is not offered on this page; choose one of default"):
        widgets.values(Options, {"adapter": path})


@pytest.mark.parametrize("method", editkit.methods(), ids=lambda method: method.name)
def test_every_method_has_a_drawer_that_says_its_defaults(method: Any) -> None:
    with gr.Blocks():
        found = {name: widgets.control(method.config, name) for name in widgets.fields(method.config)}
        drawer = option_panels.Drawer(method, "tiny")
    assert found
    assert set(found) <= set(drawer.options)
    assert len(method.main_options) == 3
    for name, label in method.main_options.items():
        assert {**drawer.fields, **drawer.options}[name].label == label
        assert label != name
    assert all(control.label and control.info for control in found.values())
    assert widgets.values(method.config, {name: control.value for name, control in found.items()}) == {}
    names = {field.name for field in dataclasses.fields(config.build(method.config, {}))}
    assert set(found) <= names
