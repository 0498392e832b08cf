"""Behaviour: `editkit doctor FILE` says what a file is, and the commands that it prints use the file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from backbones import families
from backbones.conversion import state_dict
from backbones.file_sizes import file_bytes
from backbones.specs import PARAMETERS
from editkit import machine
from editkit.inference import provenance
from tests import ROOT
from tests.command_line import Cli, picture, refused
from tests.weight_files import comfy_hints, write, write_gguf

TINY, METHODS = ROOT / "backbones" / "tiny", ROOT / "methods"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def native(role: str) -> dict[str, torch.Tensor]:
    state = load_file(TINY / role / "transformer" / WEIGHTS)
    return state_dict.diffusers_to_native({name: tensor.float() for name, tensor in state.items()})


def described(cli: Cli, path: Path) -> dict[str, Any]:
    run = cli("doctor", path, "--json")
    assert run.status == 0, run.err
    told: dict[str, Any] = json.loads(run.out)
    plain = cli("doctor", path)
    assert all(command in plain.out.splitlines() for command in told["commands"])
    assert told["kind"] in plain.out
    return told


def used(cli: Cli, command: str, folder: Path) -> dict[str, Any]:
    """The recipe of what a command makes in one step."""
    words = ["red circle" if "the" in word else word for word in shlex.split(command)]
    words = [str(picture(folder / "source.png")) if word == "PICTURE" else word for word in words]
    run = cli(*words[1:], "--steps", 1, "-o", folder / "made.png")
    assert run.status == 0, run.err
    return provenance.read_recipe(folder / "made.png")


@pytest.mark.filterwarnings("ignore:The backbone .* does not know the word")
@pytest.mark.parametrize("kind", ["gguf", "fp8"])
def test_a_transformer(cli: Cli, tmp_path: Path, kind: str) -> None:
    state = native("kontext")
    if kind == "gguf":
        file, bits = write_gguf(state, "Q8_0", tmp_path / "mine.gguf")[0], 9.0
    else:
        file, bits = write(comfy_hints(state), tmp_path / "mine.safetensors"), 8.7
    told = described(cli, file)
    assert told["kind"] == f"transformer, {bits} bits a weight"
    assert told["fits"] == "tiny, text or kontext"
    assert told["bytes"] == sum(file_bytes(file, "transformer").values())
    edit, generate = told["commands"]
    assert " -m kontext " in edit
    for command in (edit, generate):
        assert used(cli, command, tmp_path)["loading"]["transformer"] == str(file)


@pytest.mark.parametrize(
    ("folder", "kind", "methods", "way"),
    [
        ("icedit/tiny/moe", "LoRA-MoE, in diffusers naming", ["icedit"], "--option adapter="),
        (
            "icedit/tiny/lora",
            "LoRA of rank 16, in diffusers naming",
            ["icedit", "aceplus"],
            "--option adapter=",
        ),
    ],
)
def test_a_methods_own_adapter(
    cli: Cli, tmp_path: Path, folder: str, kind: str, methods: list[str], way: str
) -> None:
    told = described(cli, METHODS / folder)
    assert told["kind"] == kind
    assert told["adapter"]["base"] == "tiny"
    assert [shlex.split(each)[shlex.split(each).index("-m") + 1] for each in told["commands"]] == methods
    assert all(way in each for each in told["commands"])
    assert used(cli, told["commands"][0], tmp_path)["options"]["adapter"] == str(METHODS / folder)


@pytest.mark.parametrize(("width", "base"), [(256, "tiny"), (3072, "flux1-dev"), (64, None)])
def test_a_plain_lora(cli: Cli, tmp_path: Path, width: int, base: str | None) -> None:
    file = tmp_path / "a style.safetensors"
    stem = "transformer.transformer_blocks.0.attn.to_q.lora_"
    save_file({f"{stem}A.weight": torch.ones(2, width), f"{stem}B.weight": torch.zeros(width, 2)}, file)
    told = described(cli, file)
    assert told["bytes"] == 2 * 2 * 2 * width
    if base is None:
        assert (told["fits"], told["commands"]) == ("no family: its transformer is 64 wide", [])
        return
    (command,) = told["commands"]
    assert told["fits"] == f"{base}, any method"
    assert command.endswith(f" --lora {shlex.quote(str(file))}")
    assert (" -b flux1-dev " in command) == (base == "flux1-dev")
    if base == "tiny":
        assert used(cli, command, tmp_path)["lora"] == {str(file): 1.0}


@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
def test_a_lokr(cli: Cli, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mine.safetensors"
    names = {"LoKr": ("lokr_w1", "lokr_w2_a", "lokr_w2_b")}
    names["LoHa"] = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    sizes = {"LoKr": ((4, 4), (64, 3), (3, 64)), "LoHa": ((256, 3), (3, 256)) * 2}
    stem = "diffusion_model.transformer_blocks.0.attn.to_q."
    save_file({stem + name: torch.ones(s) for name, s in zip(names[kind], sizes[kind], strict=True)}, file)
    told = described(cli, file)
    assert told["kind"] == f"{kind} of rank 3, in diffusers naming"
    assert told["fits"] == "tiny, any method"
    (command,) = told["commands"]
    assert used(cli, command, tmp_path)["lora"] == {str(file): 1.0}
    assert f"({kind})" in cli("lora", "inspect", file).out


def test_a_file_of_nunchaku_is_named(cli: Cli, tmp_path: Path) -> None:
    layer = "transformer_blocks.0.qkv_proj"
    save_file(
        {f"{layer}.{name}": torch.ones(4, 4) for name in ("qweight", "wscales")}, tmp_path / "a.safetensors"
    )
    refused(cli("doctor", tmp_path / "a.safetensors"), f"{layer} is stored in nunchaku's SVDQuant")


def test_an_encoder_of_another_shape_fits_nothing(cli: Cli) -> None:
    told = described(cli, TINY / "kontext" / "vae" / WEIGHTS)
    assert told["kind"].startswith("vae, ")
    assert (told["fits"], told["commands"]) == ("no family: its shape is another", [])


@pytest.mark.parametrize(("channels", "fits"), [(16, "flux1-dev, any role"), (4, "no family")])
def test_an_autoencoder_has_the_latent_channels_of_flux(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, fits: str
) -> None:
    """Those of SD and SDXL are as large as FLUX's, and have four."""
    state, name = load_file(TINY / "kontext" / "vae" / WEIGHTS), "decoder.conv_in.weight"
    state[name] = state[name][:, :channels].contiguous()
    save_file(state, tmp_path / "vae.safetensors")
    monkeypatch.setitem(PARAMETERS, "vae", sum(tensor.numel() for tensor in state.values()))
    told = described(cli, tmp_path / "vae.safetensors")
    assert told["fits"].startswith(fits)
    assert bool(told["commands"]) == (channels == 16)


