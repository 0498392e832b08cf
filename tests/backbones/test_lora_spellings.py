"""Law: each spelling of an adapter file adds W + scale * alpha / r * B A to every layer that it names.

What a layer does is measured by feeding it a unit matrix, so it does not matter which kind of layer it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import transformer_config
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.lora import dialects, fused_modules
from backbones.lora.fused_modules import Update
from editkit import adapters

RANK, ALPHA = 4, 6.0
ROOT = Path(__file__).resolve().parents[2]
State = dict[str, Tensor]
Updates = dict[str, Update]


@pytest.fixture(scope="module")
def flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel.from_config(transformer_config(64)).eval().requires_grad_(False)


def fresh(flux: FluxTransformer2DModel) -> FluxTransformer2DModel:
    copy = FluxTransformer2DModel.from_config(flux.config).eval()
    copy.load_state_dict(flux.state_dict())
    return copy


def linears(flux: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in flux.named_modules() if isinstance(module, nn.Linear)}


def drawn(flux: nn.Module, alpha: float = RANK) -> Updates:
    generator = torch.Generator().manual_seed(1)
    return {
        name: Update(
            down_rI=torch.randn(RANK, module.in_features, generator=generator) / 8,
            up_Or=torch.randn(module.out_features, RANK, generator=generator) / 8,
            alpha=alpha,
        )
        for name, module in linears(flux).items()
    }


def changes(flux: nn.Module, adapted: nn.Module) -> dict[str, Tensor]:
    """What each layer adds to the base's (O, I + 1): to its matrix and, at the end, to its bias."""
    found = {}
    with torch.no_grad():
        for name, base in linears(flux).items():
            layer = adapted.get_submodule(name)
            inputs = torch.cat([torch.eye(base.in_features), torch.zeros(1, base.in_features)])
            outputs, before = layer(inputs), base(inputs)
            change = torch.cat([outputs[:-1] - outputs[-1:], outputs[-1:]])
            found[name] = (change - torch.cat([before[:-1] - before[-1:], before[-1:]])).T
    return found


def wanted(updates: Updates, scale: float = 1) -> dict[str, Tensor]:
    return {
        name: torch.cat([scale * u.scale * u.up_Or @ u.down_rI, torch.zeros(len(u.up_Or), 1)], dim=1)
        for name, u in updates.items()
    }


def agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, change in found.items():
        torch.testing.assert_close(
            change,
            expected.get(name, torch.zeros_like(change)),
            rtol=1e-3,
            atol=1e-5,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def bare(updates: Updates) -> State:
    """diffusers' names, without prefix."""
    state = {}
    for name, update in updates.items():
        state |= {f"{name}.lora_A.weight": update.down_rI, f"{name}.lora_B.weight": update.up_Or}
    return state


def renamed(prefix: str, *replacements: tuple[str, str]) -> Callable[[Updates], State]:
    def spell(updates: Updates) -> State:
        state = bare(updates)
        for old, new in replacements:
            state = {key.replace(old, new): tensor for key, tensor in state.items()}
        return {prefix + key: tensor for key, tensor in state.items()}

    return spell


def flat(prefix: str, alpha: bool) -> Callable[[Updates], State]:
    def spell(updates: Updates) -> State:
        state = {}
        for name, update in updates.items():
            stem = prefix + name.replace(".", "_")
            state |= {f"{stem}.lora_down.weight": update.down_rI, f"{stem}.lora_up.weight": update.up_Or}
            state |= {f"{stem}.alpha": torch.tensor(update.alpha)} if alpha else {}
        return state

    return spell


def written(dialect: str, prefix: str = "") -> Callable[[Updates], State]:
    def spell(updates: Updates) -> State:
        return {prefix + key: tensor for key, tensor in dialects.from_diffusers(updates, dialect)[0].items()}

    return spell


def dotted_alpha(updates: Updates) -> State:
    state = renamed("transformer.", ("lora_A", "lora_down"), ("lora_B", "lora_up"))(updates)
    return state | {f"transformer.{name}.alpha": torch.tensor(u.alpha) for name, u in updates.items()}


def beside(updates: Updates) -> State:
    """kohya's naming with text encoders and changes that are all zero beside it."""
    return written("kohya")(updates) | {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 1),
        "lora_unet_double_blocks_0_img_attn_norm_key_norm.diff": torch.zeros(4),
        "lora_unet_img_in.diff_b": torch.zeros(4),
    }


