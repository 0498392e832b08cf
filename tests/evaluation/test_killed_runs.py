"""Runs that are killed, or shared by processes, give the same table."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests import ROOT
from tests.evaluation.finished import PIXELS, done, table


@pytest.mark.slow
def test_killed_at_ten_random_points(existing: RunConfig, tmp_path: Path) -> None:
    """kill -9, and again: the table is that of an uninterrupted run."""
    whole = table(done(existing))
    out, rng = tmp_path / "killed", random.Random(0)
    command = [
        sys.executable, "-m", "editkit", "eval", "run", "jsonl", "--data", existing.data, "--results",
        f"theirs={existing.results['theirs']}", "--metrics", ",".join(PIXELS), "--out", str(out),
    ]  # fmt: skip
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    span = time.monotonic() - start
    for path in (out / "logs").iterdir():
        path.unlink()
    for _ in range(10):
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.5, 1) * span)
        running.send_signal(signal.SIGKILL)
        running.wait()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = RunFolder(out)
    assert table(folder) == whole
    named = [(line["method"], line["item"]) for line in folder.scores()]
    assert len(named) == len(set(named)) == 40


@pytest.mark.slow
def test_processes_of_a_launcher_share_a_run(existing: RunConfig, tmp_path: Path) -> None:
    """Two processes write logs of their own, and one table."""
    whole = table(done(existing))
    out = tmp_path / "launched"
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29671",
            "-m", "editkit", "eval", "run", "jsonl", "--data", existing.data, "--results",
            f"theirs={existing.results['theirs']}", "--metrics", ",".join(PIXELS), "--out", str(out),
        ],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    folder = RunFolder(out)
    assert {path.name for path in (out / "logs").iterdir()} == {
        f"{kind}-{rank}.jsonl" for kind in ("edits", "scores") for rank in (0, 1)
    }
    assert table(folder) == whole
    assert (out / "report.html").is_file()
