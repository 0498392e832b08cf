"""Folders of two blocks at full width, written once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import editkit
from tests.rehearsal.figures import pytest_terminal_summary, start, tell
from tests.rehearsal.networks import CHANNELS, FULL_WIDTH
from tests.rehearsal.products import FloatProducts
from tests.rehearsal.remembered import Answer, Remembered
from tests.rehearsal.stage import Stage

__all__ = ["pytest_terminal_summary"]
THREADS = 2


@pytest.fixture(autouse=True)
def _products(request: pytest.FixtureRequest) -> Iterator[None]:
    """Large products gain by a second thread, where small ones lose by it, and by float32."""
    if not request.node.get_closest_marker("slow"):
        yield
        return
    torch.set_num_threads(min(THREADS, len(os.sched_getaffinity(0))))
    with FloatProducts():
        yield


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


@pytest.fixture(scope="session")
def texts() -> list[Answer]:
    """What T5 made of prompts; it is the same in all folders."""
    return []


@pytest.fixture(scope="module")
def kontext(stage: Stage, texts: list[Answer]) -> editkit.Editor:
    return _opened(stage, "kontext", texts)


@pytest.fixture(scope="module")
def fill(stage: Stage, texts: list[Answer]) -> editkit.Editor:
    return _opened(stage, "fill", texts)


@pytest.fixture(scope="module")
def ace(stage: Stage, texts: list[Answer]) -> editkit.Editor:
    return _opened(stage, "ace", texts)


def _opened(stage: Stage, role: str, texts: list[Answer]) -> editkit.Editor:
    editor = stage.load(role)
    Remembered(editor.backbone.encoders.t5, texts)
    return editor