DOWN_UP = (("lora_A", "lora_down"), ("lora_B", "lora_up"))
# Each row of the table in docs/guides/lora-files.md: how it is spelled, and whether it has a place for alpha.
SPELLINGS: dict[str, tuple[Callable[[Updates], State], bool]] = {
    "`transformer.`, diffusers' names": (renamed("transformer."), False),
    "diffusers' names alone": (renamed(""), False),
    "`base_model.model.`, diffusers' names": (renamed("base_model.model."), False),
    "`transformer.base_model.model.`, diffusers' names": (renamed("transformer.base_model.model."), False),
    "`diffusion_model.`, diffusers' names": (renamed("diffusion_model."), False),
    "`lora_unet_`, diffusers' names": (flat("lora_unet_", True), True),
    "`lora_transformer_`, diffusers' names": (flat("lora_transformer_", True), True),
    "`lycoris_`, diffusers' names": (flat("lycoris_", True), True),
    "`transformer.`, `lora_down` and `lora_up`": (renamed("transformer.", *DOWN_UP), False),
    "`transformer.`, `lora_down` and `lora_up`, `alpha`": (dotted_alpha, True),
    "`lora_A.default.weight`": (
        renamed("", ("lora_A.", "lora_A.default."), ("lora_B.", "lora_B.default.")),
        False,
    ),
    "`lora_A` without `.weight`": (renamed("transformer.", (".weight", "")), False),
    "`lora.down.weight`": (renamed("transformer.", ("lora_A", "lora.down"), ("lora_B", "lora.up")), False),
    "`lora_unet_`, native names": (written("kohya"), True),
    "`diffusion_model.`, native names": (written("comfyui"), True),
    "`model.diffusion_model.`, native names": (written("bfl", "model.diffusion_model."), False),
    "native names alone": (written("bfl"), False),
    "`transformer.`, native names": (written("bfl", "transformer."), False),
    "`base_model.model.`, native names": (written("bfl", "base_model.model."), False),
    "zero `diff` and `diff_b` beside it": (beside, True),
}


@pytest.mark.parametrize("row", SPELLINGS)
@pytest.mark.filterwarnings("ignore:The part for text encoders")
def test_every_spelling_changes_every_layer(flux: FluxTransformer2DModel, tmp_path: Path, row: str) -> None:
    spell, has_alpha = SPELLINGS[row]
    updates = drawn(flux, ALPHA if has_alpha else RANK)
    save_file(spell(updates), tmp_path / "some.safetensors")
    adapted = fresh(flux)
    adapters.load(adapted, tmp_path / "some.safetensors", "mine")
    agree(changes(flux, adapted), wanted(updates))
    for scale in (0.5, 1.0, 0.25):
        adapters.enable(adapted, ["mine"], [scale])
        agree(changes(flux, adapted), wanted(updates, scale))
        assert adapters.active(adapted) == pytest.approx({"mine": scale})
    adapters.eject(adapted, "mine")
    assert adapted.state_dict().keys() == flux.state_dict().keys()


def xlabs(updates: Updates) -> State:
    state = {}
    for number, processors in {0: ("qkv_lora1", "qkv_lora2", "proj_lora1", "proj_lora2")}.items():
        names = {"qkv_lora1": "img_attn.qkv", "qkv_lora2": "txt_attn.qkv", "proj_lora1": "img_attn.proj"}
        for processor in processors:
            native = f"double_blocks.{number}.{names.get(processor, 'txt_attn.proj')}"
            parts = fused_modules.modules(1, 2)[native]
            stem = f"double_blocks.{number}.processor.{processor}"
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
        kept[name] = Update(down_rI=updates[first].down_rI, up_Or=updates[name].up_Or, alpha=RANK)
    save_file({prefix + key: tensor for key, tensor in xlabs(updates).items()}, tmp_path / "x.safetensors")
    adapted = fresh(flux)
    adapters.load(adapted, tmp_path / "x.safetensors", "mine")
    agree(changes(flux, adapted), wanted(kept))


def test_biases_count(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    updates = drawn(flux)
    state, expected = written("bfl")(updates), wanted(updates)
    joint = fused_modules.modules(1, 2)
    for native, parts in joint.items():
        if native in fused_modules.SWAPPED:
            continue
        biases = [torch.randn(len(updates[part].up_Or)) for part in parts]
        state[f"{native}.lora_B.bias"] = torch.cat(biases)
        # peft multiplies the bias by the scale too, which is 1 in this dialect.
        for part, bias in zip(parts, biases, strict=True):
            expected[part][:, -1] = bias
    save_file(state, tmp_path / "x.safetensors")
    adapted = fresh(flux)
    adapters.load(adapted, tmp_path / "x.safetensors", "mine")
    agree(changes(flux, adapted), expected)


@pytest.mark.parametrize("name", ["x.sft", "x.SAFETENSORS"])
def test_other_ends_of_names(flux: FluxTransformer2DModel, tmp_path: Path, name: str) -> None:
    updates = drawn(flux)
    save_file(renamed("transformer.")(updates), tmp_path / name)
    for number, path in enumerate((tmp_path / name, tmp_path)):
        adapted = fresh(flux)
        adapters.load(adapted, path, f"copy{number}")
        agree(changes(flux, adapted), wanted(updates))


def test_the_docs_table_has_each_row() -> None:
    text = (ROOT / "docs" / "guides" / "lora-files.md").read_text()
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert SPELLINGS.keys() <= rows
    assert {"XLabs' `processor.qkv_lora1.down`", "`lora_B.bias`", "DoRA", "LoKr", "LoHa"} <= rows


# --- Alpha in metadata and configs ---

CONFIGS = {
    "alpha": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"ff.net.2": 8}, "alpha_pattern": {"ff.net.2": 2}},
    "dora": {"use_dora": True},
    "bias": {"lora_bias": True},
}


@pytest.mark.parametrize("options", CONFIGS)
@pytest.mark.parametrize("layout", ["save_lora_adapter", "pipeline", "peft", "editkit"])
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
    adapters.load(adapted, tmp_path, "mine")
    expected = changes(flux, trained)
    assert expected["transformer_blocks.0.ff.net.2"].abs().max() > 0.01
    agree(changes(flux, adapted), expected)
