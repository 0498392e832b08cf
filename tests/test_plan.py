"""What a run is said to take, beside what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from editkit import EditkitError, config
from editkit.train.edit import EditJob, EditTrainConfig
from editkit.train.plan import Kept, plan, table


def settings(**values: Any) -> EditTrainConfig:
    return config.build(EditTrainConfig, {"data": {"count": 4}} | values)


@pytest.mark.parametrize("trainable", ["lora", "full"])
@pytest.mark.parametrize("method", ["kontext", "icedit", "aceplus"])
def test_parameters_are_counted(method: str, trainable: str, tmp_path: Path) -> None:
    chosen = settings(
        method=method,
        trainable=trainable,
        cache=str(tmp_path / "cache"),
        fit={"output": str(tmp_path / "run"), "batch": 2, "device": "cpu"},
    )
    found = plan(chosen)
    parameters = list(EditJob(chosen).objective.parameters())
    assert found.total == sum(p.numel() for p in parameters)
    assert found.trainable == sum(p.numel() for p in parameters if p.requires_grad)
    assert found.tokens == {"kontext": 176, "icedit": 176, "aceplus": 112}[method]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_autograd_keeps_is_what_is_planned(checkpointing: bool, tmp_path: Path) -> None:
    chosen = settings(
        trainable="full",
        gradient_checkpointing=checkpointing,
        load={"attention": "native"},  # which diffusers keeps for the whole process, other tests included
        cache=str(tmp_path / "cache"),
        fit={"output": str(tmp_path / "run"), "batch": 4, "device": "cpu"},
    )
    job = EditJob(chosen)
    transformer = job.backbone.transformer("kontext")
    transformer.disable_gradient_checkpointing()
    with Kept(transformer) as kept, torch.autocast("cpu", torch.bfloat16):
        job.objective(job.batch(range(4)))
    planned = plan(chosen).memory["activations"]
    assert planned == pytest.approx(kept.needed(checkpointing), rel=0.15)


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
    small = plan(chosen, "rtx3090-24g")
    assert not small.fits
    assert small.advice


def test_settings_that_would_fit_are_named() -> None:
    chosen = settings(backbone="flux1-dev", fit={"batch": 1})
    found = plan(chosen, "h100-80g")
    assert not found.fits
    assert found.advice[0].startswith("cache_texts=true gradient_checkpointing=true")


def test_unknown_device() -> None:
    with pytest.raises(EditkitError, match=r"no device called 'h100'.*did you mean 'h100-80g'"):
        plan(settings(), "h100")
