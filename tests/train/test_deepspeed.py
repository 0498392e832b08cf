"""Training under DeepSpeed: real processes on CPUs, and what is refused."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from editkit import config
from editkit.errors import EditkitError
from editkit.train.config import FitConfig
from editkit.train.preflight import check_run
from tests.train.launched import (
    ALONE,
    NEEDS_DEEPSPEED,
    PRIOR,
    ZERO,
    run,
    started,
)


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
