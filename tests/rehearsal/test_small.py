"""What `tests/gpu` does at 12 B, by the same functions on small networks and a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import editkit
from backbones import low_memory
from tests.rehearsal import loading
from tests.rehearsal.acts import ACTS
from tests.rehearsal.networks import CHANNELS, SMALL
from tests.rehearsal.stage import Stage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(SMALL, tmp_path_factory.mktemp("small"), "cpu", torch.bfloat16)
    made.write("kontext")
    return made


@pytest.fixture(scope="module")
def editor(small: Stage) -> editkit.Editor:
    return small.in_memory()


@pytest.fixture(scope="module")
def plain(small: Stage) -> Tensor:
    return loading.plain(small)


@pytest.mark.parametrize("act", ACTS)
def test_acts(small: Stage, editor: editkit.Editor, act: str) -> None:
    ACTS[act](small, editor)


def test_all_roles_share_their_blocks(small: Stage) -> None:
    first, *others = (small.made.transformer(role).state_dict() for role in CHANNELS)
    for other in others:
        apart = {name for name in first if first[name].data_ptr() != other[name].data_ptr()}
        assert apart == {"x_embedder.weight"}


@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_presets(small: Stage, plain: Tensor, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loading.scaled_presets(small, monkeypatch)
    loading.under_preset(small, name, plain)


def test_fp8(small: Stage, plain: Tensor) -> None:
    loading.in_fp8(small, plain)


@pytest.mark.slow
def test_compiled(small: Stage, plain: Tensor) -> None:
    loading.compiled(small, plain)
