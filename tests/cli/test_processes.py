"""Refusals of a process of its own: exit status, full disks, too little memory, interruption."""

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
from tests.cases import SMALL_AUTOENCODER, WEIGHTS, Place, edit, retensored, trained, with_nan
from tests.command_line import Cli, Run, command, files, python, refused


def test_refused_by_a_process_of_its_own(place: Place) -> None:
    """What the tests in this process cannot see: remarks at import, the exit status itself."""
    damaged = with_nan("proj_out.bias")
    arguments = retensored(f"transformer/{WEIGHTS}", damaged)(place)
    before = files(place.folder)
    refused(command(*arguments, cwd=place.folder), "not finite")
    assert files(place.folder) == before


def test_refused_training_by_a_process_of_its_own(place: Place) -> None:
    arguments = trained(place, "fresh: {vae: none}")
    refused(command(*arguments, cwd=place.folder), "none/config.json is missing")
    assert list(place.folder.iterdir()) == arguments[1:]


def limited(size: int, *arguments: object, cwd: Path) -> Run:
    """Under a limit on file sizes, which stands for the full disk: the kernel stops a write half way."""
    script = (
        "import resource, sys; from editkit.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "main()\n"
    )
    return python("-c", script, *arguments, cwd=cwd, env={"PYTHONDONTWRITEBYTECODE": "1"})


def test_full_disk_keeps_the_old_picture(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = edit(place)
    before = files(place.folder)
    run = limited(512, *arguments, cwd=place.folder)
    refused(run, "output.png cannot be written .*free some space")
    assert files(place.folder) == before


def test_full_disk_keeps_the_old_checkpoint(cli: Cli, place: Place) -> None:
    pytest.importorskip("resource")
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    assert cli("train", config, "fit.steps=2").status == 0
    checkpoint = place.folder / "out" / "train" / "checkpoint-0000002"
    before = files(checkpoint)
    run = limited(50_000, "train", config, "fit.resume=latest", cwd=place.folder)
    assert run.status == 2
    assert re.search(
        r"\Aeditkit: .*checkpoint-0000004 cannot be written .*free some space and resume\.\n\Z", run.err
    )
    assert files(checkpoint) == before
    assert not list(checkpoint.parent.glob(".*"))


def test_full_disk_keeps_no_half_of_the_latents(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = trained(place, json.dumps({"data": {"count": 4}, "fit": {"steps": 1, "device": "cpu"}}))
    run = limited(4000, *arguments, cwd=place.folder)
    assert run.status == 2
    assert re.search(
        r"editkit: Latents cannot be kept in .*free some space or give another cache\.\n\Z", run.err
    )
    assert not list((place.folder / "out").glob("cache/*"))
    assert not list((place.folder / "out").glob("cache/.*"))


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
        env=os.environ | {"PYTHONPATH": str(ROOT)},
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
    assert (process.returncode, err) == (2, "editkit: Stopped.\n")


def test_offline_switch_of_the_hub(place: Place) -> None:
    env = {"HF_HUB_OFFLINE": "true", "HF_HOME": str(place.folder / "hub")}
    run = command("generate", "a circle", "-b", "flux1-schnell", cwd=place.folder, env=env)
    refused(run, r"FLUX.1-schnell are not on this machine .* \(Apache-2.0\) .*hf download")


def test_too_little_memory_is_one_sentence(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = edit(place, "--size", "2048x2048")
    before = files(place.folder)
    script = (
        "import logging, os, resource, torch; logging.getLogger('bitsandbytes').setLevel(logging.ERROR)\n"
        "import backbones.flux; from editkit.cli import main\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * os.sysconf('SC_PAGE_SIZE') + (400 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "main()\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    refused(
        python("-c", script, *arguments, cwd=place.folder, env={"OMP_NUM_THREADS": "1"}), "too little memory"
    )
    assert files(place.folder) == before
