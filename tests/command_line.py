"""The command line in this process and in its own, and what a refusal has to look like."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import ROOT


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a command left behind."""

    status: int
    out: str
    err: str


Cli = Callable[..., Run]


def python(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Run:
    """The interpreter with this checkout on its path, and one thread as all tests have."""
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (env or {}),
    )
    return Run(status=run.returncode, out=run.stdout, err=run.stderr)


def command(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Run:
    """`python -m editkit` in a process of its own."""
    return python("-m", "editkit", *arguments, env=env, cwd=cwd)


def in_process(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in this process, several times faster than in its own."""
    from editkit import cli

    monkeypatch.setattr(cli, "app", _command())

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["editkit", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        return Run(status=int(stopped.value.code or 0), out=out, err=err)

    return run


@cache
def _command() -> Any:
    """All commands with their options, which typer would make anew for each call."""
    import typer

    from editkit.cli import app

    return typer.main.get_command(app)


def one_sentence(message: str) -> None:
    """No second one, but for what is quoted in brackets."""
    own = re.sub(r"\(.*\)", "", message.strip())
    assert own
    assert "\n" not in own, message
    assert not re.search(r"[.!?]\s+[A-Z]", own), message
    assert len(message) < 600, message


def refused(run: Run, words: str) -> None:
    """One sentence on stderr that says `words`, nothing on stdout, and status 2."""
    assert run.status == 2, run
    assert run.err.startswith("editkit: "), run.err
    one_sentence(run.err)
    assert re.search(words, run.err), run.err
    assert run.out == ""


def files(folder: Path) -> dict[Path, bytes | None]:
    """Everything below a folder, with contents."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def copied(folder: Path, destination: Path) -> Path:
    """A folder of its own to damage."""
    return Path(shutil.copytree(folder, destination))


def picture(
    path: Path, size: tuple[int, int] = (40, 24), colour: tuple[int, int, int] = (200, 30, 20)
) -> Path:
    """A file with a plain picture."""
    Image.new("RGB", size, colour).save(path)
    return path
