"""Surface: the commands and the Python that README and docs show run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from PIL import Image

import editkit
from backbones.load_options import LoadOptions
from editkit import config, registry
from editkit.cli import app
from editkit.cli.options import pairs
from tests import ROOT
from tests.command_line import Cli, python, refused
from tests.docs.conftest import STEPS
from tests.docs.pages import ALL, DOCS, ELSEWHERE, PAGES, README, TRAINED, blocks, named, shown

COMMANDS = typer.main.get_command(app)
METHODS = registry.method_names()
WRITTEN = {block.title for page in PAGES for block in blocks(page)}
"""Files that pages show whole."""
LORA = [line for line in shown(DOCS / "guides" / "lora-files.md") if line.split()[1] == "lora"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_steps: None) -> Path:
    """A folder to run commands in, with what a checkout has beside them."""
    for name in ("configs", "demos", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", ALL)
def test_commands_parse(line: str) -> None:
    command, words = COMMANDS, shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    context = command.make_context(command.name, words)
    config.build(LoadOptions, pairs(context.params.get("load"), "--load"))
    method, options = context.params.get("method"), pairs(context.params.get("option"))
    if method in METHODS:
        config.build(registry.method(method).config, options)
    file = context.params.get("config")
    if file is None or str(file) in WRITTEN:
        return
    assert (ROOT / file).is_file()
    values, changes = config.layered(
        ROOT / file, [_at_root(word) for word in context.params["overrides"] or ()]
    )
    settings = config.build(registry.recipe(values.get("recipe", "edit")).CONFIG, values, changes)
    if hasattr(settings, "options"):
        config.build(registry.method(settings.method).config, settings.options)


def _at_root(word: str) -> str:
    return str(ROOT / word) if word.endswith(".yaml") and "=" not in word else word


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_yaml_on_pages_is_a_config(page: Path, here: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and block.title:
            values = yaml.safe_load(block.text)
            config.build(registry.recipe(values.get("recipe", "edit")).CONFIG, values)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=named)
def test_pages_run(page: Path, cli: Cli, here: Path) -> None:
    """In the order of the page, but for what needs training, or weights that are not here."""
    _run(page, cli, here, trains=False)


TRAINING_PAGES = [
    page
    for page in (README, DOCS / "quickstart.md", DOCS / "guides" / "fine-tune.md")
    if any(line.split()[1] == "train" for line in shown(page))
]


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINING_PAGES, ids=named)
def test_pages_train(page: Path, cli: Cli, here: Path) -> None:
    """The whole page, with two steps for each training run."""
    _run(page, cli, here, trains=True)


def _run(page: Path, cli: Cli, folder: Path, *, trains: bool) -> None:
    names: dict[str, Any] = {"editkit": editkit, "editor": editkit.load("tiny", "cpu"), "__name__": "page"}
    for block in blocks(page):
        if block.title and block.language == "yaml":
            (folder / block.title).write_text(block.text)
        elif block.language == "python" and not block.title:
            _run_python(block.text, names, folder, trains)
        for line in block.commands:
            _run_command(line, cli, folder, trains)


def _run_python(text: str, names: dict[str, Any], folder: Path, trains: bool) -> None:
    code = compile(text, "page", "exec")
    if ELSEWHERE.search(text) or (TRAINED.search(text) and not trains):
        return
    exec(code, names)  # they are our own pages
    for file in re.findall(r"save\(\"(.+?)\"\)", text):
        saved = folder / file
        assert Image.open(saved / "strip.png" if saved.is_dir() else saved).size > (100, 100)


def _run_command(line: str, cli: Cli, folder: Path, trains: bool) -> None:
    program, name, *rest = shlex.split(line, comments=True)
    training = name in ("train", "data") or program == "python" or TRAINED.search(line)
    if ELSEWHERE.search(line) or name in ("demo", "serve", "eval", "weights") or (training and not trains):
        return
    if program == "python":
        if "score" not in rest:  # which makes 600 edits
            done = python(ROOT / name, *rest, cwd=folder)
            assert done.status == 0, done.err
        return
    run = cli(name, *rest, *_short(name, rest))
    assert run.status == 0, run.err
    if name in ("edit", "generate") and "--json" not in rest:
        assert Image.open(folder / run.out.split()[0]).size == (128, 128)


def _short(name: str, rest: list[str]) -> list[str]:
    """What makes a training run or an edit end soon."""
    if name in ("edit", "generate", "compare"):
        return [] if {"--steps", "--fast"} & {*rest} else ["--steps", str(STEPS)]
    if name != "train" or "--plan" in rest:
        return []
    values = config.read_yaml(ROOT / rest[0])
    mixed = [f"mixture.{name}.data.count=32" for name in values.get("mixture", {})]
    return ["fit.steps=2", "data.count=32", "load.compile=false", *mixed]


def test_compare_runs(cli: Cli, here: Path) -> None:
    (line,) = (line for line in ALL if line.split()[1] == "compare" and "kontext,icedit,aceplus" in line)
    run = cli(*shlex.split(line)[1:], "--steps", "2")
    assert run.status == 0, run.err
    *figures, last = run.out.splitlines()
    assert [figure.split()[0] for figure in figures] == ["kontext", "icedit", "aceplus"]
    assert Image.open(here / last).width > 4 * 256
    judged = ("--json", "--judge", "preserve", "--steps", "1", "--option", "aceplus.model=full")
    run = cli(*shlex.split(line)[1:], *judged)
    assert (run.status, run.err) == (0, "")
    assert sum(method["wins"] for method in json.loads(run.out)["methods"]) == 3
    refused(cli(*shlex.split(line)[1:], "--option", "model=full"), r"must have the form method\.key=value")
    more = ("--ref", "demos/samples/lettered.png", "--negative", "a star", "--steps", "2", "--json")
    run = cli(*shlex.split(line)[1:], *more, "--preserve")
    told = {method["method"]: method for method in json.loads(run.out)["methods"]}
    assert "takes no reference" in run.err
    assert told["icedit"]["error"]
    assert not told["kontext"]["error"]
    run = cli(*shlex.split(line)[1:], *more)
    plain = {method["method"]: method for method in json.loads(run.out)["methods"]}
    assert told["aceplus"]["moved"] < plain["aceplus"]["moved"] / 4


def test_lora_commands_run(cli: Cli, here: Path) -> None:
    """One after the other: each takes what the one before wrote."""
    for line in LORA:
        if not ELSEWHERE.search(line):
            run = cli(*shlex.split(line)[1:])
            assert run.status == 0, run.err
    assert {path.name for path in here.glob("*.safetensors")} == {
        "plain.safetensors",
        "kohya.safetensors",
        "small.safetensors",
        "both.safetensors",
    }


def _quick(page: Path) -> Iterator[str]:
    for line in shown(page):
        if line.split()[1] in ("edit", "generate") and not ELSEWHERE.search(line):
            yield line


def test_pages_show_what_they_did() -> None:
    """So that a page which loses its commands does not pass for one whose commands run."""
    assert len(ALL) > 60
    assert len(shown(README)) > 5
    assert len(list(_quick(README))) > 0
    assert len({line for page in PAGES for line in _quick(page)}) > 10
    assert len(LORA) > 4
    snippets = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    assert len([each for each in snippets if not ELSEWHERE.search(each.text)]) > 8
