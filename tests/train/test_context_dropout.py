"""Context that is left out in part: the right tokens go, with their positions and masks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from editkit import EditkitError
from editkit.imaging import canvas
from editkit.train.context_dropout import drop_context
from editkit.train.finetune import EditJob
from editkit.types import Conditioning, Plan


def plan(masked: bool) -> Plan:
    """A plan of two samples whose context's tokens are numbers, with their positions and masks alike."""
    numbers_S = torch.arange(10.0)
    slots = Conditioning(
        sequence_BSC=numbers_S.view(1, 10, 1).expand(2, -1, -1),
        sequence_ids_S3=numbers_S.view(10, 1).expand(-1, 3),
        valid_BN=torch.cat((torch.ones(2, 4), numbers_S.expand(2, -1) % 2), dim=1) > 0 if masked else None,
    )
    return Plan(canvas=canvas.fit((32, 32), size=(32, 32)), conditioning=slots, role="kontext")


@pytest.mark.parametrize("masked", [True, False])
def test_tokens_go_with_their_positions_and_masks(masked: bool) -> None:
    whole = plan(masked)
    fewer = drop_context(whole, 0.5, 3).conditioning
    assert fewer.sequence_BSC is not None
    assert fewer.sequence_ids_S3 is not None
    kept_S = fewer.sequence_BSC[0, :, 0]
    assert len(kept_S) == 5
    assert torch.equal(kept_S, kept_S.sort().values)
    assert torch.equal(fewer.sequence_ids_S3[:, 1], kept_S)
    if masked:
        assert fewer.valid_BN is not None
        assert torch.equal(fewer.valid_BN[1, 4:], kept_S % 2 > 0)
        assert fewer.valid_BN[:, :4].all()
    other = drop_context(whole, 0.5, 4).conditioning.sequence_ids_S3
    assert other is not None
    assert not torch.equal(other[:, 0], kept_S)
    assert drop_context(whole, 1.0, 3) is whole
    assert drop_context(whole, 0.01, 3).conditioning.sequence_ids_S3.shape == (1, 3)  # type: ignore[union-attr]


def test_a_run_learns_from_fewer_tokens(settings: Any) -> None:
    job = EditJob(settings("run", "context_tokens=0.5", "data.count=8"))
    batch = job.batch(range(4))
    whole = batch.plan.conditioning.sequence_BSC
    fewer = job.objective.with_text(batch).conditioning.sequence_BSC
    assert whole is not None
    assert fewer is not None
    assert fewer.shape[1] == whole.shape[1] // 2
    with torch.no_grad():
        assert job.objective(batch) == job.objective(batch), "the choice depends on the samples alone"
        assert job.objective(batch) != job.objective(replace(batch, seeds=batch.seeds[::-1]))


def test_some_batches_cache_their_context(settings: Any) -> None:
    job = EditJob(settings("run", "cached_context=0.5", "data.count=8"))
    batch = job.batch(range(4))

    def apart(step: int, seeds: list[int] = batch.seeds) -> bool:
        plan = job.objective.with_text(replace(batch, step=step, seeds=seeds))
        return plan.conditioning.context_apart

    drawn = [apart(step) for step in range(64)]
    assert 16 < sum(drawn) < 48
    assert drawn == [apart(step, seeds=[7]) for step in range(64)], "processes with other samples draw alike"
    losses = {
        job.objective(replace(batch, step=step)).item() for step in (drawn.index(True), drawn.index(False))
    }
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("given", ["cached_context=0.5", "options.context=cached"])
def test_a_cached_context_does_not_train_in_shards(
    settings: Any, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(EditkitError, match="A cached context does not train in shards"):
        EditJob(settings("run", given, "data.count=8"))


def test_shares_and_methods_without_a_sequence_are_refused(settings: Any) -> None:
    with pytest.raises(EditkitError, match=r"context_tokens must lie in \(0, 1\], not 0"):
        settings("run", "context_tokens=0")
    with pytest.raises(EditkitError, match="none does here; leave it out"):
        EditJob(settings("run", "context_tokens=0.5", "method=icedit", "data.count=8"))
    with pytest.raises(EditkitError, match=r"cached_context must lie in \[0, 1\], not 2"):
        settings("run", "cached_context=2")
    with pytest.raises(EditkitError, match="cached_context does not go together with distill"):
        settings("run", "cached_context=0.5", "distill.guidance={}")
    with pytest.raises(EditkitError, match=r"cached_context is for pictures .* none does here; leave it out"):
        EditJob(settings("run", "cached_context=0.5", "method=icedit", "data.count=8"))
