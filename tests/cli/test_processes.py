"""Refusals that only a process of its own shows: remarks at import, exit status, interruption, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.cases import SMALL_AUTOENCODER, WEIGHTS, Place, edit, retensored, with_nan
from tests.command_line import command, files, python, refused


def test_a_refusal_before_torch_ends_with_status_2(tmp_path: Path) -> None:
    refused(command("edit", "absent.png", "make it blue", cwd=tmp_path), "absent.png cannot be read")
    assert files(tmp_path) == {}


def test_ctrl_c_before_commands_are_known(tmp_path: Path) -> None:
    """While the first library is imported, in a module that takes its place."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    run = command("edit", "absent.png", "make it blue", env={"PYTHONPATH": path}, cwd=tmp_path)
    assert (run.status, run.out, run.err) == (130, "", "editkit: Stopped.\n")


@pytest.mark.slow
def test_refused_by_a_process_of_its_own(place: Place) -> None:
    """What the tests in this process cannot see: remarks at import, the exit status itself."""
    damaged = with_nan("proj_out.bias")
    arguments = retensored(f"transformer/{WEIGHTS}", damaged)(place)
    before = files(place.folder)
    refused(command(*arguments, cwd=place.folder), "not finite")
    assert files(place.folder) == before


@pytest.mark.slow
def test_interrupted_training_is_one_sentence(place: Place) -> None:
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    arguments = [
        sys.executable,
        "-m",
        "editkit",
        "train",
        str(config),
        "fit.steps=100000",
        "fit.save_every=100000",
    ]
    log = place.folder / "out" / "train" / "log.jsonl"
    with subprocess.Popen(
        arguments,
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.startswith("editkit: Training was stopped after step "), err
    assert err.endswith("fit.resume=latest goes on.\n"), err
    assert err.count("\n") == 1, err


@pytest.mark.slow
def test_too_little_memory_is_one_sentence(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = edit(place, "--size", "2048x2048")
    before = files(place.folder)
    script = (
        "import os, resource; import backbones.flux; from editkit.cli import main\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * os.sysconf('SC_PAGE_SIZE') + (400 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "main()\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    refused(python("-c", script, *arguments, cwd=place.folder), "too little memory")
    assert files(place.folder) == before
