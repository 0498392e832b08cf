"""Runs that are killed, or shared by processes, give the same table."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests import ROOT
from tests.evaluation.finished import PIXELS, done, table


def killed(command: list[str], out: Path, rng: random.Random) -> RunFolder:
    """Run a command once to the end to time it, then anew with kill -9 at ten points, then to the end."""
    start = time.monotonic()
    subprocess.run([*command, "--out", str(out / "timed")], cwd=ROOT, check=True, capture_output=True)
    span = time.monotonic() - start
    command = [*command, "--out", str(out / "killed")]
    for _ in range(10):
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.4, 1) * span)
        running.send_signal(signal.SIGKILL)
        running.wait()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = RunFolder(out / "killed")
    assert table(folder) == table(RunFolder(out / "timed"))
    return folder


@pytest.mark.slow
def test_scores_killed_at_ten_random_points(existing: RunConfig, tmp_path: Path) -> None:
    """The table is that of an uninterrupted run, and no result was scored twice."""
    command = [
        sys.executable, "-m", "editkit", "eval", "run", "jsonl", "--data", str(existing.data), "--results",
        f"theirs={existing.results['theirs']}", "--metrics", ",".join(PIXELS),
    ]  # fmt: skip
    folder = killed(command, tmp_path / "out", random.Random(0))
    named = [(line["method"], line["item"]) for line in folder.scores()]
    assert len(named) == len(set(named)) == 40


@pytest.mark.slow
def test_edits_killed_at_ten_random_points(tmp_path: Path) -> None:
    """The pictures are those of an uninterrupted run, to the last level."""
    command = [
        sys.executable, "-m", "editkit", "eval", "run", "shapesworld", "-m", "kontext", "-b", "tiny",
        "--device", "cpu", "--limit", "8", "--batch-size", "2", "--metrics", "shapesworld,pixels",
    ]  # fmt: skip
    folder = killed(command, tmp_path / "out", random.Random(1))
    edits = folder.edits()
    assert len(edits) == 8
    assert all(edit.error is None for edit in edits.values())
    for edit in edits.values():
        pictures = [Image.open(tmp_path / "out" / run / edit.picture) for run in ("timed", "killed")]
        np.testing.assert_array_equal(*map(np.asarray, pictures))


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
