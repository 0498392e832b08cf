"""Law: training goes on from a file in each spelling, and conversion keeps what each adds to every layer."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from backbones.lora import files as lora_files
from editkit import adapters
from tests.backbones.lora.effects import agree, changes, fresh, wanted
from tests.backbones.lora.spellings import ALPHA, SPELLINGS
from tests.backbones.lora.updates import RANK, drawn


@pytest.mark.parametrize("row", SPELLINGS)
@pytest.mark.filterwarnings("ignore:The LoRA.s part for text encoders")
def test_training_and_conversion_begin_from_the_same_change(
    flux: FluxTransformer2DModel, tmp_path: Path, row: str
) -> None:
    spell, has_alpha = SPELLINGS[row]
    updates = drawn(flux, ALPHA if has_alpha else RANK)
    save_file(spell(updates), tmp_path / "x.safetensors")
    lora_files.convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors", "kohya")
    for name in ("x", "y"):
        trained = fresh(flux)
        adapters.resume(trained, tmp_path / f"{name}.safetensors")
        agree(changes(flux, trained), wanted(updates))
        trains = {key for key, parameter in trained.named_parameters() if parameter.requires_grad}
        assert len(trains) == 2 * len(updates)
