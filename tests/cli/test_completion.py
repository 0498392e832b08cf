"""The Tab key in a real bash."""

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


class Bash:
    """An interactive bash at a terminal, where `editkit` is installed and completes."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        (folder / "bin" / "editkit").write_text(PROGRAM)
        (folder / "bin" / "editkit").chmod(0o755)
        # The shell is the one that is named, not the one that the tests run in.
        named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        script = python(folder / "bin" / "editkit", "--show-completion", "bash", env=named)
        (folder / "completion.sh").write_text(script.out)
        self.master, other = pty.openpty()
        more = {"PYTHONPATH": str(ROOT), "PS1": "ready", "TERM": "dumb", "INPUTRC": os.devnull}
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            cwd=folder,
            env=os.environ | more | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
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
                seen += os.read(self.master, 4096).decode(errors="replace")
        return seen


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    if not shutil.which("bash"):
        pytest.skip("There is no bash here.")
    folder = tmp_path_factory.mktemp("shell")
    picture(folder / "photograph.png")
    shell = Bash(folder)
    shell.typed("source completion.sh; echo so$((1))urced\n", "so1urced")
    yield shell
    shell.process.kill()
    shell.process.wait()
    os.close(shell.master)


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        ("editkit gene", "rate "),
        ("editkit eval sha", "pesworld "),
        ("editkit edit --pres", "erve "),
        ("editkit edit phot", "ograph.png "),
        ("editkit edit photograph.png x -m ice", "dit "),
        ("editkit compare photograph.png x -m kontext,ice", "dit "),
        ("editkit edit photograph.png x -b flux1-sch", "nell "),
        ("editkit methods ace", "plus "),
        ("editkit methods --plan-device rtx4", "090-24g "),
    ],
)
def test_tab_completes(begun: str, rest: str, bash: Bash) -> None:
    seen = bash.typed(f"{begun}\t", re.escape(begun + rest))
    bash.typed("\x15echo cl$((1))eared\n", "cl1eared")
    assert seen.endswith(begun + rest), seen
