"""FLUX.1 at 12 B with random weights, drawn on the device."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator

import psutil
import pytest
import torch

from tests.rehearsal.figures import memory, pytest_terminal_summary, start, tell
from tests.rehearsal.networks import PUBLISHED
from tests.rehearsal.stage import Stage

__all__ = ["pytest_terminal_summary"]
GB = 1e9
IN_MEMORY = 44 * GB
"""Bytes of GPU memory for all roles, which share their blocks, text encoders and activations."""
ON_DISK, IN_MAIN_MEMORY = 50 * GB, 44 * GB
"""Bytes for one role as a folder and its file in fp8, and for its weights while they wait."""


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    there = torch.cuda.get_device_properties(0).total_memory
    if there < IN_MEMORY:
        pytest.skip(
            f"The GPU has {there / GB:.0f} GB; FLUX.1 in bfloat16 needs {IN_MEMORY / GB:.0f} GB here."
        )
    made = Stage(PUBLISHED, tmp_path_factory.mktemp("gpu"), "cuda", torch.bfloat16)
    start()
    made.in_memory()
    tell(f"{torch.cuda.get_device_name(0)}, weights drawn", memory(made.device))
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture(scope="session")
def folder(stage: Stage) -> Stage:
    """The same with Kontext as a folder."""
    free, main = shutil.disk_usage(stage.folder).free, psutil.virtual_memory().total
    if free < ON_DISK or main < IN_MAIN_MEMORY:
        pytest.skip(
            f"Loading a folder needs {ON_DISK / GB:.0f} GB of disk, which pytest's --basetemp names, and "
            f"{IN_MAIN_MEMORY / GB:.0f} GB of main memory; here are {free / GB:.0f} and {main / GB:.0f} GB."
        )
    start()
    stage.write("kontext")
    stage.forget()
    gc.collect()
    torch.cuda.empty_cache()
    tell("Kontext written as a folder", "diffusers' layout")
    return stage
