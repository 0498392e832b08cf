"""Presets for little memory: bytes of weights on the device, counted as they come and go; pictures stay."""

from __future__ import annotations

import math
import weakref
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
from torch.testing._internal.two_tensor import TwoTensor

import editkit
from backbones import low_memory, random_encoders
from backbones.flux import Flux
from backbones.load_options import LoadOptions
from backbones.low_memory import Preset, WeightBytes
from backbones.specs import Family, Role
from backbones.weight_tracker import tensors, weight_bytes
from editkit import config, machine
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.pictures import image as colourful
from tests.pictures import photo
from tests.random_weights import CLIP, LETTERS, T5, autoencoder, liven, transformer_config
from tests.released_adapters import released

CHANNELS = {"kontext": 64, "fill": 384, "ace": 448}
BLOCKS = {"num_layers": 6, "num_single_layers": 8, "num_attention_heads": 4}
DEEP = T5 | {"d_ff": 512, "num_layers": 24}
SOURCE, MASK = colourful(48, 32), Image.new("L", (48, 32), 255)
CPU = torch.device("cpu")
INSTRUCTIONS = {
    "kontext": "make the red circle blue",
    "icedit": "make the circle green",
    "aceplus": "add a square",
}
"""Each its own, so that every edit encodes one."""


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


def editor(family: Family, device: torch.device = CPU, **loading: Any) -> editkit.Editor:
    return editkit.Editor(
        Flux(family, device, torch.float32, LoadOptions(**loading)),
        {"icedit": {"adapter": str(Path(family.roles["fill"].source).parent / "experts.safetensors")}},
    )


def edits(made: editkit.Editor) -> Iterator[tuple[str, bytes]]:
    """Kontext, ICEdit, ACE++, and ICEdit again, whose transformer was let go of meanwhile."""
    cases: list[tuple[str, dict[str, Any]]] = [("kontext", {}), ("icedit", {}), ("aceplus", {"mask": MASK})]
    for method, given in (*cases, cases[1]):
        picture = made.edit(SOURCE, INSTRUCTIONS[method], method, **given).image
        assert picture is not None
        yield method, picture.tobytes()


def sizes(flux: Flux) -> WeightBytes:
    blocks = [weight_bytes(tensors(block)) for block in _blocks(flux.transformer("kontext"))]
    whole = max(weight_bytes(tensors(flux.transformer(role))) for role in CHANNELS)
    return WeightBytes(
        transformer=whole,
        block=max(blocks),
        outside=whole - sum(blocks),
        encoders=weight_bytes(tensors(flux.encoders.clip)) + weight_bytes(tensors(flux.encoders.t5)),
        vae=weight_bytes(tensors(flux.vae)),
    )


