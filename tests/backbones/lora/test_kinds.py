"""Adapters that are no plain LoRA: DoRA, LoKr and LoHa count whole, other kinds are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.lora import fused_modules
from editkit import adapters, atomic_files
from editkit.errors import EditkitError
from tests.backbones.lora.effects import agree, changes, draw, fresh, linears, loaded, renamed, written
from tests.backbones.lora.updates import RANK, State, drawn
from tests.command_line import Cli, one_sentence, refused

NATIVE = fused_modules.modules(1, 2)


def weight_of(flux: nn.Module, parts: tuple[str, ...]) -> Tensor:
    return torch.cat([flux.get_submodule(part).weight for part in parts])


def by_parts(deltas: dict[str, Tensor], flux: nn.Module) -> dict[str, Tensor]:
    """Changes of native weights, by diffusers' modules, with no change of the bias."""
    found = {}
    for native, delta in deltas.items():
        parts = NATIVE[native]
        if native in fused_modules.SWAPPED:
            delta = torch.cat(delta.chunk(2)[::-1])
        sizes = [len(flux.get_submodule(part).weight) for part in parts]
        for part, rows in zip(parts, delta.split(sizes), strict=True):
            found[part] = torch.cat([rows, torch.zeros(len(rows), 1)], dim=1)
    return found


@pytest.mark.parametrize("column", [True, False])
def test_dora_of_native_modules(flux: FluxTransformer2DModel, tmp_path: Path, column: bool) -> None:
    """Each row of W + B A is made as long as its magnitude, in modules that are fused in the file too."""
    updates = drawn(flux)
    state, expected = written("kohya")(updates), {}
    for native, parts in NATIVE.items():
        lengths = [draw(len(updates[part].up_Or)).abs() + 0.5 for part in parts]
        for part, length in zip(parts, lengths, strict=True):
            base = flux.get_submodule(part).weight
            update = updates[part]
            moved = base + update.scale * update.up_Or @ update.down_rI
            change = moved * (length / moved.norm(dim=1))[:, None] - base
            expected[part] = torch.cat([change, torch.zeros(len(change), 1)], dim=1)
        whole = torch.cat(lengths)
        whole = torch.cat(whole.chunk(2)[::-1]) if native in fused_modules.SWAPPED else whole
        key = f"lora_unet_{native.replace('.', '_')}.dora_scale"
        state[key] = whole[:, None].contiguous() if column else whole
    agree(changes(flux, loaded(flux, state, tmp_path)), expected)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lycoris_", "diffusion_model."])
def test_loha(flux: FluxTransformer2DModel, tmp_path: Path, prefix: str) -> None:
    state, deltas = {}, {}
    for native, parts in NATIVE.items():
        outputs, inputs = weight_of(flux, parts).shape
        factors = {
            "w1_a": draw(outputs, 3),
            "w1_b": draw(3, inputs),
            "w2_a": draw(outputs, 3) * 2,
            "w2_b": draw(3, inputs),
        }
        stem = prefix + (native if prefix.endswith(".") else native.replace(".", "_"))
        state |= {f"{stem}.hada_{name}": tensor.clone() for name, tensor in factors.items()}
        state[f"{stem}.alpha"] = torch.tensor(6.0)
        deltas[native] = 2 * (factors["w1_a"] @ factors["w1_b"]) * (factors["w2_a"] @ factors["w2_b"])
    adapted = loaded(flux, state, tmp_path)
    agree(changes(flux, adapted), by_parts(deltas, flux))
    adapters.enable(adapted, ["mine"], [0.5])
    agree(changes(flux, adapted), by_parts({name: delta / 2 for name, delta in deltas.items()}, flux))
    assert adapters.active(adapted) == {"mine": 0.5}
    adapters.eject(adapted, "mine")
    assert adapted.state_dict().keys() == flux.state_dict().keys()


