"""The Tab key in a real bash, zsh and fish."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.command_line import picture, python

pty = pytest.importorskip("pty")
PROGRAM = f"#!{sys.executable}\nfrom editkit.__main__ import main\nmain()\n"
"""The command as an installation makes it."""
CODES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\(B|\][^\x07]*\x07)")
"""Escape sequences of colours and places."""
SHELLS = ("bash", "zsh", "fish")


class Shell:
    """An interactive shell at a terminal, where `editkit` is installed, and its completion for this shell."""

    def __init__(self, name: str, folder: Path) -> None:
        (folder / "bin").mkdir()
        (folder / "bin" / "editkit").write_text(PROGRAM)
        (folder / "bin" / "editkit").chmod(0o755)
        # Without it, a new fish reads all manuals of the machine.
        (folder / ".local" / "share" / "fish" / "generated_completions").mkdir(parents=True)
        # The shell is the one that is named, not the one that the tests run in.
        named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(folder)}
        run = python(folder / "bin" / "editkit", "--install-completion", name, env=named)
        assert f"{name} completion installed in {folder}" in run.out, run
        self.master, other = pty.openpty()
        more = {"PYTHONPATH": str(ROOT), "TERM": "xterm", "INPUTRC": os.devnull, "HOME": str(folder)}
        own = {key: value for key, value in os.environ.items() if not key.startswith(("XDG", "ZDOTDIR"))}
        # A session's first process that opens a terminal controls it, which fish asks for.
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec {name} -i <"$0" >"$0" 2>&1', os.ttyname(other)],
            cwd=folder,
            env=own | more | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def typed(self, keys: str, until: str) -> str:
        """What the terminal shows after some keys, up to a pattern."""
        os.write(self.master, keys.encode())
        seen, deadline = "", time.monotonic() + 30
        while not re.search(until, seen) and time.monotonic() < deadline:
            if select.select([self.master], [], [], 1)[0]:
                seen = CODES.sub("", seen + os.read(self.master, 4096).decode(errors="replace"))
        return seen

    def ready(self) -> None:
        """Wait until it has done all that was typed, and forget the line."""
        seen = self.typed("\x15echo re''ady\n", r"(?m)^\W*ready")
        assert "ready" in seen, seen

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if not shutil.which(request.param):
        pytest.skip(f"There is no {request.param} here.")
    folder = tmp_path_factory.mktemp("shell")
    picture(folder / "photograph.png")
    made = Shell(request.param, folder)
    made.ready()
    yield made
    made.end()


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        ("editkit gene", "rate "),
        ("editkit eval sha", "pesworld "),
        ("editkit edit --pres", "erve "),
        ("editkit edit phot", "ograph.png "),
        ("editkit edit photograph.png x -m ice", "dit "),
        ("editkit edit photograph.png x --method=ice", "dit "),
        ("editkit edit photograph.png x --seed=3 --method=kontext,ice", "dit "),
        ("editkit compare photograph.png x -m kontext,ice", "dit "),
        ("editkit edit photograph.png x -b flux1-sch", "nell "),
        ("editkit methods ace", "plus "),
        ("editkit methods --plan-device rtx4", "090-24g "),
    ],
)
def test_tab_completes(begun: str, rest: str, shell: Shell) -> None:
    """The first of these is the first Tab of its shell."""
    completed = re.escape(begun[-3:] + rest)  # the rest alone may stand in the command, as in `edit`
    seen = shell.typed(f"{begun}\t", completed)
    shell.ready()
    assert re.search(completed, seen), seen
