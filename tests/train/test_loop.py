"""The training loop: it learns, accumulates, and stops where nothing good can come."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from editkit import EditkitError, config
from editkit.data.samplers import BatchSampler
from editkit.train import checkpoints
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests.data.numbered import numbered_bucket
from tests.train.runs import losses, train


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_loss_falls(settings: Any, trainable: str) -> None:
    lr = "fit.optim.lr=0.01" if trainable == "lora" else "fit.optim.lr=0.003"
    _, output = train(
        settings(
            "run",
            "fit.steps=30",
            "fit.batch=6",
            "data.count=6",
            "fit.save_every=30",
            lr,
            trainable=trainable,
        )
    )
    found = list(losses(output).values())
    assert len(found) == 30
    # Six pictures with new noise each time: what falls is no accident of one batch.
    assert sum(found[-5:]) < (0.85 if trainable == "full" else 0.97) * sum(found[:5])


def test_accumulation_is_a_larger_batch(settings: Any, tmp_path: Path) -> None:
    whole = settings("whole", "fit.steps=1", "fit.batch=16", "data.count=16")
    halves = settings("halves", "fit.steps=1", "fit.batch=8", "fit.accumulate=2", "data.count=16")
    # A sample's noise hangs on its place in the stream; take a seed that deals both streams alike.
    for seed in range(20):
        orders = [BatchSampler([numbered_bucket(16, tmp_path)], batch, seed) for batch in (16, 8)]
        if orders[0](0)[0][1] == orders[1](0)[0][1] + orders[1](1)[0][1]:
            break
    whole, halves = (
        config.build(EditTrainConfig, dataclasses.asdict(each), [f"fit.seed={seed}"])
        for each in (whole, halves)
    )
    (_, one), (_, other) = train(whole), train(halves)
    assert losses(one)[1] == pytest.approx(losses(other)[1], rel=1e-4)
    first, second = (
        load_file(each / "checkpoint-0000001" / "optimizer-0.safetensors") for each in (one, other)
    )
    gradients = [key for key in first if key.endswith("exp_avg")]
    assert gradients
    for key in gradients:
        assert torch.allclose(first[key], second[key], atol=1e-3 * float(first[key].abs().max()) + 1e-9), key


def test_a_loss_that_is_not_finite_stops(settings: Any) -> None:
    with pytest.raises(EditkitError, match="lower the learning rate"):
        train(settings("run", "fit.steps=12", "fit.optim.lr=1e9", "fit.save_every=1", "fit.log_every=4"))
    output = Path(settings("run").fit.output)
    for folder in checkpoints.complete(output):
        for name, tensor in load_file(folder / "weights.safetensors").items():
            assert torch.isfinite(tensor).all(), f"{folder.name} cannot be resumed from: {name}"


def test_two_precisions_in_one_process(settings: Any) -> None:
    for precision in ("fp32", "bf16"):
        _, output = train(settings(f"run-{precision}", "fit.steps=1", f"fit.precision={precision}"))
        assert math.isfinite(losses(output)[1])


def test_a_log_that_cannot_be_written_ends_the_run_with_a_checkpoint(settings: Any) -> None:
    chosen = settings("run", "fit.trackers=[]")
    job, output = EditJob(chosen), Path(chosen.fit.output)
    draw = job.batch

    def batch(indices: Any) -> Any:
        if indices[0] == 2 * 4:
            (output / "log.jsonl").unlink()
            (output / "log.jsonl").mkdir()
        return draw(indices)

    job.batch = batch
    with pytest.raises(EditkitError, match=r"log\.jsonl cannot be written .*resume"):
        fit(job, chosen.fit)
    assert [path.name for path in checkpoints.complete(output)] == ["checkpoint-0000003"]


@pytest.mark.parametrize("factor", [math.nan, 1e4])
def test_a_bad_batch_stops_the_run_and_is_kept(settings: Any, factor: float) -> None:
    chosen = settings("run", "fit.steps=8", "fit.log_every=2", "fit.save_every=2")
    job = EditJob(chosen)
    draw = job.batch

    def batch(indices: Any) -> Any:
        drawn = draw(indices)
        return dataclasses.replace(drawn, x0_BLC=drawn.x0_BLC * factor) if indices[0] == 4 * 4 else drawn

    job.batch = batch
    with pytest.raises(EditkitError, match=r"The loss is .* at step 5, .*the batch is in .*batch-0000005"):
        fit(job, chosen.fit)
    folder = Path(chosen.fit.output) / "batch-0000005"
    kept = json.loads((folder / "batch.json").read_text())
    assert kept["instructions"] == draw(range(16, 20)).groups[0][1]
    assert load_file(folder / "batch.safetensors")["x0_BLC"].shape[0] == 4
    assert [path.name for path in checkpoints.complete(Path(chosen.fit.output))][-1] == "checkpoint-0000004"


def test_gradient_checkpointing_changes_nothing(settings: Any, tmp_path: Path) -> None:
    ways = {
        "off": "gradient_checkpointing=false",
        "on": "gradient_checkpointing=true",
        "selective": "selective_checkpointing=true",
    }
    jobs, operations = {}, {}
    for name, way in ways.items():
        jobs[name] = EditJob(settings(name, "fit.steps=2", "gradient_checkpointing=true", way))
        with FlopCounterMode(display=False) as counter:
            jobs[name].objective(jobs[name].batch(range(4))).backward()
        operations[name] = counter.get_total_flops()
        fit(jobs[name], jobs[name].config.fit)
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)
    assert losses(tmp_path / "selective") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)
    assert operations["off"] == operations["selective"] < 0.8 * operations["on"]


def test_a_second_run_does_not_write_over_the_first(settings: Any) -> None:
    _, output = train(settings("run", "fit.steps=1"))
    before = losses(output)
    with pytest.raises(EditkitError, match=r"holds an earlier run; give fit\.resume=latest"):
        train(settings("run", "fit.steps=2"))
    assert losses(output) == before