def _blocks(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


@pytest.fixture(scope="module")
def plain(family: Family) -> editkit.Editor:
    return editor(family)


@pytest.fixture(scope="module")
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


@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_all_methods_in_one_process_stay_below_the_bound(
    name: str,
    family: Family,
    plain: editkit.Editor,
    pictures: list[tuple[str, bytes]],
    scaled: dict[str, Preset],
) -> None:
    low, preset, about = editor(family, low_memory=name), scaled[name], sizes(plain.backbone)
    tracker = low.backbone.placement.tracker
    assert about.whole + 2 * about.transformer > preset.weights  # which editing without it would need

    def on_device(module: nn.Module, _: Any) -> None:
        held = {id(tensor) for tensor in tracker.tensors()}
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert all(id(tensor) in held for tensor in own if isinstance(tensor, nn.Parameter)), type(module)
        assert tracker.current <= preset.weights

    watch = torch.nn.modules.module.register_module_forward_pre_hook(on_device)
    try:
        assert list(edits(low)) == pictures
    finally:
        watch.remove()
    adapters = 0.1 * about.transformer
    assert 0 < tracker.peak <= min(preset.weights, low_memory.peak_bytes(preset, about) + adapters)
    assert len(low.backbone.transformers) == preset.transformers


def test_models_take_turns_where_not_all_fit(
    family: Family, plain: editkit.Editor, pictures: list[tuple[str, bytes]], scaled: dict[str, Preset]
) -> None:
    """A transformer that fits whole goes to the CPU while a prompt is encoded, by the bound alone."""
    about = sizes(plain.backbone)
    low = editor(family, low_memory="24g")
    bound = 1.1 * about.transformer
    placement = low.backbone.placement
    placement.preset = replace(scaled["24g"], weights=bound, offload_encoders=False)
    assert about.encoders + about.transformer > bound
    assert list(edits(low)) == pictures
    assert about.transformer <= placement.tracker.peak <= bound


def test_encoders_and_autoencoder_visit_layer_by_layer(
    family: Family, plain: editkit.Editor, pictures: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even they are larger than the bound."""
    about = sizes(plain.backbone)
    for bound, uses in ((0.6 * about.encoders, "everything"), (0.5 * about.vae, "the autoencoder")):
        preset = replace(low_memory.PRESETS["16g"], weights=bound, stream=False)
        monkeypatch.setattr(low_memory, "PRESETS", {"16g": preset})
        low = editor(family, low_memory="16g")
        if uses == "everything":
            assert list(edits(low)) == pictures
        else:
            pixels = photo(64, 64, 0)
            latents = plain.backbone.encode(pixels)
            assert torch.equal(low.backbone.encode(pixels), latents)
            assert torch.equal(low.backbone.decode(latents, 64, 64), plain.backbone.decode(latents, 64, 64))
        assert 0 < low.backbone.placement.tracker.peak <= bound


def test_quantized_weights_count_as_packed() -> None:
    """A tensor of two stands for torchao's, which hold bytes and scales and look like what they were."""
    packed, scales = torch.zeros(4, 8), torch.zeros(4, 8)
    assert weight_bytes([TwoTensor(packed, scales)]) == 2 * weight_bytes([packed])
    assert weight_bytes([packed, packed]) == 4 * 8 * 4


@pytest.mark.gpu
@pytest.mark.parametrize("name", low_memory.PRESETS)
def test_the_ledger_tells_where_weights_are(name: str, family: Family, scaled: dict[str, Preset]) -> None:
    """On CUDA with streams: what the tracker holds is on the device, and all else that is loaded is not."""
    cuda = torch.device("cuda")
    scaled[name] = replace(scaled[name], stream=True)
    low = editor(family, cuda, low_memory=name)
    backbone = low.backbone
    wanted = list(edits(editor(family, cuda)))

    def where(*_: Any) -> None:
        held = {id(tensor) for tensor in backbone.placement.tracker.tensors()}
        loaded = [*backbone.transformers.values(), backbone.vae, backbone.encoders.clip, backbone.encoders.t5]
        for parameter in (each for model in loaded for each in model.parameters()):
            assert (parameter.device.type == "cuda") == (id(parameter) in held)

    watch = torch.nn.modules.module.register_module_forward_pre_hook(where)
    try:
        found = list(edits(low))
    finally:
        watch.remove()
    assert found == wanted
    assert 0 < backbone.placement.tracker.peak <= scaled[name].weights


def test_a_transformer_that_is_let_go_leaves_no_trace(family: Family, scaled: dict[str, Preset]) -> None:
    low = editor(family, low_memory="24g")
    low.edit(SOURCE, INSTRUCTIONS["icedit"], "icedit", steps=1)
    before = weakref.ref(low.backbone.transformer("fill"))
    low.edit(SOURCE, INSTRUCTIONS["kontext"], "kontext", steps=1)
    assert before() is None


def test_encoders_wait_as_soon_as_a_prompt_is_encoded(family: Family, scaled: dict[str, Preset]) -> None:
    for name, preset in scaled.items():
        backbone = editor(family, low_memory=name).backbone
        backbone.text(["make it blue"])
        held = {id(tensor) for tensor in backbone.placement.tracker.tensors()}
        waits = id(backbone.encoders.t5.shared.weight) not in held
        assert waits == preset.offload_encoders


def test_previews_are_decoded_in_parts(family: Family, plain: editkit.Editor) -> None:
    low = editor(family, low_memory="24g")
    low.backbone.placement.preset = replace(low_memory.PRESETS["24g"], pixels=2 * 64 * 64)
    batches: list[int] = []
    low.backbone.vae.decoder.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    search = {"seeds": 5, "preview_steps": 1}
    found = [each.edit(SOURCE, "make it blue", search=search).image for each in (low, plain)]
    assert batches == [2, 2, 1, 1]
    assert found[0] == found[1]


def test_large_pictures_go_tile_by_tile(family: Family, plain: editkit.Editor) -> None:
    low = editor(family, low_memory="24g")
    low.backbone.placement.preset = replace(low_memory.PRESETS["24g"], pixels=128 * 128)
    tokens = torch.randn(1, (256 // 16) * (128 // 16), 64, generator=torch.Generator().manual_seed(0))
    whole = plain.backbone.decode(tokens, 256, 128)
    shapes: list[int] = []
    low.backbone.vae.decoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-1]))
    tiled = low.backbone.decode(tokens, 256, 128)
    assert len(shapes) > 1
    assert max(shapes) == 128 // 8
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.05
    shapes.clear()
    assert torch.equal(
        low.backbone.decode(tokens[:, :64], 128, 128), plain.backbone.decode(tokens[:, :64], 128, 128)
    )
    assert shapes == [128 // 8]


def test_an_explicit_offload_wins(family: Family, scaled: dict[str, Preset]) -> None:
    def grouped(**loading: Any) -> int:
        backbone = editor(family, low_memory="24g", **loading).backbone
        transformer = backbone.onloaded_transformer("kontext")
        return sum(hasattr(module, "_diffusers_hook") for module in transformer.modules())

    assert grouped() == grouped(offload="block")
    assert grouped(offload="leaf") > 2 * grouped()
    with pytest.raises(EditkitError, match=r"offload=none keeps .* low_memory allows"):
        grouped(offload="none")


def test_auto_goes_by_memory() -> None:
    chosen = {memory: low_memory.largest_preset(memory * 1e9) for memory in (12, 15.8, 23.5, 25.2, 47.6, 80)}
    assert chosen == {12: None, 15.8: "16g", 23.5: "24g", 25.2: "24g", 47.6: "48g", 80: "48g"}
    assert [low_memory.fits_without_preset(memory * 1e9) for memory in (80, 141)] == [False, True]
    memory = machine.devices()[-1].memory
    if low_memory.fits_without_preset(memory):
        assert low_memory.choose_preset("auto", "cpu") is None
    elif name := low_memory.largest_preset(memory):
        assert low_memory.choose_preset("auto", "cpu") == low_memory.PRESETS[name]
    else:
        with pytest.raises(EditkitError, match="finds no preset"):
            low_memory.choose_preset("auto", "cpu")


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
