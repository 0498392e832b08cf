"""Refusals that need no torch do not import it, and so come at once."""

from __future__ import annotations

import pytest

from tests import ROOT
from tests.cases import Place
from tests.command_line import picture, python, refused

PROGRAM = """
import sys
from editkit.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""
CONFIG = str(ROOT / "configs" / "tiny" / "kontext-lora.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edit", "absent.png", "hi"], "absent.png cannot be read"),
        (["edit", "", "hi"], "The picture's name is empty"),
        (["edit", "image.png", "hi", "--mask", ""], "The mask's name is empty"),
        (["edit", "image.png", "hi", "--option", "nonsense=1"], "Unknown key 'nonsense'"),
        (
            ["edit", "image.png", "hi", "-m", "icedit", "--option", "moe.nonsense=1"],
            "Unknown key 'moe.nonsense'",
        ),
        (["edit", "image.png", "hi", "-m", "aceplus", "--option", "crop=round"], "crop must be one of"),
        (["edit", "image.png", "hi", "-m", "nonsense"], "no method 'nonsense'"),
        (["eval", "shapesworld", "--option", "nonsense=1"], "Unknown key 'nonsense'"),
        (["compare", "absent.png", "hi"], "absent.png cannot be read"),
        (["compare", "image.png", "hi", "--option", "kontext.nonsense=1"], "Unknown key 'nonsense'"),
        (["train", "absent.yaml"], "absent.yaml cannot be read"),
        (["train", CONFIG, "fit.stepz=1"], "did you mean 'fit.steps'"),
        (["train", CONFIG, "options.nonsense=1"], "Unknown key 'nonsense'"),
        (["train", CONFIG, "data.name=folders", "data.path=absent"], "The data absent do not exist"),
        (["data", "check", "absent.yaml"], "absent.yaml cannot be read"),
        (["lora", "inspect", "absent.safetensors"], "absent.safetensors is not a"),
        (["lora", "merge", "absent.safetensors=0.5", "o.safetensors"], "absent.safetensors is not a"),
        (["weights", "convert", "absent", "made"], "absent does not exist"),
        (["replay", "absent.png"], "absent.png cannot be read"),
        (["demo", "--runs", "absent"], "absent is no folder"),
    ],
)
def test_without_torch(arguments: list[str], words: str, place: Place) -> None:
    picture(place.folder / "image.png")
    run = python("-c", PROGRAM, *arguments, cwd=place.folder)
    assert "torch was imported" not in run.err
    refused(run, words)
    assert [path.name for path in place.folder.iterdir()] == ["image.png"]
