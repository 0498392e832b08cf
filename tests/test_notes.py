"""Behaviour: a note reaches whoever asked for the edit, once."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import editkit
from editkit import notes, packages
from editkit.backbone import provider
from editkit.errors import EditkitWarning
from tests.command_line import Cli

LEFT_OUT = "The LoRA's part for text encoders is left out: "


def test_a_note_is_a_warning_where_nobody_collects() -> None:
    with pytest.warns(EditkitWarning, match="^a$"):
        notes.tell("a")
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        notes.warn(["a", "b", "a"])
    assert [str(each.message) for each in raised] == ["a", "b"]


def failing() -> None:
    with notes.collected():
        notes.tell("d")
        raise ZeroDivisionError


def test_notes_are_collected() -> None:
    with notes.collected() as outer:
        notes.tell("a")
        with notes.collected() as inner:
            notes.tell("b")
        notes.tell("c")
        with pytest.raises(ZeroDivisionError):
            failing()
    assert (outer, inner) == (["a", "c", "d"], ["b"])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """ICEdit's LoRA in kohya's dialect, with a tensor for a text encoder."""
    path = tmp_path / "kohya.safetensors"
    own = packages.ROOT / "methods/icedit/tiny/lora"
    provider().lora.convert(own, path, "kohya", None)
    extra = {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 1)}
    save_file({**load_file(path), **extra}, path)
    return path


def test_the_notes_of_an_edit(adapter: Path, cli: Cli, tmp_path: Path) -> None:
    """Of the words and of the adapter's file: warnings of the API, in the result, on stderr."""
    picture, words = Image.new("RGB", (64, 64), "white"), "paint a giraffe"
    options = {"icedit": {"adapter": str(adapter)}}
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        result = editkit.load("tiny", "cpu", options=options).edit(picture, words, "icedit", steps=1)
    told = [str(each.message) for each in raised if issubclass(each.category, EditkitWarning)]
    assert told == list(result.notes)
    assert told[0].startswith(LEFT_OUT)
    assert any("giraffe" in note for note in told)
    picture.save(tmp_path / "a.png")
    line = ["-m", "icedit", "--option", f"adapter={adapter}", "--steps", 1, "--device", "cpu"]
    run = cli("edit", tmp_path / "a.png", words, *line, "-o", tmp_path / "b.png")
    assert (run.status, run.err.splitlines()) == (0, [f"note: {note}" for note in told])
