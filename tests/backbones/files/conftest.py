"""Random transformers, and their tensors under native names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel

from backbones.conversion import state_dict
from tests.backbones.files.encoders import saved_home
from tests.backbones.files.networks import WIDE
from tests.weight_files import (
    State,
)


@pytest.fixture(scope="package")
def plain(random_flux: Any) -> FluxTransformer2DModel:
    return random_flux.transformer("kontext")


@pytest.fixture(scope="package")
def native(plain: FluxTransformer2DModel) -> State:
    return state_dict.diffusers_to_native({n: t.detach() for n, t in plain.state_dict().items()})


@pytest.fixture(scope="package")
def wide_native() -> State:
    torch.manual_seed(0)
    model = FluxTransformer2DModel.from_config(WIDE)
    return state_dict.diffusers_to_native({n: t.detach() for n, t in model.state_dict().items()})


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_home(tmp_path_factory.mktemp("home"))
