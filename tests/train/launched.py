"""Training runs in processes of their own, one or several."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT
from tests.train.runs import losses

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
