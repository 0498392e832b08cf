"""Surface: the command line and `Editor.edit` take an edit's fields as `EditRequest` spells them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from editkit import editor
from editkit.cli import app
from editkit.cli.request import takes
from editkit.editor import Editor
from editkit.fields import explained, summary
from editkit.inference.search_settings import SeedSearch
from editkit.judges import JUDGES
from editkit.request import FIELDS, EditRequest
from editkit.types import EditResult
from tests.command_line import Cli

GIVEN: dict[str, Any] = {
    "image": Path("a.png"),
    "instruction": "make it blue",
    "method": "icedit",
    "task": "portrait",
    "mask": Path("m.png"),
    "references": (Path("r.png"), Path("s.png")),
    "seed": 7,
    "steps": 3,
    "guidance": 2.5,
    "size": (64, 48),
    "preserve": True,
    "align": True,
    "negative": "red",
    "speed": "balanced",
    "search": {"seeds": 2, "judge": "tiny", "both_orders": False, "options": {"a": 1}},
}
LINE = [
    *("a.png", "make it blue", "-m", "icedit", "--task", "portrait", "--mask", "m.png", "--ref", "r.png"),
    *("--ref", "s.png", "--seed", "7", "--steps", "3", "--guidance", "2.5", "--size", "64x48", "--preserve"),
    *(
        "--align",
        "--negative",
        "red",
        "--speed",
        "balanced",
        "--search",
        "2",
        "--judge",
        "tiny",
        "--one-order",
    ),
    *("--judge-option", "a=1"),
]


def test_every_field_is_read() -> None:
    found: list[dict[str, Any]] = []
    own = typer.Typer()
    own.command()(takes(*FIELDS)(lambda asked: found.append(asked)))
    own(LINE, standalone_mode=False)
    own(["b.png", "x"], standalone_mode=False)
    assert found[0] == GIVEN
    plain = EditRequest(image=Path("b.png"), instruction="x")
    assert {**found[1], "search": None} == {name: getattr(plain, name) for name in FIELDS}
    assert found[1]["search"] == {"seeds": 1}


def test_help_is_the_fields_first_sentence() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    told = {each.name: each.help for each in commands["edit"].params}
    for name in set(FIELDS) - {"search", "references", "image"}:
        assert told[name] == summary(EditRequest, name)
    for name in ("references", "image"):
        assert told[name].startswith(summary(EditRequest, name)[:-1])
    assert told["search_seeds"] == summary(SeedSearch, "seeds")
    assert {each.name for each in commands["generate"].params} >= {"prompt", "seed", "search_judge"}


def test_every_judge_is_named() -> None:
    assert [name for name in JUDGES if name not in summary(SeedSearch, "judge")] == []


def test_every_field_is_explained() -> None:
    assert explained(EditRequest).keys() == set(FIELDS)
    assert explained(SeedSearch).keys() == {field.name for field in dataclasses.fields(SeedSearch)}


class Asked(Editor):
    """Keeps the request and edits nothing."""

    def run(self, request: EditRequest, *, watch: Any = None) -> EditResult:
        self.request, self.watch = request, watch
        return EditResult(image=None, method=request.method, seed=request.seed)


def test_edit_hands_over_all_that_it_is_given() -> None:
    asked = Asked(backbone=None)
    asked.edit(**GIVEN, watch=print)
    assert (asked.request, asked.watch) == (EditRequest(**GIVEN), print)
    asked.edit(None, "x")
    assert asked.request == EditRequest(image=None, instruction="x")


def test_edit_has_the_records_types_and_defaults() -> None:
    taken = inspect.signature(Editor.edit).parameters
    for field in dataclasses.fields(EditRequest):
        missing = field.default is dataclasses.MISSING
        assert taken[field.name].default == (inspect.Parameter.empty if missing else field.default)
        if field.name != "search":
            assert taken[field.name].annotation == field.type


@pytest.mark.parametrize("options", [{"kontextt": {}}, {"kontext": {"sizse": "exact"}}])
def test_a_wrong_option_is_said_when_the_editor_is_made(options: Any) -> None:
    with pytest.raises(editor.EditkitError, match="did you mean"):
        Editor(None, options)


def test_generate_speaks_of_no_picture_to_edit(cli: Cli) -> None:
    drawn, edited = (
        " ".join(re.findall(r"[\w.,;-]+", cli(command, "--help").out)) for command in ("generate", "edit")
    )
    assert "The whole picture in words." in drawn
    assert "Picture to write or replace; - for stdout." in drawn
    assert "Picture to write or replace; a folder for several" in edited
