"""Batch edits in processes of their own, started by accelerate's launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.cases import Place
from tests.command_line import Cli, refused
from tests.serving.manifests import content, logged, rows


def launched(start: tuple[str, ...], source: Path, out: Path, backbone: Path) -> None:
    """Run `editkit batch`; it tells of the item that fails."""
    asked = ("batch", source, "--out", out, "-b", backbone, "--device", "cpu", "--batch-size", 3, "--quiet")
    run = subprocess.run(
        [sys.executable, *start, "-m", "editkit", *map(str, asked)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode != 0
    assert "1 of 20 items failed" in run.stdout + run.stderr


@pytest.mark.slow
def test_accelerate_launch_gives_what_one_process_gives(random_pipeline: Path, tmp_path: Path) -> None:
    """Both write into one folder; the one that ends last writes the table."""
    source = rows(tmp_path, 20)
    config = str(ROOT / "configs" / "accelerate" / "ddp.yaml")
    launch = ("-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", "2")
    launched(launch, source, tmp_path / "two", random_pipeline)
    launched((), source, tmp_path / "one", random_pipeline)
    assert len(list((tmp_path / "two" / "log").glob("*"))) == 2
    assert logged(tmp_path / "two") == [f"{place:06d}" for place in range(20)]
    assert content(tmp_path / "two") == content(tmp_path / "one")


@pytest.mark.parametrize(("rank", "processes"), [("abc", "2"), ("2", "2"), ("1", None)])
def test_a_place_that_no_launcher_gives(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, rank: str, processes: str | None
) -> None:
    """Else the run would do nothing, and say that others do."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("WORLD_SIZE", processes)
    told = f"RANK/WORLD_SIZE in the environment, {rank}/{processes or 1} is not allowed"
    refused(cli("batch", rows(place.folder, 1), "--out", "out", "-b", place.backbone), told)
