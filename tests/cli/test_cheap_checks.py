"""Refusals that need no torch do not import it, and so come at once."""

from __future__ import annotations

import json

import pytest

from tests import ROOT
from tests.command_line import Run, picture, python, refused

PROGRAM = """
import contextlib, io, json, sys
from editkit.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["editkit", *arguments]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stopped:
            status = stopped.code
    told = {"status": status, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps([told, "torch" in sys.modules]))
"""
"""One process for all commands, since none of them may import what is heavy."""
CONFIG = str(ROOT / "configs" / "tiny" / "kontext-lora.yaml")


MADE = ["-m", "kontext", "-o", "run"]
REFUSALS: list[tuple[list[str], str]] = [
    (["edit", "absent.png", "hi"], "absent.png cannot be read"),
    (["edit", "x" * 300, "hi"], "cannot be read .File name too long"),
    (["edit", "image.png", "x" * 300, "hi", "-o", "out"], "cannot be read"),
    (["edit", "", "hi"], "The picture's name is empty"),
    (["edit", "image.png", "hi", "--mask", ""], "The mask's name is empty"),
    (["edit", "-", "hi"], "The image on stdin is in no known picture format"),
    (["edit", "image.png", "hi", "--mask", "-"], "The mask cannot be read from stdin"),
    (["edit", "image.png", "hi", "--ref", "-"], "The reference cannot be read from stdin"),
    (["edit", "image.png", "hi", "--device", "rtx4090-24g"], "rtx4090-24g is a GPU to plan for"),
    (["edit", "image.png", "hi", "--option", "nonsense=1"], "Unknown key 'nonsense'"),
    (
        ["edit", "image.png", "hi", "-m", "icedit", "--option", "moe.nonsense=1"],
        "Unknown key 'moe.nonsense'",
    ),
    (["edit", "image.png", "hi", "-m", "aceplus", "--option", "crop=round"], "crop must be one of"),
    (["edit", "image.png", "hi", "-m", "nonsense"], "no method 'nonsense'"),
    (["eval", "shapesworld", "--option", "nonsense=1"], "Unknown key 'nonsense'"),
    (["eval", "run", "nonsense", *MADE], "no benchmark called 'nonsense'"),
    (["eval", "run", "jsonl", "--data", "absent", *MADE], "There is nothing at absent"),
    (["eval", "run", "kontext-bench", "--data", ".", *MADE], "There is none of test/metadata.jsonl"),
    (["eval", "run", "shapesworld", "--metrics", "nonsense", *MADE], "no metric called 'nonsense'"),
    (["eval", "run", "shapesworld", *MADE, "--option", "kontex.area=1"], "no method 'kontex'"),
    (["eval", "run", "shapesworld", *MADE, "--option", "icedit.nonsense=1"], "Unknown key 'nonsense'"),
    (["eval", "run", "shapesworld", *MADE, "--option", "kontext=1"], "must have the form method.key=value"),
    (
        ["eval", "run", "shapesworld", *MADE, "--metric-option", "lpips=1"],
        "the form metric.key=value",
    ),
    (["eval", "run", "shapesworld", *MADE, "--results", "absent"], "no folder of results at absent"),
    (["eval", "vae", "absent"], "There is nothing at absent"),
    (["compare", "absent.png", "hi"], "absent.png cannot be read"),
    (["compare", "-", "hi"], "The image on stdin is in no known picture format"),
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
    (["replay", "-"], "The picture cannot be read from stdin"),
    (["demo", "--runs", "absent"], "absent is no folder"),
    (["edit", "image.png", "hi", "-o", "o.tiff"], r"o\.tiff"),
    (["edit", "image.png", "hi", "--mask", "absent.png"], "absent.png cannot be read"),
    (["generate", "hi", "-o", "image.png/o.png"], "image.png"),
    (["eval", "shapesworld", "-o", "image.png/out"], "image.png"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Run, bool]]:
    """What each command left behind, and whether torch was imported by then."""
    folder = tmp_path_factory.mktemp("cheap")
    picture(folder / "image.png")
    told = python("-c", PROGRAM, json.dumps([arguments for arguments, _ in REFUSALS]), cwd=folder)
    assert (told.status, told.err) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["image.png"]
    return [(Run(**run), torch) for run, torch in map(json.loads, told.out.splitlines())]


@pytest.mark.parametrize("place", range(len(REFUSALS)), ids=lambda place: " ".join(REFUSALS[place][0]))
def test_without_torch(place: int, refusals: list[tuple[Run, bool]]) -> None:
    run, torch = refusals[place]
    assert not torch, "torch was imported"
    refused(run, REFUSALS[place][1])
