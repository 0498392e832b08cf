"""Small training runs, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig

RECOLOUR = {"recolour": 1.0, "background": 1.0}
"""Kinds of edits that small runs train on."""


def train(chosen: EditTrainConfig) -> tuple[EditJob, Path]:
    job = EditJob(chosen)
    fit(job, chosen.fit)
    return job, Path(chosen.fit.output)


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines}
    assert len(found) == len(lines), "a step was logged twice"
    return found


def assert_same(one: Path, other: Path) -> None:
    """Two checkpoints agree in every bit."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if name.endswith(".json"):
            assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
            continue
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert first
        for key in first:
            assert torch.equal(first[key], second[key]), f"{name}: {key}"