@pytest.mark.parametrize("low", ["", "w2", "w1 and w2"])
def test_lokr(flux: FluxTransformer2DModel, tmp_path: Path, low: str) -> None:
    """Fused modules come apart where the left factor's rows do: q, k, v and the MLP are 7 parts in all."""
    state, deltas = {}, {}
    for native, parts in NATIVE.items():
        outputs, inputs = weight_of(flux, parts).shape
        rows = {1: 2, 3: 12, 4: 28}[len(parts)]
        factors = {"w1": draw(rows, 2), "w2": draw(outputs // rows, inputs // 2)}
        stem = f"diffusion_model.{native}"
        for name in ("w1", "w2"):
            if name in low:
                pair = draw(factors[name].shape[0], 2), draw(2, factors[name].shape[1])
                factors[name] = pair[0] @ pair[1]
                state |= {f"{stem}.lokr_{name}_a": pair[0], f"{stem}.lokr_{name}_b": pair[1]}
            else:
                state[f"{stem}.lokr_{name}"] = factors[name]
        state[f"{stem}.alpha"] = torch.tensor(6.0)
        deltas[native] = (3 if low else 1) * torch.kron(factors["w1"], factors["w2"])
    agree(changes(flux, loaded(flux, state, tmp_path)), by_parts(deltas, flux))


@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
def test_what_peft_saves(flux: FluxTransformer2DModel, tmp_path: Path, kind: str) -> None:
    import peft

    trained = fresh(flux)
    torch.manual_seed(5)
    config = {"LoKr": peft.LoKrConfig, "LoHa": peft.LoHaConfig}[kind](
        r=2,
        alpha=6,
        target_modules=["attn.to_q", "ff.net.2"],
        rank_pattern={"ff.net.2": 40},
        init_weights=False,
    )
    peft.inject_adapter_in_model(config, trained, "default")
    state = peft.get_peft_model_state_dict(trained)
    save_file(
        {f"base_model.model.{k}": t.contiguous() for k, t in state.items()},
        tmp_path / "adapter_model.safetensors",
    )
    config.save_pretrained(tmp_path)
    adapted = fresh(flux)
    adapters.load(adapted, tmp_path, "mine")
    agree(changes(flux, adapted), changes(flux, trained))


def test_kinds_stand_next_to_each_other(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    lora = drawn(flux)
    adapted = loaded(flux, renamed("")(lora), tmp_path)
    alone = changes(flux, adapted)
    loha = {f"proj_out.hada_{name}": draw(*shape) for name, shape in
            (("w1_a", (64, 2)), ("w1_b", (2, 64)), ("w2_a", (64, 2)), ("w2_b", (2, 64)))}  # fmt: skip
    save_file(loha, tmp_path / "loha.safetensors")
    other = fresh(flux)
    adapters.load(other, tmp_path / "loha.safetensors", "loha")
    adapters.load(adapted, tmp_path / "loha.safetensors", "loha")
    adapters.load(adapted, tmp_path / "x.safetensors", "again")
    for names, parts in ((["mine", "loha"], 1), (["mine", "loha", "again"], 2), (["loha"], 0)):
        adapters.enable(adapted, names)
        both = {name: parts * change + changes(flux, other)[name] for name, change in alone.items()}
        agree(changes(flux, adapted), both)
    for name in ("loha", "again", "mine"):
        adapters.eject(adapted, name)
    assert adapted.state_dict().keys() == flux.state_dict().keys()
    assert all(type(module) is nn.Linear for module in map(adapted.get_submodule, linears(flux)))


# --- Refusals ---


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
    "an OFT": ({f"{IN}.oft_blocks": torch.ones(2, 2, 2)}, "is of an OFT"),
    "a BOFT": ({f"{IN}.boft_R": torch.ones(2, 2, 2)}, "is of an OFT"),
    "an IA3": ({f"{IN}.on_input": torch.ones(1), f"{IN}.weight": torch.ones(2)}, "is of an IA3"),
    "a GLoRA": ({f"{IN}.a1.weight": torch.ones(2, 2)}, "is of a GLoRA"),
    "a control LoRA's norms": (ONE | {NORM: torch.ones(4)}, "is of a control LoRA of FLUX.1 Tools"),
    "a control LoRA's input": (
        pair("img_in", 128),
        "x_embedder is 128 to 64, .* a control LoRA of FLUX.1 Tools",
    ),
    "a changed bias": (ONE | {"lora_unet_proj_out.diff_b": torch.ones(64)}, "changes of norms or biases"),
    "a bias of the base": (ONE | {f"{OUT}.bias": torch.ones(64)}, f"{OUT}.bias"),
    "an adapter of another network": (pair("unet.mid"), "no LoRA of FLUX.*unet.mid"),
    "no adapter": ({"x_embedder.weight": torch.ones(2, 2)}, "no LoRA of FLUX.*x_embedder.weight"),
    "two adapters of peft's": (
        ONE | {f"{OUT}.lora_A.b.weight": torch.ones(RANK, 64)},
        "proj_out is there twice",
    ),
    "experts": (ONE | {f"{OUT}.lora_A.expert_0.weight": torch.ones(2, 64)}, "is of a LoRA-MoE"),
    "a DoRA of columns": (ONE | {f"{OUT}.dora_scale": torch.ones(1, 64)}, "scales inputs"),
    "half a DoRA": (
        ONE | TOKENS | {f"{OUT}.lora_magnitude_vector": torch.ones(64)},
        "1 of 2 modules are of a DoRA",
    ),
    "alpha 0": (ONE | {f"{OUT}.alpha": torch.tensor(0.0)}, "alpha 0"),
    "half an XLabs pair": (
        {"double_blocks.0.processor.qkv_lora1.down.weight": torch.ones(4, 64)},
        "does not convert",
    ),
    "an adapter of pictures": (
        {f"double_blocks.{n}.processor.ip_adapter_k.weight": torch.ones(2) for n in (0, 1)},
        r"double_blocks\.0\.processor\.ip_adapter_k\.weight is no part of a LoRA in XLabs",
    ),
    "a LoKr of text encoders": (lokr("lora_te1_text_model", (2, 2), (2, 2)), "no LoKr of FLUX's transformer"),
    "a LoKr that lacks a factor": (lokr(IN, (2, 2)), "img_in of the LoKr lacks lokr_w2_a"),
    "a LoKr of a convolution": (
        lokr("proj_out", (2, 2), (32, 32)) | {"proj_out.lokr_t2": torch.ones(2, 2, 1, 1)},
        "has lokr_t2",
    ),
    "a LoKr that is one": (lokr(QKV, (2, 2), (96, 32)), "this LoKr's product does not come apart"),
    "a LoHa with more": (loha(OUT) | {f"{OUT}.dora_scale": torch.ones(64, 1)}, "is no part of a LoHa"),
    "a LoHa of another width": (loha(OUT, 32), "proj_out is 64 to 32"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_has_no_place_is_named(flux: FluxTransformer2DModel, tmp_path: Path, kind: str) -> None:
    state, words = NAMED[kind]
    save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "x.safetensors")
    adapted = fresh(flux)
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load(adapted, tmp_path / "x.safetensors", "mine")
    one_sentence(str(caught.value))
    assert "x.safetensors" in str(caught.value)
    assert adapted.state_dict().keys() == flux.state_dict().keys()
    with pytest.raises(EditkitError):
        adapters.resume(adapted, tmp_path / "x.safetensors")


CONFIGS = {
    "alpha 0": json.dumps({"lora_alpha": 0}),
    "use_qalora": json.dumps({"lora_alpha": 1, "use_qalora": True}),
    "pissa": json.dumps({"lora_alpha": 1, "init_lora_weights": "pissa_niter_4"}),
    "DoRA": json.dumps({"lora_alpha": 1, "use_dora": True}),
    "as JSON": "{",
    "cannot be read": json.dumps({"lora_alpha": "four"}),
}


@pytest.mark.parametrize("words", CONFIGS)
def test_configs_that_are_not_understood(flux: FluxTransformer2DModel, tmp_path: Path, words: str) -> None:
    save_file(renamed("base_model.model.")(drawn(flux)), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(CONFIGS[words])
    with pytest.raises(EditkitError, match=words) as caught:
        adapters.load(fresh(flux), tmp_path, "mine")
    one_sentence(str(caught.value))


def test_a_folder_with_several_is_asked_for_one(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file(ONE, tmp_path / name)
    with pytest.raises(
        EditkitError, match=r"holds 2 adapter files \(a.safetensors, b.safetensors\); name one"
    ):
        adapters.load(fresh(flux), tmp_path, "mine")


def test_training_goes_on_from_loras_alone(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    save_file(loha(OUT), tmp_path / "x.safetensors")
    adapted = fresh(flux)
    with pytest.raises(EditkitError, match="is no LoRA, so it cannot train on"):
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


@pytest.mark.parametrize("command", ["inspect", "convert", "merge"])
@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
def test_commands_name_what_edits_alone_load(cli: Cli, tmp_path: Path, command: str, kind: str) -> None:
    save_file(loha(OUT) if kind == "LoHa" else lokr(OUT, (2, 2), (32, 32)), tmp_path / "x.safetensors")
    new = tmp_path / "new.safetensors"
    rest = {"inspect": [], "convert": [new, "--to", "kohya"], "merge": [new]}[command]
    refused(
        cli("lora", command, tmp_path / "x.safetensors", *rest),
        "is of a LoKr or LoHa, which edits load alone",
    )
    assert not new.exists()


def test_a_config_beside_the_file_is_part_of_its_digest(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file(ONE, path)
    found = {adapters.digest(tmp_path)}
    assert found == {atomic_files.sha256(path)}
    for alpha in (1, 2):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
        found.add(adapters.digest(path))
    assert len(found) == 3
