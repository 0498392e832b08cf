"""Surface: commands, their options, and the lists they print."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import typer.main

import editkit
from backbones.specs import FAMILIES
from editkit import registry
from editkit.cli import app
from tests import ROOT
from tests.command_line import Cli

METHODS = {path.parent.name for path in (ROOT / "methods").glob("*/__init__.py")}


LOADING = {"-b", "--backbone", "--device", "--dtype", "--quiet", "--verbose"}

SCORED = {"-m", "--method", "--n", "--steps", "--negative", "--batch-size", "--option", "--lora"}

SAMPLING = {
    "-m",
    "--method",
    "--speed",
    "--seed",
    "--steps",
    "--guidance",
    "--size",
    "--negative",
    "--option",
    "--load",
}

SAMPLING |= {"--lora", "--speed"}

LOW_MEMORY = {"--low-memory"}

OUTPUT = {"-o", "--output"}

SEARCH = {"--search", "--judge", "--search-mode", "--preview-steps", "--judge-option", "--contact-sheet"}

SEARCH |= {"--both-orders", "--one-order"}

DISTILLED = {"--fast"}

COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "edit": (
        ["image", "instruction"],
        {
            *LOADING,
            *SAMPLING,
            *LOW_MEMORY,
            *OUTPUT,
            *SEARCH,
            *DISTILLED,
            "--json",
            "--task",
            "--mask",
            "--ref",
            "--preserve",
            "--align",
        },
    ),
    "generate": (
        ["prompt"],
        {*LOADING, *SAMPLING, *LOW_MEMORY, *OUTPUT, *SEARCH, *DISTILLED} | {"--json", "--task", "--ref"},
    ),
    "compare": (
        ["image", "instruction"],
        {*LOADING, *LOW_MEMORY, *OUTPUT, "-m", "--method", "--mask", "--seed", "--steps", "--size", "--judge"}
        | {"--ref", "--preserve", "--negative", "--option", "--load", "--lora", "--json"},
    ),
    "replay": (["picture"], {*OUTPUT, "--image", "--mask", "--reference", "--device", "--lora", "--json"}),
    "methods": (["name"], {"--plan-device", "--device", "--load"}),
    "doctor": (["file"], {"--json"}),
    "demo": (
        [],
        {*LOW_MEMORY, "-b", "--backbone", "--device", "--host", "--port", "--share", "--password"}
        | {"--max-pixels", "--lora", "--load", "--dtype", "-o", "--output", "--adapter", "--personal"}
        | {"--runs", "--trust-paths"},
    ),
    "serve": (
        [],
        {*LOW_MEMORY, "-b", "--backbone", "--device", "--dtype", "--load", "--lora", "-m", "--method"}
        | {
            "--option",
            "--host",
            "--port",
            "--api-key",
            "--adapters",
            "--batch",
            "--queue",
            "--timeout",
            "--grace",
        }
        | {"--max-megabytes", "--body-seconds", "--max-pixels", "--max-steps", "--judge", "--page"}
        | {"--password"},
    ),
    "batch": (
        ["manifest"],
        {*LOADING, *SAMPLING, *LOW_MEMORY, *SEARCH - {"--contact-sheet"}, *DISTILLED, "--task", "--mask"}
        | {"--ref", "--preserve", "--align"}
        | {"--out", "--instruction", "--column", "--preset", "--batch-size", "--shard", "--retry"}
        | {"--ray", "--workers", "--gpus"},
    ),
    "backbones": ([], {"--plan-device", "--device", "--load"}),
    "stages": (["path"], set()),
    "train": (["config", "overrides"], {"--plan", "--plan-device", "--device"}),
    "eval shapesworld": ([], {*LOADING, *LOW_MEMORY, *OUTPUT, *SCORED, "--sessions", "--compound"}),
    "data check": (["config", "overrides"], {"--limit", "--output", "-o", "--json"}),
    "eval masked": ([], {*LOADING, *LOW_MEMORY, *OUTPUT, *SCORED, "--kind"}),
    "eval run": (
        ["benchmark"],
        {
            *LOADING,
            *("--data", "-m", "--method", "-o", "--out", "--limit", "--metrics", "--metric-option"),
            *("--results", "--seed", "--steps", "--batch-size", "--masks", "--dry-run", "--on", "--shard"),
            *("--option", "--load", "--lora", "--request"),
            *("--judge", "--rubric", "--judge-passes", "--judge-option"),
        },
    ),
    "arena": (
        ["runs"],
        {
            *("--votes", "--qualities", "--ranking", "--export", "--host", "--port", "--share"),
            *("--password", "--quiet", "--verbose"),
        },
    ),
    "eval vae": (
        ["pictures"],
        {*LOADING, "--limit", "-o", "--out", "--json", "--load"},
    ),
    "eval report": (["run"], {"--quiet", "--verbose"}),
    "eval compare": (
        ["first", "second"],
        {
            *("-m", "--method", "--columns", "--tolerance", "--shared-items", "--json"),
            *("--quiet", "--verbose"),
        },
    ),
    "eval export": (["run"], {"-o", "--out", "--as", "--quiet", "--verbose"}),
    "eval benchmarks": ([], set()),
    "weights convert": (["source", "destination"], {"--axes"}),
    "lora inspect": (["file"], {"--json"}),
    "lora convert": (["source", "destination"], {"--to", "--rank"}),
    "lora merge": (["sources", "destination"], {"--rank"}),
    "lora collapse": (["source", "destination"], {"--way", "--rank", "--weights"}),
    "lora publish": (["source", "folder"], {"-b", "--backbone", "-m", "--method"}),
}


def leaves(command: Any, name: str = "") -> dict[str, Any]:
    """Commands that do something, by their full names."""
    if not hasattr(command, "commands"):
        return {name: command}
    found: dict[str, Any] = {}
    for part, child in command.commands.items():
        found |= leaves(child, f"{name} {part}".strip())
    return found


def test_commands() -> None:
    found = {}
    for name, command in leaves(typer.main.get_command(app)).items():
        arguments = [each.name for each in command.params if each.param_type_name == "argument"]
        options = {
            opt
            for each in command.params
            if each.param_type_name == "option"
            for opt in (*each.opts, *each.secondary_opts)
        }
        found[name] = (arguments, options - {"--help"})
    assert found == COMMANDS


def test_backbones_command(cli: Cli) -> None:
    run = cli("backbones")
    assert (run.status, run.err) == (0, "")
    sections = re.split(r"^(?=\S)", run.out, flags=re.M)[1:]
    assert [section.split(":")[0] for section in sections] == list(FAMILIES)
    for section, family in zip(sections, FAMILIES.values(), strict=True):
        head, *lines = section.splitlines()
        assert family.summary in head
        assert [line.split()[0] for line in lines] == list(family.roles)
        for line, role in zip(lines, family.roles.values(), strict=True):
            assert line.endswith(role.licence)
            assert f"{role.disk_gb:g} GB disk" in line
            assert ("Non-Commercial" in line) == bool(re.search(r"FLUX\.1-.*dev|ACE_Plus", line))
    assert "Non-Commercial" in run.out


def test_methods_command(cli: Cli) -> None:
    run = cli("methods")
    assert (run.status, run.err) == (0, "")
    assert METHODS
    assert {line.split()[0] for line in run.out.splitlines() if not line.startswith(" ")} == METHODS
    for method in editkit.methods():
        assert method.summary in run.out
        assert method.paper in run.out


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_method_in_full(method: str, cli: Cli) -> None:
    run = cli("methods", method)
    assert (run.status, run.err) == (0, "")
    record = registry.method(method)
    for name in (*(task.name for task in record.tasks), *(f.name for f in dataclasses.fields(record.config))):
        assert re.search(rf"^  {name}\b", run.out, re.M)
    for task in record.tasks:
        _, told = re.split(rf"\n  {task.name} +{re.escape(task.summary)}\n", run.out)
        first = told.splitlines()[0]
        for key, value in dataclasses.asdict(task).items():
            if key not in ("name", "summary") and value not in (None, "", ()):
                words = " ".join(value) if isinstance(value, tuple) else str(value)
                assert f"{key} {words}" in first.replace("'", "")
    assert ("tasks" in run.out) == bool(record.tasks)


def test_backbones_say_what_fits_a_device(cli: Cli) -> None:
    """The figures are those of the doctor: what it says fits a card is the preset that is named here."""
    from backbones import inventory
    from editkit import gpus

    for name, (capacity, *_) in gpus.KNOWN.items():
        run = cli("backbones", "--plan-device", name)
        assert (run.status, run.err) == (0, "")
        (line,) = re.findall(r"^flux1-dev +kontext +(.*)$", run.out, re.MULTILINE)
        fitting = [
            way.settings
            for way in inventory.loading_choices(on_cpu=False)
            if not way.settings.startswith("--load") and way.device + inventory.ROOM <= capacity
        ]
        assert (fitting[0] or "none needed") in line


def test_backbones_know_no_other_devices(cli: Cli) -> None:
    for name in ("--plan-device", "--device"):
        run = cli("backbones", name, "rtx4090")
        assert run.status == 2
        assert "rtx4090-24g" in run.err
