"""Training in several processes: real ones, on CPUs through gloo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.launched import (
    ALONE,
    IN_SHARDS,
    NEEDS_DEEPSPEED,
    PRIOR,
    TOGETHER,
    ZERO,
    losses,
    run,
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
    ours, theirs, before = (
        load_file(path / f"checkpoint-000000{step}" / "ema.safetensors")
        for path, step in ((tmp_path, 4), (alone, 4), (alone, 2))
    )
    # By the norm: where a gradient is rounding noise, AdamW takes a whole step to one side or to the other.
    for name, their in theirs.items():
        assert (ours[name] - their).norm() < 2e-3 * (their - before[name]).norm(), name
    exported = load_file(next((tmp_path / "export").rglob("transformer/*.safetensors")))
    assert all(
        torch.equal(each, ours[f"transformer.{name}"].to(each.dtype)) for name, each in exported.items()
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the run would take the accelerator")
def test_processes_on_cpus_find_each_other_untold(parts: tuple[str, str], tmp_path: Path) -> None:
    """Else each trains alone, and both write the same files."""
    run(TOGETHER, tmp_path, parts, "fit.device=null", "fit.batch=4", "fit.steps=1")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@LAUNCHED
@pytest.mark.slow
def test_two_processes_then_one_then_two_draw_one_curve(
    alone: Path, parts: tuple[str, str], tmp_path: Path, together: tuple[str, ...]
) -> None:
    """Each stage goes on behind the step at which the one before it is cut off."""
    output = tmp_path / "run"
    two, one = (together, "fit.batch=4"), (ALONE, "fit.batch=8")
    for cut, (start, batch) in ((1, two), (2, one), (4, two)):
        more = () if cut == 1 else ("fit.resume=latest",)
        found = run(start, output, parts, batch, "fit.save_every=1", *more)
        for late in [*output.glob("checkpoint-*"), output / "export"]:
            if late.name == "export" or int(late.name.rpartition("-")[2]) > cut:
                shutil.rmtree(late)
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
