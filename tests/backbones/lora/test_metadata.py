"""LoraConfigs in a file's metadata that say more than the matrices, or something else."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn

from editkit import adapters
from editkit.errors import EditkitError
from tests.backbones.lora.effects import agree, changes, fresh, loaded, wanted
from tests.backbones.lora.updates import RANK, State, Updates, drawn
from tests.command_line import one_sentence

NAME = "proj_out"
USUAL: dict[str, Any] = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": [NAME]}
PREFIXES = {"diffusers' pipelines": "transformer.", "save_lora_adapter": ""}


def one(flux: nn.Module) -> Updates:
    return {NAME: drawn(flux)[NAME]}


def write(folder: Path, updates: Updates, prefix: str = "transformer.", **config: Any) -> Path:
    """The last layer's LoRA in diffusers' names, with a LoraConfig."""
    state: State = {}
    for name, update in updates.items():
        state |= {f"transformer.{name}.lora_A.weight": update.down_rI}
        state |= {f"transformer.{name}.lora_B.weight": update.up_Or}
    about = {f"{prefix}{key}": value for key, value in (USUAL | config).items()}
    save_file(state, folder / "x.safetensors", {adapters.METADATA: json.dumps(about)})
    return folder / "x.safetensors"


def is_as_before(flux: nn.Module, adapted: Any) -> bool:
    kinds = [{name: type(module) for name, module in each.named_modules()} for each in (flux, adapted)]
    return kinds[0] == kinds[1] and not getattr(adapted, "peft_config", {})


@pytest.mark.parametrize("layout", PREFIXES)
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"modules_to_save": ["x_embedder"]}, "LoraConfig has modules_to_save, which is not supported"),
        ({"modules_to_save": [NAME]}, "has modules_to_save"),
        ({"trainable_token_indices": [1]}, "has trainable_token_indices"),
        ({"bias": "all"}, "has bias=all, which is not supported"),
        ({"use_dora": True}, "say DoRA, but it has no magnitudes"),
        ({"lora_alpha": float("nan")}, "an alpha that is not finite"),
        ({"r": 16}, rf"say rank 16 for {NAME}, whose matrices have rank {RANK}"),
        ({"rank_pattern": {"out": 8, NAME: 2}}, "say rank 2 for"),
        ({"rank_pattern": [8]}, "cannot be read"),
        ({"alpha_pattern": {"(": 8}}, "cannot be read"),
    ],
)
def test_configs_that_are_refused(
    flux: FluxTransformer2DModel, tmp_path: Path, layout: str, config: dict[str, Any], words: str
) -> None:
    adapted = fresh(flux)
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load_adapter(adapted, write(tmp_path, one(flux), PREFIXES[layout], **config), "mine")
    one_sentence(str(caught.value))
    assert is_as_before(flux, adapted)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 0}, "has a scale of nan"),
        ({"alpha_pattern": ["x"]}, "config has no valid alpha"),
        ({"rank_pattern": {"(": 1}}, "config has no valid r"),
    ],
)
def test_configs_of_a_lokr_that_are_refused(
    flux: FluxTransformer2DModel, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    adapted, told = fresh(flux), json.dumps({"peft_type": "LOKR", "r": 2, "alpha": 2} | config)
    state = {f"{NAME}.lokr_w1": torch.ones(2, 2), f"{NAME}.lokr_w2": torch.ones(32, 32)}
    save_file(state, tmp_path / "x.safetensors", {adapters.METADATA: told})
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load_adapter(adapted, tmp_path / "x.safetensors", "mine")
    one_sentence(str(caught.value))
    assert is_as_before(flux, adapted)


@pytest.mark.parametrize(
    "config",
    [
        {"of_a_newer_peft": True},
        {"lora_alpha": str(2 * RANK)},
        {"lora_bias": True},
        {"modules_to_save": [], "bias": "none"},
        {"rank_pattern": {NAME: RANK}, "r": 1},
    ],
)
def test_configs_that_load(flux: FluxTransformer2DModel, tmp_path: Path, config: dict[str, Any]) -> None:
    adapted = fresh(flux)
    adapters.load_adapter(adapted, write(tmp_path, one(flux), **config), "mine")
    agree(changes(flux, adapted), wanted(one(flux), 2.0))


def test_an_alpha_in_the_file_counts_whatever_the_metadata_say(
    flux: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """Such as where peft's config of another file is in the same folder."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 64}))
    update = one(flux)[NAME]
    state = {
        "lora_unet_final_layer_linear.lora_down.weight": update.down_rI,
        "lora_unet_final_layer_linear.lora_up.weight": update.up_Or,
        "lora_unet_final_layer_linear.alpha": torch.tensor(2.0 * RANK),
    }
    agree(changes(flux, loaded(flux, state, tmp_path)), wanted(one(flux), 2.0))


@pytest.mark.parametrize("beside", [False, True])
def test_what_peft_refuses_leaves_nothing_behind(
    flux: FluxTransformer2DModel, tmp_path: Path, beside: bool
) -> None:
    """Not beside another adapter either; a sound file then loads under the same name."""
    adapted, updates = fresh(flux), one(flux)
    if beside:
        adapters.load_adapter(adapted, write(tmp_path, updates), "other")
    before = changes(flux, adapted)
    for wrong in ({"lora_dropout": 2.0}, {"target_modules": None}, {"alpha_pattern": {NAME: "8"}}):
        with pytest.raises(EditkitError, match=r"does not fit this transformer \(") as caught:
            adapters.load_adapter(adapted, write(tmp_path, updates, **wrong), "mine")
        one_sentence(str(caught.value))
        assert adapters.active(adapted) == ({"other": 1.0} if beside else {})
        assert not any("mine" in layer.r for layer in adapters.layers(adapted))
        assert beside or is_as_before(flux, adapted)
        agree(changes(flux, adapted), before)
    adapters.load_adapter(adapted, write(tmp_path, updates), "mine")
    adapters.enable(adapted, ["mine"])
    agree(changes(flux, adapted), wanted(updates, 2.0))


@pytest.mark.parametrize(
    ("kind", "name"),
    [*itertools.product(("LoRA", "LoKr"), ("a.b", "", "train")), ("LoKr", "copy")],
)
def test_names_that_torch_refuses(flux: FluxTransformer2DModel, tmp_path: Path, name: str, kind: str) -> None:
    adapted, file = fresh(flux), write(tmp_path, one(flux))
    if kind == "LoKr":
        save_file({f"{NAME}.lokr_w1": torch.ones(2, 2), f"{NAME}.lokr_w2": torch.ones(32, 32)}, file)
    with pytest.raises(EditkitError, match=r"cannot be called|cannot put it") as caught:
        adapters.load_adapter(adapted, file, name)
    one_sentence(str(caught.value))
    assert is_as_before(flux, adapted)


def test_a_name_that_is_taken(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    adapted, file = fresh(flux), write(tmp_path, one(flux))
    adapters.load_adapter(adapted, file, "mine")
    with pytest.raises(EditkitError, match="has an adapter 'mine' already; give another name") as caught:
        adapters.load_adapter(adapted, file, "mine")
    one_sentence(str(caught.value))
    agree(changes(flux, adapted), wanted(one(flux), 2.0))
