"""A small FLUX, its pictures without a preset, and presets as small as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

import editkit
from backbones import low_memory, random_encoders
from backbones.flux import Flux
from backbones.low_memory import Preset
from backbones.specs import Family, Role
from tests import ROOT
from tests.backbones.low_memory.small_family import (
    BLOCKS,
    CHANNELS,
    CPU,
    DEEP,
    INSTRUCTIONS,
    SOURCE,
    editor,
    edits,
    sizes,
)
from tests.random_weights import CLIP, LETTERS, autoencoder, liven, transformer_config
from tests.released_adapters import released


@pytest.fixture(scope="package")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """FLUX in small, its proportions kept: encoders are two fifths of a transformer, a block a tenth."""
    folder = tmp_path_factory.mktemp("family")
    roles = {
        name: Role(
            source=str(folder / name),
            in_channels=channels,
            steps=2,
            guidance=1.5,
            sizes=((64, 64),),
            area=64 * 64,
            licence="none",
        )
        for name, channels in CHANNELS.items()
    }
    family = Family(name="random", summary="random weights", sequence_length=48, roles=roles)
    made = Flux(family, CPU, torch.float32)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
        encoders = random_encoders.random_encoders(words, letters=LETTERS, clip=CLIP, t5=DEEP, length=48)
        for model in (encoders.clip, encoders.t5):
            liven(model)
        vae = autoencoder()
        for name, channels in CHANNELS.items():
            transformer = FluxTransformer2DModel.from_config(transformer_config(channels) | BLOCKS).eval()
            liven(transformer)
            made.set_components(str(folder / name), transformer, vae, encoders)
            made.save(name, folder / name)
        save_file(released(made.transformer("fill"), 3, experts=4), folder / "experts.safetensors")
    return family


@pytest.fixture(scope="package")
def plain(family: Family) -> editkit.Editor:
    return editor(family)


@pytest.fixture(scope="package")
def pictures(plain: editkit.Editor) -> list[tuple[str, bytes]]:
    made = list(edits(plain))
    assert made[1] == made[3]
    bare = editkit.Editor(plain.backbone, {"icedit": {"adapter": None}})
    without = bare.edit(SOURCE, INSTRUCTIONS["icedit"], "icedit").image
    assert without is not None
    assert without.tobytes() != made[1][1]  # so that an adapter that got lost would show
    return made


@pytest.fixture
def scaled(plain: editkit.Editor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Preset]:
    """The presets, their bytes as much smaller as this transformer is smaller than FLUX.1's."""
    small = sizes(plain.backbone).transformer / low_memory.published_weights().transformer
    made = {
        name: replace(preset, weights=preset.weights * small, stream=False)
        for name, preset in low_memory.PRESETS.items()
    }
    monkeypatch.setattr(low_memory, "PRESETS", made)
    return made
