"""Kontext from a folder at 12 B: presets for little memory, compilation, fp8, training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backbones import low_memory
from tests.rehearsal import loading, training
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.gpu
ADA = (8, 9)
"""The first compute capability with arithmetic in fp8."""


@pytest.fixture(scope="module")
def plain(folder: Stage) -> Tensor:
    return loading.plain(folder)


@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_presets(folder: Stage, plain: Tensor, name: str) -> None:
    loading.under_preset(folder, name, plain)


def test_compiled(folder: Stage, plain: Tensor) -> None:
    loading.compiled(folder, plain)


def test_fp8(folder: Stage, plain: Tensor) -> None:
    if torch.cuda.get_device_capability() < ADA:
        pytest.skip(f"{torch.cuda.get_device_name()} has no arithmetic in fp8; Ada and newer have.")
    loading.in_fp8(folder, plain)


def test_training(folder: Stage, tmp_path: Path) -> None:
    training.trained(folder, "kontext", {"sizes": "exact"}, tmp_path)