@pytest.mark.parametrize(
    ("channels", "commands"),
    [
        (384, ["edit -m aceplus", "edit -m icedit"]),
        (448, ["methods aceplus"]),
        (128, []),
        (64, ["edit -m kontext", "generate"]),
    ],
)
def test_what_fits_a_card(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, commands: list[str]
) -> None:
    """A small file stands for one of FLUX.1, on a card below the smallest preset."""
    shape = {name: 1 for name in ("num_layers", "num_single_layers", "num_attention_heads")}
    shape |= {"attention_head_dim": 128, "joint_attention_dim": 64, "pooled_projection_dim": 32}
    more = {"in_channels": channels, "out_channels": 64, "guidance_embeds": True}
    made = FluxTransformer2DModel.from_config(shape | more | {"axes_dims_rope": [16, 56, 56]})
    save_file(state_dict.diffusers_to_native(made.state_dict()), tmp_path / "mine.safetensors")
    monkeypatch.setattr(families, "PUBLISHED_SHAPE", shape)
    card = machine.FoundDevice(name="cuda", model="a card", memory=12 * 10**9, free=0)
    monkeypatch.setattr(machine, "devices", lambda: [card])
    told = described(cli, tmp_path / "mine.safetensors")
    found = [
        command.replace(' PICTURE "make the car red"', "").replace(' "a red car"', "").split(" -b ")[0]
        for command in told["commands"]
    ]
    assert found == [f"editkit {command}" for command in commands]
    assert all("methods" in each or each.endswith(" --low-memory auto") for each in told["commands"])
    alike = "FLUX.1-dev, FLUX.1-Kontext-dev and FLUX.1-Krea-dev have equal shapes, so choose "
    assert (alike in told["fits"]) == (channels == 64)
    if not commands:
        assert told["fits"] == "no family, with 128 channels: its shape is another"
    else:
        assert told["here"].startswith("cuda, 12 GB: all models take 9.9 GB, ")
        assert told["here"].endswith("fits with --low-memory auto")


def test_other_files_are_refused(cli: Cli, tmp_path: Path) -> None:
    cut = write_gguf(native("kontext"), "Q8_0", tmp_path / "cut.gguf")[0]
    cut.write_bytes(cut.read_bytes()[:40_000])
    strange = tmp_path / "strange.safetensors"
    save_file({"a": torch.ones(1)}, strange)
    empty = tmp_path / "empty.safetensors"
    save_file({"decoder.conv_in.weight": torch.ones(0, 16, 3, 3)}, empty)
    for path, words in (
        (tmp_path / "none.safetensors", "none.safetensors is no .safetensors or .gguf file that exists"),
        (ROOT / "README.md", "is no .safetensors or .gguf file"),
        (cut, "cut.gguf is truncated or is not a GGUF file"),
        (empty, "empty.safetensors has no values in decoder.conv_in.weight; give an undamaged file"),
        (strange, "holds no model of FLUX, and is read as a LoRA: The file holds no LoRA"),
    ):
        refused(cli("doctor", path), words)
