"""Adapters that are no plain LoRA: DoRA, LoKr and LoHa count whole, other kinds are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.lora import fused_modules
from editkit import adapters
from tests.backbones.lora.effects import agree, changes, draw, fresh, linears, loaded, renamed, written
from tests.backbones.lora.updates import drawn

NATIVE = fused_modules.module_map(1, 2)


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
    adapters.load_adapter(adapted, tmp_path, "mine")
    agree(changes(flux, adapted), changes(flux, trained))


def test_kinds_stand_next_to_each_other(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    lora = drawn(flux)
    adapted = loaded(flux, renamed("")(lora), tmp_path)
    alone = changes(flux, adapted)
    loha = {f"proj_out.hada_{name}": draw(*shape) for name, shape in
            (("w1_a", (64, 2)), ("w1_b", (2, 64)), ("w2_a", (64, 2)), ("w2_b", (2, 64)))}  # fmt: skip
    save_file(loha, tmp_path / "loha.safetensors")
    other = fresh(flux)
    adapters.load_adapter(other, tmp_path / "loha.safetensors", "loha")
    adapters.load_adapter(adapted, tmp_path / "loha.safetensors", "loha")
    adapters.load_adapter(adapted, tmp_path / "x.safetensors", "again")
    loha_alone = changes(flux, other)
    for names, parts in ((["mine", "loha"], 1), (["mine", "loha", "again"], 2), (["loha"], 0)):
        adapters.enable(adapted, names)
        both = {name: parts * change + loha_alone[name] for name, change in alone.items()}
        agree(changes(flux, adapted), both)
    for name in ("loha", "again", "mine"):
        adapters.eject(adapted, name)
        assert not adapters.active(adapted)  # where one goes that was active, no other takes its place
    assert adapted.state_dict().keys() == flux.state_dict().keys()
    assert all(type(module) is nn.Linear for module in map(adapted.get_submodule, linears(flux)))
