"""The container files start what the command line has, from files that are there, and see when it is ill."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
import typer.main
import yaml

from editkit.backbone import provider
from editkit.cli import app
from tests import ROOT
from tests.command_line import python
from tests.demos.page_server import free_port
from tests.serving.server import Served

DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of a Dockerfile that are called so."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def parsed(words: list[str]) -> dict[str, Any]:
    """A command as the command line reads it."""
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    return dict(
        command.make_context(
            words[0], [word.replace("${EDITKIT_DEVICES:-cuda:0}", "cuda:0") for word in words[1:]]
        ).params
    )


def test_the_image_starts_the_server() -> None:
    assert json.loads(instructions("ENTRYPOINT")[-1]) == ["editkit"]
    found = parsed(json.loads(instructions("CMD")[-1]))
    assert (found["host"], found["port"]) == ("0.0.0.0", 8000)
    assert instructions("EXPOSE") == ["8000"]
    assert instructions("USER") == ["1000"]
    assert all(":" in image and "latest" not in image for image in instructions("FROM"))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_starts_the_server(name: str) -> None:
    service = COMPOSE["services"][name]
    found = parsed(service["command"])
    assert found["backbone"] in provider().families
    assert found["port"] == 8000
    assert "EDITKIT_API_KEY" in service["environment"]
    assert int(service["stop_grace_period"].removesuffix("s")) > found["grace"]


def test_what_is_copied_is_there() -> None:
    lines = [line for line in instructions("COPY") if "--from" not in line]
    sources = [word for line in lines for word in shlex.split(line)[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert set(sources) == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_health_check(server: Served) -> None:
    (line,) = instructions("HEALTHCHECK")
    program, *arguments = json.loads(line.partition("CMD ")[2])
    assert program == "python"
    for port, well in ((server.port, True), (free_port(), False)):
        run = python(*(word.replace("8000", str(port)) for word in arguments))
        assert (run.status == 0) == well
