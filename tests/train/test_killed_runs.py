"""Training in processes that are killed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.launched import (
    ALONE,
    run,
    started,
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
