"""Presets for little memory: bytes of weights on the device, counted as they come and go; pictures stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import editkit
from backbones import low_memory, text
from backbones.flux import Flux
from backbones.loading import LoadOptions
from backbones.low_memory import Preset, Sizes
from backbones.placement import size, tensors
from backbones.specs import Family, Role
from tests import ROOT
from tests.pictures import image as colourful
from tests.random_weights import CLIP, LETTERS, T5, autoencoder, liven, transformer_config
from tests.released_adapters import released

CHANNELS = {"kontext": 64, "fill": 384, "ace": 448}
BLOCKS = {"num_layers": 6, "num_single_layers": 8, "num_attention_heads": 4}
DEEP = T5 | {"d_ff": 512, "num_layers": 24}
SOURCE, MASK = colourful(48, 32), Image.new("L", (48, 32), 255)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
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
        encoders = text.fresh(words, letters=LETTERS, clip=CLIP, t5=DEEP, length=48)
        for model in (encoders.clip, encoders.t5):
            liven(model)
        vae = autoencoder()
        for name, channels in CHANNELS.items():
            transformer = FluxTransformer2DModel.from_config(transformer_config(channels) | BLOCKS).eval()
            liven(transformer)
            made.adopt(str(folder / name), transformer, vae, encoders)
            made.save(name, folder / name)
        save_file(released(made.transformer("fill"), 3, experts=4), folder / "experts.safetensors")
    return family


def editor(family: Family, **loading: Any) -> editkit.Editor:
    return editkit.Editor(
        Flux(family, CPU, torch.float32, LoadOptions(**loading)),
        {"icedit": {"adapter": str(Path(family.roles["fill"].source).parent / "experts.safetensors")}},
    )


def edits(made: editkit.Editor) -> Iterator[tuple[str, bytes]]:
    """Kontext, ICEdit, ACE++, and ICEdit again, whose transformer was let go of meanwhile."""
    for method, given in (("kontext", {}), ("icedit", {}), ("aceplus", {"mask": MASK}), ("icedit", {})):
        picture = made.edit(SOURCE, f"make it blue for {method}", method, **given).image
        assert picture is not None
        yield method, picture.tobytes()


def sizes(flux: Flux) -> Sizes:
    blocks = [size(tensors(block)) for block in _blocks(flux.transformer("kontext"))]
    whole = max(size(tensors(flux.transformer(role))) for role in CHANNELS)
    return Sizes(
        transformer=whole,
        block=max(blocks),
        outside=whole - sum(blocks),
        encoders=size(tensors(flux.encoders.clip)) + size(tensors(flux.encoders.t5)),
        vae=size(tensors(flux.vae)),
    )


def _blocks(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


@pytest.fixture(scope="module")
def plain(family: Family) -> editkit.Editor:
    return editor(family)


@pytest.fixture(scope="module")
def pictures(plain: editkit.Editor) -> list[tuple[str, bytes]]:
    return list(edits(plain))


@pytest.fixture
def scaled(plain: editkit.Editor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Preset]:
    """The presets, their bytes as much smaller as this transformer is smaller than FLUX.1's."""
    small = sizes(plain.backbone).transformer / low_memory.published().transformer
    made = {
        name: replace(preset, weights=preset.weights * small, stream=False)
        for name, preset in low_memory.PRESETS.items()
    }
    monkeypatch.setattr(low_memory, "PRESETS", made)
    return made


@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_all_methods_in_one_process_stay_below_the_bound(
    name: str,
    family: Family,
    plain: editkit.Editor,
    pictures: list[tuple[str, bytes]],
    scaled: dict[str, Preset],
) -> None:
    low, preset, about = editor(family, low_memory=name), scaled[name], sizes(plain.backbone)
    ledger = low.backbone.placement.ledger
    assert about.whole + 2 * about.transformer > preset.weights  # which editing without it would need

    def on_device(module: nn.Module, _: Any) -> None:
        held = {id(tensor) for tensor in ledger.tensors()}
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert all(id(tensor) in held for tensor in own if isinstance(tensor, nn.Parameter)), type(module)
        assert ledger.now <= preset.weights

    watch = torch.nn.modules.module.register_module_forward_pre_hook(on_device)
    try:
        assert list(edits(low)) == pictures
    finally:
        watch.remove()
    adapters = 0.1 * about.transformer
    assert 0 < ledger.peak <= min(preset.weights, low_memory.peak(preset, about) + adapters)
    assert len(low.backbone.transformers) == preset.transformers
