"""Training in several processes, and in processes that are killed: real ones, on CPUs through gloo."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backbones.flux import Flux
from editkit import config
from editkit.errors import EditkitError
from editkit.train.config import FitConfig
from editkit.train.preflight import check_run
from tests import ROOT

RUN = str(ROOT / "tests" / "train" / "distributed_run.py")
ALONE = (sys.executable, RUN)
TOGETHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", RUN)
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2")
IN_SHARDS = (*ACCELERATE, "--config_file", str(ROOT / "configs" / "accelerate" / "fsdp2.yaml"), RUN)
ZERO = (*ACCELERATE, "--config_file", str(ROOT / "configs" / "accelerate" / "deepspeed.yaml"), RUN)
NEEDS_DEEPSPEED = pytest.mark.skipif(not find_spec("deepspeed"), reason="needs the extra deepspeed")
PRIOR = (
    "mixture.known.prior=true",
    "mixture.known.data.count=24",
    "mixture.known.loss_weight=1000",
)
LAUNCHED = pytest.mark.parametrize(
    "together",
    [
        pytest.param(TOGETHER, id="replicas"),
        pytest.param(IN_SHARDS, id="shards"),
        pytest.param(ZERO, id="zero", marks=NEEDS_DEEPSPEED),
    ],
)


@pytest.fixture(scope="module")
def parts(random_flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An autoencoder and a folder for latents."""
    folder = tmp_path_factory.mktemp("parts")
    random_flux.vae.save_pretrained(folder / "vae")
    return str(folder / "vae"), str(folder / "latents")


def started(
    start: tuple[str, ...], output: Path, parts: tuple[str, str], *overrides: str
) -> subprocess.Popen[str]:
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
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
        more = (*more, *PRIOR, "trainable=lora", "gradient_checkpointing=true", "lora.rank=4")
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
def test_compiled_blocks_that_keep_only_the_dear_in_shards(parts: tuple[str, str], tmp_path: Path) -> None:
    """As Kontext's authors trained: gathered in bf16, selective checkpointing, each block compiled."""
    low = "fit.precision=bf16"
    plain = run(ALONE, tmp_path / "one", parts, low)
    more = ("gradient_checkpointing=true", "selective_checkpointing=true", "load.compile=true", "fit.batch=4")
    found = run(IN_SHARDS, tmp_path / "two", parts, low, *more)
    assert found == pytest.approx(plain, rel=0.01)
    ours, theirs = (
        load_file(tmp_path / name / "checkpoint-0000004" / "weights.safetensors") for name in ("two", "one")
    )
    assert ours.keys() == theirs.keys()
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())


@NEEDS_DEEPSPEED
@pytest.mark.slow
def test_adapters_rates_and_validation_under_deepspeed(parts: tuple[str, str], tmp_path: Path) -> None:
    settings = (
        *PRIOR,
        "trainable=lora",
        "gradient_checkpointing=true",
        "lora.rank=4",
        "data.count=48",
        "fit.accumulate=2",
        "fit.optim.clip=0.05",
        "fit.optim.weight_decay=0.01",
        "fit.optim.lr_of={transformer.single_transformer_blocks: 1e-3}",
        "fit.validate_every=2",
        "validation.examples=2",
    )
    one = run(ALONE, tmp_path / "one", parts, *settings)
    assert run(ZERO, tmp_path / "two", parts, "fit.batch=4", *settings) == pytest.approx(one, abs=1e-4)
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / run / "validation.jsonl").read_text().splitlines()]
        for run in ("two", "one")
    )
    assert ours == [pytest.approx(figures, abs=1e-4) for figures in theirs]
    for late in ("checkpoint-0000004", "export"):
        os.rename(tmp_path / "two" / late, tmp_path / late)
    run(ZERO, tmp_path / "two", parts, "fit.batch=4", "fit.resume=latest", *settings)
    files = list((tmp_path / "checkpoint-0000004").glob("*.safetensors"))
    assert len(files) == 3
    for path in files:
        ours, before, theirs = (
            load_file(folder / "checkpoint-0000004" / path.name)
            for folder in (tmp_path / "two", tmp_path, tmp_path / "one")
        )
        assert all(torch.equal(ours[name], before[name]) for name in before)
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)


ENDLESS_SLOPE = """
import sys, torch
from editkit.train.loop import fit
from editkit.train.job import Job
from editkit.train.config import FitConfig

class Slope(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))

    def forward(self, batch):
        return (0 * self.weight).sum().sqrt()

class Endless(Job):
    objective = Slope()
    def batch(self, indices): return indices
    def export(self, folder): pass

fit(Endless(), FitConfig(output=sys.argv[1], steps=2, device="cpu", precision="fp32", trackers=()))
"""


@NEEDS_DEEPSPEED
@pytest.mark.slow
def test_a_step_that_deepspeed_leaves_out_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "slope.py").write_text(ENDLESS_SLOPE)
    process = started((*ZERO[:-1], str(tmp_path / "slope.py")), tmp_path / "out", ("", ""))
    told, _ = process.communicate(timeout=300)
    assert "EditkitError: The gradients are not finite at step 1;" in told
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("surroundings", "name", "problem"),
    [
        ({"ZERO_STAGE": "3"}, "adamw", "zero_stage must be 1 or 2, not 3"),
        ({"OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "adamw", "offload_optimizer_device must be none"),
        ({"CONFIG_FILE": "zero.json"}, "adamw", "deepspeed_config_file is not read"),
        ({}, "muon", "optim.name must be adamw under DeepSpeed"),
        ({}, "adamw", "DeepSpeed needs accelerate's launcher"),
    ],
)
def test_what_deepspeed_does_not_do_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], name: str, problem: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for key, value in surroundings.items():
        monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{key}", value)
    settings = config.build(FitConfig, {"output": str(tmp_path / "out"), "optim": {"name": name}})
    with pytest.raises(EditkitError, match=problem):
        check_run(settings)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_deepspeed_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(EditkitError, match="pip install 'editkit\\[deepspeed\\]'"):
        check_run(FitConfig(output=str(tmp_path / "out")))


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
            while process.poll() is None and not any(killed.glob(".*.part")):
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
    assert not [path for end in ("partial", "part") for path in killed.rglob(f".*{end}")]
