"""Runs that are killed, or shared by processes, give the same table."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.backbone import Backbone
from editkit.editor import Editor
from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.chunks import Share
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests import ROOT
from tests.evaluation import samples
from tests.evaluation.cli_process import started
from tests.evaluation.finished import PIXELS, done, table

KILLS = 10


def killed(command: list[str], out: Path, rng: random.Random) -> RunFolder:
    """Run a command to its end, then anew with kill -9 at ten points, then to its end.

    Each point is some time after a run has logged something, at most the time between two lines of its log:
    so ten kills find a run at work.
    """
    begun = time.monotonic()
    ended([*command, "--out", str(out / "whole")])
    pause = (time.monotonic() - begun) / max(1, lines(out / "whole"))
    command = [*command, "--out", str(out / "killed")]
    alive = 0
    for _ in range(KILLS):
        before, running = lines(out / "killed"), started(command)
        while running.is_alive() and lines(out / "killed") == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, pause))
        alive += running.is_alive()
        running.kill()
        running.join()
    assert alive >= KILLS // 2, "the runs were over before they were killed; give them more to do"
    ended(command)
    folder = RunFolder(out / "killed")
    assert table(folder) == table(RunFolder(out / "whole"))
    return folder


def ended(command: list[str]) -> None:
    """Run a command to its end."""
    process = started(command)
    process.join()
    assert process.exitcode == 0


def lines(out: Path) -> int:
    """How many lines a run has logged."""
    return sum(path.read_bytes().count(b"\n") for path in (out / "logs").glob("*.jsonl"))


@pytest.mark.slow
def test_scores_killed_at_ten_random_points(tmp_path: Path) -> None:
    """The table is that of an uninterrupted run, and no result was scored twice."""
    count = 480
    data = samples.jsonl(tmp_path / "data", count)
    results = samples.copied_results(open_benchmark("jsonl", data), tmp_path / "theirs", 9)
    command = ["eval", "run", "jsonl", "--data", str(data), "--results", f"theirs={results}"]
    folder = killed([*command, "--metrics", ",".join(PIXELS)], tmp_path / "out", random.Random(0))
    named = [(line["method"], line["item"]) for line in folder.scores()]
    assert len(named) == len(set(named)) == count


@pytest.mark.slow
def test_edits_killed_at_ten_random_points(tmp_path: Path) -> None:
    """The pictures are those of an uninterrupted run, to the last level."""
    command = [
        "eval",
        "run",
        "shapesworld",
        "-m",
        "kontext",
        "-b",
        "tiny",
        "--device",
        "cpu",
        "--limit",
        "14",
    ]
    command += ["--steps", "2", "--batch-size", "1", "--metrics", "shapesworld,pixels"]
    folder = killed(command, tmp_path / "out", random.Random(1))
    edits = folder.edits()
    assert len(edits) == 14
    assert all(edit.error is None for edit in edits.values())
    for edit in edits.values():
        pictures = [Image.open(tmp_path / "out" / run / edit.picture) for run in ("whole", "killed")]
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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shares_of_their_own_score_all_that_they_edit(
    order: tuple[int, int], tmp_path: Path, random_flux: Backbone
) -> None:
    """Each share ends before the next one begins, so that nobody scores what another one edits later."""
    config = RunConfig(
        benchmark="shapesworld", limit=5, methods=["kontext"], steps=1, batch_size=1, metrics=["pixels"],
        out=str(tmp_path / "run"),
    )  # fmt: skip
    for rank in order:
        share = Share(rank=rank, world=2, independent=True)
        folder = done(config, lambda: Editor(random_flux), share=share)
    assert ["l1" in values for *_, values in table(folder)] == [True] * 5
