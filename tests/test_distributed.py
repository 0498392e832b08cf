"""Training in several processes, and in processes that are killed: real ones, on CPUs through gloo."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from backbones.flux import Flux

RUN = str(ROOT / "tests" / "distributed_run.py")
ALONE = (sys.executable, RUN)
TOGETHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", RUN)
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2")
IN_SHARDS = (*ACCELERATE, "--config_file", str(ROOT / "configs" / "accelerate" / "fsdp2.yaml"), RUN)
LAUNCHED = pytest.mark.parametrize("together", [TOGETHER, IN_SHARDS], ids=["replicas", "shards"])


@pytest.fixture(scope="module")
def parts(random_flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An autoencoder and a folder for latents."""
    folder = tmp_path_factory.mktemp("parts")
    random_flux.vae.save_pretrained(folder / "vae")
    return str(folder / "vae"), str(folder / "latents")


def started(
    start: tuple[str, ...], output: Path, parts: tuple[str, str], *overrides: str
) -> subprocess.Popen[str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    surroundings = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [*start, str(output), *parts, *overrides],
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(start: tuple[str, ...], output: Path, parts: tuple[str, str], *overrides: str) -> dict[int, float]:
    """The losses of a run that went well."""
    process = started(start, output, parts, *overrides)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert f"trained {'DTensor' if start == IN_SHARDS else 'Parameter'}" in told
    return losses(output)


def losses(output: Path) -> dict[int, float]:
    lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def alone(parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone")
    assert run(ALONE, output, parts).keys() == {1, 2, 3, 4}
    return output


@LAUNCHED
@pytest.mark.slow
def test_two_processes_train_as_one(
    alone: Path, parts: tuple[str, str], tmp_path: Path, together: tuple[str, ...]
) -> None:
    found = run(together, tmp_path, parts, "fit.batch=4")
    assert found == pytest.approx(losses(alone), abs=1e-4)
    ours, theirs = (load_file(path / "checkpoint-0000004" / "ema.safetensors") for path in (tmp_path, alone))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)
    exported = [load_file(next((path / "export").rglob("*model.safetensors"))) for path in (tmp_path, alone)]
    assert all(torch.allclose(exported[0][name], exported[1][name], atol=1e-4) for name in exported[1])


@LAUNCHED
@pytest.mark.slow
def test_what_two_began_one_ends_and_the_other_way(
    alone: Path, parts: tuple[str, str], tmp_path: Path, together: tuple[str, ...]
) -> None:
    for name, first, second in (
        ("down", (together, "fit.batch=4"), (ALONE, "fit.batch=8")),
        ("up", (ALONE, "fit.batch=8"), (together, "fit.batch=4")),
    ):
        output = tmp_path / name
        run(first[0], output, parts, first[1])
        for late in ("checkpoint-0000004", "export"):
            os.rename(output / late, tmp_path / f"{name}-{late}")
        found = run(second[0], output, parts, second[1], "fit.resume=latest")
        assert found == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_adapters_optimizers_and_validation_in_shards(
    parts: tuple[str, str], tmp_path: Path, name: str
) -> None:
    more = ("fit.optim.muon_lr=0.01", "fit.validate_every=2", "validation.examples=2", "fit.accumulate=2")
    if name == "adamw":
        more = (*more, "trainable=lora", "gradient_checkpointing=true", "lora.rank=4")
    settings = (f"fit.optim.name={name}", "data.count=48", *more)
    one = run(ALONE, tmp_path / "one", parts, *settings)
    assert run(IN_SHARDS, tmp_path / "two", parts, "fit.batch=4", *settings) == pytest.approx(one, abs=1e-4)
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / run / "validation.jsonl").read_text().splitlines()]
        for run in ("two", "one")
    )
    assert [figures["step"] for figures in ours] == [2, 4]
    assert ours == [pytest.approx(figures, abs=1e-4) for figures in theirs]
    assert sorted(path.name for path in (tmp_path / "two").rglob("*.safetensors")) == sorted(
        path.name for path in (tmp_path / "one").rglob("*.safetensors")
    )


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(parts: tuple[str, str], tmp_path: Path) -> None:
    """SIGKILL ten times at random moments, checkpoints being written at every step."""
    longer = ("fit.steps=60", "fit.save_every=1", "fit.keep=2")
    expected = run(ALONE, tmp_path / "whole", parts, *longer)
    killed, rng = tmp_path / "killed", random.Random(0)
    kills = writing = 0
    while kills < 10:
        before = len((killed / "log.jsonl").read_text().splitlines()) if killed.is_dir() else 0
        process = started(ALONE, killed, parts, *longer, "fit.resume=latest")
        deadline = time.monotonic() + 120
        target = before + rng.randint(1, 5)
        log = killed / "log.jsonl"
        while process.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(log.read_text().splitlines()) >= target:
                break
            time.sleep(0.002)
        if process.poll() is not None:
            break
        if kills % 2:  # while a checkpoint is being written
            while process.poll() is None and not any(killed.glob(".*partial")):
                pass
            writing += process.poll() is None
        else:
            time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 10
    assert writing >= 4
    assert run(ALONE, killed, parts, *longer, "fit.resume=latest") == expected
    for name in ("weights", "ema", "optimizer-0"):
        ours, theirs = (
            load_file(path / "checkpoint-0000060" / f"{name}.safetensors")
            for path in (killed, tmp_path / "whole")
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not list(killed.glob(".*partial"))
