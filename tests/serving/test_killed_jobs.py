"""Jobs that are killed and started again give what uninterrupted ones give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import editkit
from tests import ROOT
from tests.serving.manifests import content, items, logged, rows, whole


@pytest.mark.parametrize("touches", [3, 7])
def test_a_torn_line_and_a_picture_without_a_line(
    editor: editkit.Editor, tmp_path: Path, touches: int
) -> None:
    """As a kill leaves them: the line is cut off behind the last picture."""
    found = items(rows(tmp_path, 8))
    whole(editor, found, tmp_path / "whole")
    whole(editor, found, tmp_path / "torn")
    (log,) = (tmp_path / "torn" / "log").glob("*")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:touches]) + lines[touches][:20])
    for line in lines[touches + 1 :]:
        (tmp_path / "torn" / f"{json.loads(line)['name']}.png").unlink(missing_ok=True)
    (tmp_path / "torn" / "recipes.parquet").unlink()
    whole(editor, found, tmp_path / "torn")
    assert content(tmp_path / "torn") == content(tmp_path / "whole")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import editkit
from editkit.serving.jobs import job, manifest, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Store

source, folder, kills, backbone = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
items = manifest.read_manifest(source, {}, {}, None)
batches = plan.batches(items, 3)
editor = editkit.load(backbone, "cpu")

def work(out):
    store = Store(out, {})
    job.run(lambda: editor, batches, store, Share())
    assert job.finish(items, store) is not None

start = time.monotonic()
work(folder / "whole")
pause = (time.monotonic() - start) / len(items)
chance = random.Random(0)
targets = sorted(chance.sample(range(len(items) // 2), kills))
killed = 0
for target in [*targets, None]:
    child = os.fork()
    if child == 0:
        work(folder / "killed")
        os._exit(0)
    if target is not None:
        while len(list((folder / "killed").glob("*.png"))) < target:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, pause / 2))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if target is not None:
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        killed += 1
assert status == 0
print(killed)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_points(random_pipeline: Path, tmp_path: Path) -> None:
    count, kills = 300, 10
    source = rows(tmp_path, count)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, source, tmp_path, str(kills), random_pipeline],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == kills
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert logged(tmp_path / "killed") == [f"{place:06d}" for place in range(count)]
