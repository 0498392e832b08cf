"""Estimates of a run, beside what it takes."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from editkit import EditkitError, config, gpus
from editkit.cli.train import table
from editkit.train.estimate.activations import SavedActivations
from editkit.train.estimate.memory import estimate_memory
from editkit.train.estimate.meta_step import step_cost
from editkit.train.estimate.plan import OVERHEAD, plan
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.pictures import image


def settings(**values: Any) -> EditTrainConfig:
    return config.build(EditTrainConfig, {"data": {"count": 4}} | values)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A latent cache for all runs of this file, which have the same four pairs."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("method", "trainable"),
    [
        ("kontext", "lora"),
        ("kontext", "full"),
        ("icedit", "lora"),
        ("icedit", "input"),
        ("aceplus", "lora"),
        ("aceplus", "full"),
    ],
)
def test_parameters_are_counted(method: str, trainable: str, cache: str, tmp_path: Path) -> None:
    chosen = settings(
        method=method,
        trainable=trainable,
        cache=cache,
        fit={"output": str(tmp_path / "run"), "batch": 2, "device": "cpu"},
    )
    found = plan(chosen)
    parameters = list(EditJob(chosen).objective.parameters())
    assert found.total == sum(p.numel() for p in parameters)
    assert found.trainable == sum(p.numel() for p in parameters if p.requires_grad)
    assert found.tokens == {"kontext": 176, "icedit": 176, "aceplus": 112}[method]


def test_a_prior_takes_a_copy_and_a_forward_pass() -> None:
    plain = plan(settings(mixture={"known": {"weight": 3.0}}))
    prior = plan(settings(mixture={"known": {"weight": 3.0, "prior": True}}))
    assert prior.memory["weights before training"] == 4 * prior.trainable
    assert 1.25 < prior.flops / plain.flops < 1.5  # three batches of four pay for a forward pass more
    assert "weights before training" not in plain.memory


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_autograd_keeps_is_what_is_planned(checkpointing: bool, cache: str, tmp_path: Path) -> None:
    chosen = settings(
        trainable="full",
        gradient_checkpointing=checkpointing,
        load={"attention": "native"},  # which diffusers keeps for the whole process, other tests included
        cache=cache,
        fit={"output": str(tmp_path / "run"), "batch": 4, "device": "cpu", "precision": "bf16"},
    )
    job = EditJob(chosen)
    transformer = job.backbone.transformer("kontext")
    transformer.disable_gradient_checkpointing()
    with SavedActivations(transformer) as kept, torch.autocast("cpu", torch.bfloat16):
        job.objective(job.batch(range(4)))
    planned = plan(chosen).memory["activations"]
    assert planned == pytest.approx(kept.peak_bytes(checkpointing), rel=0.15)


@pytest.mark.slow
def test_the_official_size_allocates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    chosen = settings(backbone="flux1-dev", dtype="bfloat16", gradient_checkpointing=True, fit={"batch": 1})
    found = plan(chosen, "h100-80g")
    assert found.total == pytest.approx(11.95e9, rel=0.01)
    # 2 operations a weight and token forward, and as many backward where weights are frozen, and attention.
    assert found.flops == pytest.approx(2 * 2 * 11.9e9 * found.tokens, rel=0.35)
    assert found.fits
    assert "h100-80g: fits into 80 GB" in table(found, chosen)


@pytest.mark.slow
def test_settings_that_would_fit_are_named() -> None:
    chosen = settings(backbone="flux1-dev", fit={"batch": 1})
    found = plan(chosen, "h100-80g")
    assert not found.fits
    assert found.advice.startswith("cache_texts=true gradient_checkpointing=true")
    small = plan(settings(backbone="flux1-dev", dtype="bfloat16", fit={"batch": 1}), "rtx3090-24g")
    assert not small.fits
    assert small.advice


def test_unknown_device() -> None:
    with pytest.raises(EditkitError, match=r"no device called 'h100'.*did you mean 'h100-80g'"):
        plan(settings(), "h100")


def test_the_largest_sample_counts(tmp_path: Path) -> None:
    """Of the run's own data, and of a mixture's."""
    image(128, 128).save(tmp_path / "picture.png")
    row = {"source": "picture.png", "answer": "picture.png", "instruction": "nothing"}
    larger = row | {"references": ["picture.png"]}

    def pairs(*rows: dict[str, Any]) -> dict[str, str]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return {"name": "jsonl", "path": str(path)}

    def tokens(**values: Any) -> int:
        return plan(settings(fit={"batch": 1}, **values)).tokens

    small, large = tokens(data=pairs(row)), tokens(data=pairs(larger))
    assert small < large
    assert tokens(data=pairs(row, larger, row)) == large
    assert tokens(data=pairs(row), mixture={"more": {"data": pairs(larger)}}) == large


def test_several_devices_of_any_kind() -> None:
    for kind, (capacity, speed, _) in gpus.KNOWN.items():
        several = gpus.by_name(f"8x{kind}")
        assert (several.kind, several.count, several.capacity, several.speed) == (kind, 8, capacity, speed)
        assert gpus.by_name(kind).count == 1
    with pytest.raises(EditkitError, match="no device called '0xh100-80g'"):
        gpus.by_name("0xh100-80g")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80g"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24g"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g"),
        ("NVIDIA L40S", "l40s-48g"),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA H100 PCIe", None),
    ],
)
def test_a_device_that_is_found_has_its_speed(name: str, kind: str | None) -> None:
    found = gpus.from_torch(name, 80e9)
    assert (found.name, found.kind) == (name, kind)
    assert found.speed == (gpus.KNOWN[kind][1] if kind else None)


ADVISED: dict[str, tuple[str, dict[str, Any]]] = {
    "a LoRA": ("rtx4090-24g", {"dtype": "bfloat16", "gradient_checkpointing": True, "fit": {"batch": 1}}),
    "a LoRA in float32": ("h100-80g", {"fit": {"precision": "fp32", "batch": 8}}),
    "all of it": ("h100-80g", {"trainable": "full", "fit": {"batch": 4}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ADVISED)
def test_what_is_advised_fits(case: str) -> None:
    device, values = ADVISED[case]
    chosen = {"backbone": "flux1-dev", "lora": {"rank": 32}} | values
    found = plan(settings(**chosen), device)
    assert not found.fits
    advised, _, launch = found.advice.partition(" --plan-device ")
    device = launch.split()[0] if launch else device
    assert bool(launch) == (case == "all of it")
    again = config.build(EditTrainConfig, {"data": {"count": 4}} | chosen, advised.split())
    assert plan(again, device).fits


@pytest.mark.parametrize("trainable", ["lora", "full"])
@pytest.mark.parametrize("backbone", ["tiny", pytest.param("flux1-dev", marks=pytest.mark.slow)])
def test_shards_hold_their_part_of_the_weights(backbone: str, trainable: str) -> None:
    fit = {"batch": 1, "precision": "bf16"}
    chosen = settings(trainable=trainable, backbone=backbone, gradient_checkpointing=True, fit=fit)
    step, card = step_cost(chosen), gpus.by_name("h100-80g")
    alone, shared = (estimate_memory(chosen, step, False, shards) for shards in (1, 8))
    for part in ("transformer", "gradients", "optimizer"):
        assert shared.memory[part] == pytest.approx(alone.memory[part] / 8)
    assert 0 < shared.memory["blocks gathered"] < alone.memory["transformer"] / 3
    assert shared.peak < alone.peak
    assert shared.peak + OVERHEAD <= card.capacity


def test_each_of_several_devices_takes_a_batch() -> None:
    chosen = settings(fit={"batch": 2, "accumulate": 3, "steps": 10}, data={"count": 40})
    alone, several = (plan(chosen, device) for device in ("h100-80g", "8xh100-80g"))
    assert (alone.samples, alone.seen) == (6, 1.5)
    assert (several.samples, several.seen) == (48, 12)
    assert "48 samples of " in table(several, chosen)
    assert "40 pairs, each seen 12 times in 10 steps" in table(several, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_the_peak_is_what_a_step_takes(trainable: str, tmp_path: Path) -> None:
    chosen = settings(
        trainable=trainable,
        data={"count": 16},
        cache=str(tmp_path / "cache"),
        fit={"output": str(tmp_path / "run"), "batch": 16, "ema": 0.99, "device": "cpu", "trackers": []},
    )
    measured = runpy.run_path(str(ROOT / "benchmarks" / "plan.py"))["measured"]
    assert 0.85 < plan(chosen).peak / measured(chosen) < 1.15


LORA = {"24g": "rtx4090-24g", "80g": "h100-80g", "8x80g": "h100-80g"}
FLUX = sorted((ROOT / "configs" / "flux1-dev").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FLUX, ids=lambda path: path.stem)
def test_shipped_configs_fit_where_they_are_for(path: Path, tmp_path: Path) -> None:
    image(1024, 1024).save(tmp_path / "picture.png")
    row = {"source": "picture.png", "answer": "picture.png", "instruction": "nothing"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    lora = config.read_yaml(path).get("trainable") != "full"
    for hardware, device in (LORA if lora else {"8x80g": "8xh100-80g"}).items():
        values, _ = config.layered(path, [str(ROOT / "configs" / "hardware" / f"{hardware}.yaml")])
        for data in (values["data"], *(mixed["data"] for mixed in values.get("mixture", {}).values())):
            kept = {name: value for name, value in data.items() if name in ("crop", "stretch")}
            data.clear()
            data |= kept | {"name": "jsonl", "path": str(tmp_path / "train.jsonl")}
        chosen = config.build(EditTrainConfig, values | {"backbone": "flux1-dev"})
        assert plan(chosen, device).fits, hardware
