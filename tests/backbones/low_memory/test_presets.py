"""Behaviour: presets are chosen by memory, give way to other options, and are in recipes and docs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import editkit
from backbones import low_memory
from backbones.low_memory import Preset
from backbones.specs import Family
from editkit import config
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.backbones.low_memory.small_family import (
    SOURCE,
    editor,
)


def test_an_explicit_offload_wins(family: Family, scaled: dict[str, Preset]) -> None:
    def grouped(**loading: Any) -> int:
        backbone = editor(family, low_memory="24g", **loading).backbone
        transformer = backbone.onloaded_transformer("kontext")
        return sum(hasattr(module, "_diffusers_hook") for module in transformer.modules())

    assert grouped() == grouped(offload="block")
    assert grouped(offload="leaf") > 2 * grouped()
    with pytest.raises(EditkitError, match=r"offload=none keeps .* low_memory allows"):
        grouped(offload="none")


def test_a_role_of_flux_fits_its_presets() -> None:
    for preset in low_memory.PRESETS.values():
        assert low_memory.peak_bytes(preset, low_memory.published_weights()) <= preset.weights


def test_the_preset_is_in_the_recipe(random_pipeline: Path, tmp_path: Path) -> None:
    low = editkit.load(str(random_pipeline), "cpu", low_memory="16g")
    SOURCE.save(tmp_path / "source.png")
    result = low.edit(tmp_path / "source.png", "make it blue", steps=2)
    assert result.recipe["loading"] == {"low_memory": "16g"}
    assert result.image is not None
    images.save(result.image, tmp_path / "out.png", result.recipe)
    assert editkit.replay(tmp_path / "out.png").verdict == "identical"


def test_training_refuses_a_preset() -> None:
    with pytest.raises(EditkitError, match="low_memory is for edits"):
        config.build(EditTrainConfig, {"load": {"low_memory": "24g"}})


def test_the_quickstart_tells_the_same_presets() -> None:
    told = (ROOT / "docs" / "quickstart.md").read_text()
    for name, preset in low_memory.PRESETS.items():
        side = math.isqrt(preset.pixels)
        encoders = "wait in main memory" if preset.offload_encoders else "stay on the GPU"
        cells = (
            f"`{name}`",
            f"{preset.weights / 1e9:.0f} GB",
            preset.transformers,
            encoders,
            f"{side}x{side}",
        )
        assert f"| {' | '.join(map(str, cells))} |" in told
