"""Output at a terminal: progress, and one line after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.cases import Place
from tests.command_line import Cli, files, picture, refused

pty = pytest.importorskip("pty")
CONFIG = ROOT / "configs" / "tiny" / "kontext-lora.yaml"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}


class Terminal:
    """A Python process whose stderr is a terminal."""

    def __init__(self, *arguments: object, cwd: Path) -> None:
        self.master, other = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=other,
            text=True,
            # A shell's background jobs inherit an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(other)

    def read(self, until: str | None = None) -> str:
        """What is on the terminal without its control codes, up to a pattern or to the end."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                more = os.read(self.master, 4096)
            except OSError:  # how Linux says that nobody writes any more
                break
            if not more:
                break
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", more.decode(errors="replace"))
            if until and re.search(until, self.seen):
                break
        return self.seen

    def end(self) -> tuple[int, str]:
        """Exit status and stdout."""
        out, _ = self.process.communicate(timeout=300)
        os.close(self.master)
        return self.process.returncode, out


def command(place: Place, *more: object) -> list[object]:
    picture(place.folder / "image.png")
    return ["edit", "image.png", "make it blue", "-b", place.backbone, "-o", "o.png", *more]


SEVERAL = """
import json, sys
from editkit.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["editkit", *arguments]
    try:
        main()
    except SystemExit as stopped:
        print(f"<{stopped.code or 0}>", file=sys.stderr, flush=True)
"""
"""One process for several commands, since each process imports for seconds."""
EDIT = ["edit", "image.png", "make it blue", "-o", "o.png"]
COMMANDS = {
    "edit": ([*EDIT, "--steps", "8"], r"load[\s\S]*image\.png .*\d+/8 .*\d:\d\d:\d\d left "),
    "quiet": ([*EDIT, "--steps", "2", "--guidance", "2.5", "--quiet"], r"\A\s*\Z"),
    "eval": (
        ["eval", "shapesworld", "--n", "6", "--batch-size", "2", "--steps", "2"],
        r"load[\s\S]*edits .*[1-6]/6 ",
    ),
    "compare": (
        ["compare", "image.png", "make it blue", "-m", "kontext", "--steps", "8"],
        r"load[\s\S]*kontext .*\d+/8 ",
    ),
    "generate": (["generate", "a red circle", "--steps", "8", "-o", "o.png"], r"generate .*\d+/8 "),
    "replay": (["replay", "o.png"], r"replay "),
    "data check": (["data", "check", str(CONFIG), "--limit", "9", "data.count=9"], r"check .*\d/9 "),
}


INTERRUPTED = ["edit", "image.png", "make it blue", "-o", "never.png", "--steps", "1000"]
"""The last command, which gets a Ctrl-C."""


@pytest.fixture(scope="module")
def seen(random_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status of each command, and what it showed on the terminal."""
    folder = tmp_path_factory.mktemp("terminal")
    picture(folder / "image.png")
    asked = [*(arguments for arguments, _ in COMMANDS.values()), INTERRUPTED]
    commands = [
        arguments if arguments[0] in ("replay", "data") else [*arguments, "-b", str(random_pipeline)]
        for arguments in asked
    ]
    terminal = Terminal("-c", SEVERAL, json.dumps(commands), cwd=folder)
    terminal.read(until=r"[1-9]\d*/1000")
    before = files(folder)
    terminal.process.send_signal(signal.SIGINT)
    *parts, rest = re.split(r"<(\d+)>", terminal.read())
    status, out = terminal.end()
    assert (status, rest.strip(), len(parts)) == (0, "", 2 * len(asked)), (parts, rest)
    assert re.match(r"o\.png \(40x24, .* s\)\n", out), out
    assert files(folder) == before
    names = [*COMMANDS, "interrupted"]
    return dict(zip(names, zip(map(int, parts[1::2]), parts[::2], strict=True), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_progress_on_a_terminal(name: str, seen: dict[str, tuple[int, str]]) -> None:
    status, shown = seen[name]
    assert status == 0, shown
    assert re.search(COMMANDS[name][1], shown), shown


def test_ctrl_c_during_an_edit(seen: dict[str, tuple[int, str]]) -> None:
    """One line, status 130; the fixture sees that nothing was written."""
    status, shown = seen["interrupted"]
    assert status == 130
    assert shown.rstrip().endswith("editkit: Stopped.")
    assert "Traceback" not in shown


def test_a_picture_does_not_go_to_the_terminal(
    place: Place, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command(place)
    arguments[arguments.index("o.png")] = "-"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    refused(cli(*arguments), "would write the picture to the terminal")


def test_no_progress_without_a_terminal(cli: Cli, place: Place) -> None:
    run = cli(*command(place, "--steps", 1))
    assert (run.status, run.err) == (0, "")


def train(place: Place, *more: str) -> Terminal:
    """A run on the embedded model that has only begun when it is stopped."""
    settings = (
        "fit.output=run",
        "cache=cache",
        "data.count=24",
        "fit.batch=1",
        "fit.steps=5000",
        "fit.trackers=[]",
    )
    return Terminal("-m", "editkit", "train", CONFIG, *settings, *more, cwd=place.folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_training_saves(place: Place, number: int, status: int) -> None:
    terminal = train(place)
    assert re.search(r"training .*[1-9]\d*/5000", terminal.read(until=r"training .*[1-9]\d*/5000"))
    terminal.process.send_signal(number)
    seen = terminal.read()
    assert terminal.end() == (status, "")
    assert re.search(r"editkit: Training was stopped after step \d+ and saved in run; ", seen), seen
    assert "Traceback" not in seen
    told = json.loads((place.folder / "run" / "status.json").read_text())
    assert (told["phase"], told["total"]) == ("stopped", 5000)
    assert list((place.folder / "run").glob("checkpoint-*/state.json"))


@pytest.mark.slow
def test_ctrl_c_while_latents_are_encoded(place: Place) -> None:
    terminal = train(place, "data.count=5000")
    terminal.read(until=r"encoding latents .*[1-9]\d*/5000")
    terminal.process.send_signal(signal.SIGINT)
    seen = terminal.read()
    assert terminal.end() == (130, "")
    assert seen.rstrip().endswith("before it took a step; give the same command again to go on."), seen
    assert "Traceback" not in seen
    told = json.loads((place.folder / "run" / "status.json").read_text())
    assert (told["phase"], told["total"]) == ("stopped", 5000)
