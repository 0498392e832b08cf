"""Folders of two blocks at full width, written once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import editkit
from tests.rehearsal.figures import pytest_terminal_summary, start, tell
from tests.rehearsal.networks import CHANNELS, FULL_WIDTH
from tests.rehearsal.stage import Stage

__all__ = ["pytest_terminal_summary"]
THREADS = 2


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    """Large products gain by a second thread, where small ones lose by it."""
    if request.node.get_closest_marker("slow"):
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Folders of two blocks at full width, one for each role."""
    made = Stage(FULL_WIDTH, tmp_path_factory.mktemp("rehearsal"), "cpu", torch.bfloat16)
    start()
    made.write(*CHANNELS)
    made.forget()
    tell(f"{made.scale.name}, three folders written", f"{sum(_sizes(made)) / 1e9:.1f} GB")
    return made


def _sizes(stage: Stage) -> Iterator[int]:
    """Bytes of each weight file, once."""
    for path in stage.folder.rglob("*.safetensors"):
        if not any(parent.is_symlink() for parent in path.parents):
            yield path.stat().st_size


@pytest.fixture(scope="module")
def kontext(stage: Stage) -> editkit.Editor:
    return stage.load("kontext")


@pytest.fixture(scope="module")
def fill(stage: Stage) -> editkit.Editor:
    return stage.load("fill")


@pytest.fixture(scope="module")
def ace(stage: Stage) -> editkit.Editor:
    return stage.load("ace")
