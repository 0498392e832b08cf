"""The precision of a run that leaves it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from editkit import precision as timing
from editkit.train import precision
from editkit.train.finetune import EditJob
from editkit.train.loop import fit


def test_the_faster_precision_is_chosen_and_said(settings: Any) -> None:
    chosen, said = precision.resolve(settings("run", "fit.precision=auto"), None)
    times = timing.times("cpu")
    assert chosen.fit.precision == min(times, key=times.__getitem__)
    assert chosen.fit.low == (times["bf16"] < times["fp32"])
    assert said is not None
    assert said.startswith(f"fit.precision=auto takes {chosen.fit.precision}: a block's forward and backward")
    given = settings("run", "fit.precision=bf16")
    assert precision.resolve(given, None) == (given, None)


@pytest.mark.parametrize("before", ["bf16", "fp32"])
def test_a_resumed_run_keeps_its_precision(settings: Any, before: str) -> None:
    first = settings("run", "fit.steps=1", "data.count=4", f"fit.precision={before}", "fit.save_every=1")
    fit(EditJob(first), first.fit)
    chosen, said = precision.resolve(
        settings("run", "data.count=4", "fit.precision=auto"), Path(first.fit.output) / "checkpoint-0000001"
    )
    assert chosen.fit.precision == before
    assert said == f"fit.precision=auto takes {before}: as the checkpoint was trained."
