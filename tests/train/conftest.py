"""Small training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backbones.flux import Flux
from editkit import config
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.random_weights import CLIP, LETTERS, T5, transformer_config
from tests.train.runs import RECOLOUR
from tests.train.stage_list import written

Configured = Callable[..., EditTrainConfig]


@pytest.fixture(scope="session")
def configured(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Configured:
    """A function that gives a small run's config: fresh backbone, 24 pictures, fp32, no prompt dropout."""
    cache = tmp_path_factory.getbasetemp() / "latents"  # shared by all tests, as runs share it

    def make(output: Path, *overrides: str, trainable: str = "full") -> EditTrainConfig:
        values = {
            "options": {"prompt_dropout": 0.0},
            "trainable": trainable,
            "fresh": {
                "vae": str(vae),
                "words": str(ROOT / "configs" / "tiny" / "words.txt"),
                "letters": LETTERS,
                "transformer": transformer_config() | {"num_single_layers": 1},
                "clip": CLIP,
                "t5": T5,
            },
            "lora": {"rank": 4},
            "cache": str(cache),
            "data": {"count": 24, "kinds": RECOLOUR},
            "fit": {
                "output": str(output),
                "steps": 4,
                "batch": 4,
                "precision": "fp32",
                "device": "cpu",
                "log_every": 1,
                "save_every": 4,
                "keep": 3,
                "optim": {"lr": 3e-3},
            },
        }
        return config.build(EditTrainConfig, values, overrides)

    return make


@pytest.fixture
def settings(configured: Configured, tmp_path: Path) -> Configured:
    """The same, for a folder by its name."""

    def make(output: str = "run", *overrides: str, **more: str) -> EditTrainConfig:
        return configured(tmp_path / output, *overrides, **more)

    return make


@pytest.fixture(scope="session")
def parts(random_flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An autoencoder and a folder for latents."""
    folder = tmp_path_factory.mktemp("parts")
    random_flux.vae.save_pretrained(folder / "vae")
    return str(folder / "vae"), str(folder / "latents")


@pytest.fixture
def two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a list of two stages."""
    monkeypatch.chdir(tmp_path)
    return written(tmp_path)
