"""The official weights, where they are in the Hub's cache; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from backbones import component_files, hub, hub_cache, low_memory
from backbones.specs import NON_COMMERCIAL
from tests import ROOT
from tests.rehearsal.figures import pytest_terminal_summary
from tests.weights.official import Weights

__all__ = ["pytest_terminal_summary"]
KONTEXT, FILL = "black-forest-labs/FLUX.1-Kontext-dev", "black-forest-labs/FLUX.1-Fill-dev"
WHOLE = hub.file_patterns(["transformer", *component_files.COMPONENTS], *hub.TOKENIZERS)
ADAPTERS = {
    "lora": ("RiverZ/normal-lora", "*.safetensors"),
    "experts": ("sanaka87/ICEdit-MoE-LoRA", "*.safetensors"),
    "local": ("ali-vilab/ACE_Plus", "local_editing/comfyui_local_lora16.safetensors"),
    "full": ("ali-vilab/ACE_Plus", "ace_plus_fft.safetensors"),
}

Official = Callable[..., Weights]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads of 30 GB are a person's own decision."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def official() -> Official:
    """Gives the weights once these models and adapters are here, and skips the test where one is not."""

    def found(*models: str, adapters: tuple[str, ...] = ()) -> Weights:
        wanted = [(model, WHOLE) for model in models] + [_adapter(name) for name in adapters]
        absent = [(name, files) for name, files in wanted if _folder(name, files) is None]
        if absent:
            pytest.skip(_advice(absent))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        there = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else None
        return Weights(
            kontext=KONTEXT,
            fill=FILL,
            adapters={name: _file(name) for name in adapters},
            device=device,
            dtype=torch.bfloat16,
            whole=there is None or there >= low_memory.published_weights().whole + low_memory.ROOM,
            output=ROOT / "out" / "weights",
        )

    return found


def _adapter(name: str) -> tuple[str, list[str]]:
    repository, file = ADAPTERS[name]
    return repository, [file]


def _folder(repository: str, wanted: list[str]) -> Path | None:
    """A repository's folder in the cache, where it holds all that is wanted."""
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return None if hub_cache.missing(folder, wanted) else folder


def _advice(absent: list[tuple[str, list[str]]]) -> str:
    """What to do about weights that are missing."""
    commands, licences = [], []
    for repository, wanted in absent:
        commands.append(f"hf download {repository}" + ("" if "*" in wanted[0] else f" {wanted[0]}"))
        if repository.startswith("black-forest-labs/"):
            licences.append(
                f"accept the {NON_COMMERCIAL} at https://huggingface.co/{repository}, run hf auth login, and "
            )
    return f"Weights are missing; {''.join(licences)}run: {' && '.join(commands)}"


def _file(name: str) -> Path:
    repository, wanted = _adapter(name)
    folder = _folder(repository, wanted)
    assert folder is not None  # it was found before
    return sorted(folder.glob(wanted[0]))[0]
