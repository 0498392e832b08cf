"""Adapters that do not load are named: by the kind that they are, or by the tensor that has no place."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from editkit import adapters, atomic_files
from editkit.errors import EditkitError, EditkitWarning
from tests.backbones.lora.effects import fresh, loaded, renamed
from tests.backbones.lora.updates import RANK, State, drawn
from tests.command_line import Cli, one_sentence, refused


def pair(stem: str, inputs: int = 64) -> State:
    return {f"{stem}.lora_A.weight": torch.ones(RANK, inputs), f"{stem}.lora_B.weight": torch.ones(64, RANK)}


def loha(stem: str, outputs: int = 64) -> State:
    shapes = {"a": (outputs, 2), "b": (2, 64)}
    return {f"{stem}.hada_w{number}_{side}": torch.ones(shapes[side]) for number in (1, 2) for side in "ab"}


def lokr(stem: str, *shapes: tuple[int, int]) -> State:
    return {f"{stem}.lokr_w{number}": torch.ones(shape) for number, shape in enumerate(shapes, 1)}


ONE = pair("transformer.proj_out")
TOKENS = pair("transformer.context_embedder", 48)
OUT, IN = "transformer.proj_out", "lora_unet_img_in"
QKV, NORM = "double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.norm.key_norm.scale"
NAMED: dict[str, tuple[State, str]] = {
    "an OFT": ({f"{IN}.oft_blocks": torch.ones(2, 2, 2)}, "belongs to an OFT"),
    "a BOFT": ({f"{IN}.boft_R": torch.ones(2, 2, 2)}, "belongs to an OFT"),
    "an IA3": ({f"{IN}.on_input": torch.ones(1), f"{IN}.weight": torch.ones(2)}, "belongs to an IA3"),
    "a GLoRA": ({f"{IN}.a1.weight": torch.ones(2, 2)}, "belongs to a GLoRA"),
    "a control LoRA's norms": (ONE | {NORM: torch.ones(4)}, "belongs to a control LoRA of FLUX.1 Tools"),
    "a control LoRA's input": (
        pair("img_in", 128),
        "x_embedder is 128 to 64, .* a control LoRA of FLUX.1 Tools",
    ),
    "a changed bias": (ONE | {"lora_unet_proj_out.diff_b": torch.ones(64)}, "changes of norms or biases"),
    "a bias of the base": (ONE | {f"{OUT}.bias": torch.ones(64)}, f"{OUT}.bias"),
    "an adapter of another network": (pair("unet.mid"), "no LoRA of FLUX.*unet.mid"),
    "no adapter": ({"x_embedder.weight": torch.ones(2, 2)}, "no LoRA of FLUX.*x_embedder.weight"),
    "one tensor more": (ONE | {"foo.bar": torch.ones(2)}, r"foo\.bar is not part of a plain LoRA"),
    "two tensors more": (
        ONE | {"foo.bar": torch.ones(2), "foo.baz": torch.ones(2)},
        r"foo\.bar is one of 2 that are not part of a plain LoRA",
    ),
    "a text encoder's": (
        {f"lora_te1_text_model.lora_{side}.weight": torch.ones(1, 1) for side in ("down", "up")},
        r"adapts text encoders alone \(lora_te1_text_model.lora_down.weight and 1 more\)",
    ),
    "two adapters of peft's": (
        ONE | {f"{OUT}.lora_A.b.weight": torch.ones(RANK, 64)},
        "proj_out is in the file twice",
    ),
    "experts": (ONE | {f"{OUT}.lora_A.expert_0.weight": torch.ones(2, 64)}, "belongs to a LoRA-MoE"),
    "a DoRA of columns": (ONE | {f"{OUT}.dora_scale": torch.ones(1, 64)}, "scales inputs"),
    "half a DoRA": (
        ONE | TOKENS | {f"{OUT}.lora_magnitude_vector": torch.ones(64)},
        "1 of 2 modules are of a DoRA",
    ),
    "alpha 0": (ONE | {f"{OUT}.alpha": torch.tensor(0.0)}, "alpha 0"),
    "half an XLabs pair": (
        {"double_blocks.0.processor.qkv_lora1.down.weight": torch.ones(4, 64)},
        "cannot be converted",
    ),
    "an adapter of pictures": (
        {f"double_blocks.{n}.processor.ip_adapter_k.weight": torch.ones(2) for n in (0, 1)},
        r"double_blocks\.0\.processor\.ip_adapter_k\.weight is not part of a LoRA in XLabs",
    ),
    "a LoKr of text encoders": (lokr("lora_te1_text_model", (2, 2), (2, 2)), "adapts text encoders alone"),
    "a LoKr that lacks a factor": (lokr(IN, (2, 2)), "img_in of the LoKr lacks lokr_w2_a"),
    "a LoKr of a convolution": (
        lokr("proj_out", (2, 2), (32, 32)) | {"proj_out.lokr_t2": torch.ones(2, 2, 1, 1)},
        "has lokr_t2",
    ),
    "a LoKr that is one": (lokr(QKV, (2, 2), (96, 32)), "this LoKr's product cannot be split"),
    "a LoHa with more": (loha(OUT) | {f"{OUT}.dora_scale": torch.ones(64, 1)}, "is not part of a LoHa"),
    "a LoHa of several alphas": (loha(OUT) | {f"{OUT}.alpha": torch.ones(3)}, "proj_out has 3 alphas"),
    "a LoHa of another width": (loha(OUT, 32), "proj_out is 64 to 32"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_has_no_place_is_named(flux: FluxTransformer2DModel, tmp_path: Path, kind: str) -> None:
    state, words = NAMED[kind]
    save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "x.safetensors")
    adapted = fresh(flux)
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load_adapter(adapted, tmp_path / "x.safetensors", "mine")
    one_sentence(str(caught.value))
    assert "x.safetensors" in str(caught.value)
    assert adapted.state_dict().keys() == flux.state_dict().keys()
    with pytest.raises(EditkitError):
        adapters.resume(adapted, tmp_path / "x.safetensors")


CONFIGS = {
    "alpha 0": json.dumps({"lora_alpha": 0}),
    "use_qalora": json.dumps({"lora_alpha": 1, "use_qalora": True}),
    "pissa": json.dumps({"lora_alpha": 1, "init_lora_weights": "pissa_niter_4"}),
    "a base that lora_ga changed": json.dumps({"lora_alpha": 1, "init_lora_weights": "lora_ga"}),
    "DoRA": json.dumps({"lora_alpha": 1, "use_dora": True}),
    "as JSON": "{",
    "cannot be read": json.dumps({"lora_alpha": "four"}),
}


@pytest.mark.parametrize("words", CONFIGS)
def test_configs_that_are_not_understood(flux: FluxTransformer2DModel, tmp_path: Path, words: str) -> None:
    save_file(renamed("base_model.model.")(drawn(flux)), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(CONFIGS[words])
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load_adapter(fresh(flux), tmp_path, "mine")
    one_sentence(str(caught.value))


def test_a_folder_with_several_is_asked_for_one(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file(ONE, tmp_path / name)
    with pytest.raises(
        EditkitError, match=r"holds 2 adapter files \(a.safetensors, b.safetensors\); name one"
    ):
        adapters.load_adapter(fresh(flux), tmp_path, "mine")


def test_training_goes_on_from_loras_alone(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    save_file(loha(OUT), tmp_path / "x.safetensors")
    adapted = fresh(flux)
    with pytest.raises(EditkitError, match="is not a LoRA, so it cannot be trained further"):
        adapters.resume(adapted, tmp_path / "x.safetensors")
    assert adapted.state_dict().keys() == flux.state_dict().keys()


@pytest.mark.parametrize(
    ("names", "scales", "words"),
    [
        (["mine"], ["1"], "The scale '1' of the adapter 'mine' is no number"),
        (["mine"], [True], "is no number"),
        (["mine"], [float("nan")], "is no number"),
        (["mine"], [None], "is no number"),
        ("mine", None, "names are a list"),
    ],
)
def test_scales_are_numbers(
    flux: FluxTransformer2DModel, tmp_path: Path, names: list[str], scales: list[float], words: str
) -> None:
    adapted = loaded(flux, ONE, tmp_path)
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.enable(adapted, names, scales)
    one_sentence(str(caught.value))


def test_alpha_of_training_is_above_0() -> None:
    for alpha in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            adapters.LoraOptions(alpha=alpha)


@pytest.mark.parametrize("command", ["convert", "merge"])
@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
def test_commands_name_what_edits_alone_load(cli: Cli, tmp_path: Path, command: str, kind: str) -> None:
    save_file(loha(OUT) if kind == "LoHa" else lokr(OUT, (2, 2), (32, 32)), tmp_path / "x.safetensors")
    new = tmp_path / "new.safetensors"
    rest = {"convert": [new, "--to", "kohya"], "merge": [new]}[command]
    refused(
        cli("lora", command, tmp_path / "x.safetensors", *rest),
        "belongs to a LoKr or LoHa, which edits can load",
    )
    assert not new.exists()


def test_a_config_that_is_missing_beside_peft_s_file_is_told(tmp_path: Path) -> None:
    save_file(ONE, tmp_path / "adapter_model.safetensors")
    with pytest.warns(EditkitWarning, match=r"has no adapter_config\.json beside it"):
        adapters.read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file(ONE, tmp_path / "mine.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapters.read_adapter(tmp_path)
        adapters.read_adapter(tmp_path / "mine.safetensors")


def test_a_config_beside_the_file_is_part_of_its_digest(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file(ONE, path)
    found = {adapters.digest(tmp_path)}
    assert found == {atomic_files.sha256(path)}
    for alpha in (1, 2):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
        found.add(adapters.digest(path))
    assert len(found) == 3
