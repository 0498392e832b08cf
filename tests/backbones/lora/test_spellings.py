"""Law: each spelling of an adapter file adds scale * alpha / r * B A to every layer that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from backbones.lora import files as lora_files
from backbones.lora import fused_modules, keys
from backbones.lora.low_rank import LowRankUpdate
from editkit import adapters
from tests.backbones.lora.effects import (
    agree,
    changes,
    fresh,
    loaded,
    renamed,
    wanted,
    written,
)
from tests.backbones.lora.spellings import ALPHA, SPELLINGS
from tests.backbones.lora.updates import RANK, State, Updates, drawn

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("row", SPELLINGS)
@pytest.mark.filterwarnings("ignore:The LoRA.s part for text encoders")
def test_every_spelling_changes_every_layer(flux: FluxTransformer2DModel, tmp_path: Path, row: str) -> None:
    spell, has_alpha = SPELLINGS[row]
    updates = drawn(flux, ALPHA if has_alpha else RANK)
    adapted = loaded(flux, spell(updates), tmp_path)
    agree(changes(flux, adapted), wanted(updates))
    for scale in (0.5, 1.0):
        adapters.enable(adapted, ["mine"], [scale])
        agree(changes(flux, adapted), wanted(updates, scale))
        assert adapters.active(adapted) == pytest.approx({"mine": scale})
    adapters.eject(adapted, "mine")
    assert adapted.state_dict().keys() == flux.state_dict().keys()


def xlabs(updates: Updates) -> State:
    state = {}
    names = {"qkv_lora1": "img_attn.qkv", "qkv_lora2": "txt_attn.qkv"}
    names |= {"proj_lora1": "img_attn.proj", "proj_lora2": "txt_attn.proj"}
    for processor, native in names.items():
        parts = fused_modules.module_map(1, 2)[f"double_blocks.0.{native}"]
        stem = f"double_blocks.0.processor.{processor}"
        state[f"{stem}.up.weight"] = torch.cat([updates[part].up_Or for part in parts])
        state[f"{stem}.down.weight"] = updates[parts[0]].down_rI
    for number in (0, 1):
        block = f"single_transformer_blocks.{number}"
        parts = tuple(f"{block}.attn.to_{letter}" for letter in "qkv")
        stem = f"single_blocks.{number}.processor"
        state[f"{stem}.qkv_lora.up.weight"] = torch.cat([updates[part].up_Or for part in parts])
        state[f"{stem}.qkv_lora.down.weight"] = updates[parts[0]].down_rI
        state[f"{stem}.proj_lora.up.weight"] = updates[f"{block}.proj_out"].up_Or
        state[f"{stem}.proj_lora.down.weight"] = updates[f"{block}.proj_out"].down_rI
    return state


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_xlabs(flux: FluxTransformer2DModel, tmp_path: Path, prefix: str) -> None:
    """Query, key and value share one first matrix."""
    updates = drawn(flux)
    ends = tuple(f".attn.to_{letter}" for letter in "qkv") + tuple(f".attn.add_{x}_proj" for x in "qkv")
    ends += (".attn.to_out.0", ".attn.to_add_out", ".proj_out")
    kept = {name: update for name, update in updates.items() if name.endswith(ends)}
    for name in kept:
        first = re.sub(r"to_[kv]$", "to_q", re.sub(r"add_[kv]_proj$", "add_q_proj", name))
        kept[name] = LowRankUpdate(down_rI=updates[first].down_rI, up_Or=updates[name].up_Or, alpha=RANK)
    state = {prefix + key: tensor for key, tensor in xlabs(updates).items()}
    agree(changes(flux, loaded(flux, state, tmp_path)), wanted(kept))
    for dialect in keys.DIALECTS:
        lora_files.convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors", dialect)
        agree(
            changes(flux, loaded(flux, adapters.read_adapter(tmp_path / "y.safetensors")[0], tmp_path)),
            wanted(kept),
        )
        save_file(state, tmp_path / "x.safetensors")


def test_biases_count(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    updates = drawn(flux)
    state, expected = written("bfl")(updates), wanted(updates)
    joint = fused_modules.module_map(1, 2)
    for native, parts in joint.items():
        if native in fused_modules.SWAPPED:
            continue
        biases = [torch.randn(len(updates[part].up_Or)) for part in parts]
        state[f"{native}.lora_B.bias"] = torch.cat(biases)
        # peft multiplies the bias by the scale too, which is 1 in this dialect.
        for part, bias in zip(parts, biases, strict=True):
            expected[part][:, -1] = bias
    agree(changes(flux, loaded(flux, state, tmp_path)), expected)


@pytest.mark.parametrize("name", ["x.sft", "x.SAFETENSORS"])
def test_other_ends_of_names(flux: FluxTransformer2DModel, tmp_path: Path, name: str) -> None:
    updates = drawn(flux)
    save_file(renamed("transformer.")(updates), tmp_path / name)
    for number, path in enumerate((tmp_path / name, tmp_path)):
        adapted = fresh(flux)
        adapters.load_adapter(adapted, path, f"copy{number}")
        agree(changes(flux, adapted), wanted(updates))


def test_the_docs_table_has_each_row() -> None:
    text = (ROOT / "docs" / "guides" / "lora-files.md").read_text()
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert SPELLINGS.keys() <= rows
    assert {"XLabs' `processor.qkv_lora1.down`", "`lora_B.bias`", "DoRA", "LoKr", "LoHa"} <= rows


# --- Alpha in metadata and configs ---

CONFIGS: dict[str, dict[str, Any]] = {
    "alpha": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"ff.net.2": 8}, "alpha_pattern": {"ff.net.2": 2}},
    "dora": {"use_dora": True},
    "bias": {"lora_bias": True},
}


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        *(("save_lora_adapter", options) for options in CONFIGS),
        *(
            (layout, options)
            for layout in ("pipeline", "peft", "editkit")
            for options in ("patterns", "dora")
        ),
        ("editkit", "bias"),
    ],
)
# What diffusers saves: peft takes its biases for shards of a matrix.
@pytest.mark.filterwarnings("ignore:.*invalid shape")
def test_what_peft_and_diffusers_save(
    flux: FluxTransformer2DModel, tmp_path: Path, options: str, layout: str
) -> None:
    """The adapter on the transformer that saved it, and on the one that loads it."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained, targets = fresh(flux), ["attn.to_q", "ff.net.2", "proj_out"]
    torch.manual_seed(3)
    trained.add_adapter(
        LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, **CONFIGS[options])
    )
    if layout == "save_lora_adapter":
        trained.save_lora_adapter(tmp_path)
    elif layout == "editkit":
        adapters.save(trained, tmp_path)
    else:
        state = get_peft_model_state_dict(trained)
        config = trained.peft_config["default"]
        if layout == "peft":
            save_file(
                {f"base_model.model.{k}": t for k, t in state.items()}, tmp_path / "adapter_model.safetensors"
            )
            config.save_pretrained(tmp_path)
        else:
            about = {
                f"transformer.{key}": value
                for key, value in config.to_dict().items()
                if key != "runtime_config"
            }
            text = json.dumps(about, default=list)
            save_file({f"transformer.{k}": t for k, t in state.items()}, tmp_path / adapters.FILE,
                      {"lora_adapter_metadata": text})  # fmt: skip
    adapted = fresh(flux)
    adapters.load_adapter(adapted, tmp_path, "mine")
    expected = changes(flux, trained)
    assert expected["transformer_blocks.0.ff.net.2"].abs().max() > 0.01
    agree(changes(flux, adapted), expected)
