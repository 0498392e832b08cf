"""The tests of `tests/gpu` and `tests/weights`, by the same functions on small networks and a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import editkit
from backbones import low_memory
from tests.rehearsal import loading, training
from tests.rehearsal.acts import ACTS
from tests.rehearsal.networks import CHANNELS, SMALL
from tests.rehearsal.stage import Stage
from tests.weights import official


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(SMALL, tmp_path_factory.mktemp("small"), "cpu", torch.bfloat16)
    made.write(*CHANNELS)
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


TRAINED = {"kontext": {"sizes": "exact"}, "icedit": {"width": 32, "moe": {"experts": 2, "rank": 2}}}


@pytest.mark.parametrize("method", TRAINED)
def test_training(small: Stage, method: str, tmp_path: Path) -> None:
    training.trained(small, method, TRAINED[method], tmp_path)


@pytest.mark.slow
def test_compiled(small: Stage, plain: Tensor) -> None:
    loading.compiled(small, plain)


@pytest.mark.filterwarnings("ignore:The backbone .* does not know the word")
@pytest.mark.parametrize("act", [official.kontext, official.icedit, official.aceplus, official.full_model])
def test_smoke(small: Stage, act: Callable[[official.Weights], None], tmp_path: Path) -> None:
    """What `tests/weights` does with the official weights, on folders of small ones."""
    transformer = small.made.transformer("fill")
    role = "ace" if act is official.full_model else "fill"
    act(
        official.Weights(
            kontext=str(small.folder / "kontext"),
            fill=str(small.folder / role),
            adapters={"lora": small.lora(transformer), "experts": small.experts(transformer)},
            device="cpu",
            dtype=torch.bfloat16,
            whole=True,
            output=tmp_path,
            sizes=((96, 64), (64, 48), (96, 64)),
            steps=2,
        )
    )
