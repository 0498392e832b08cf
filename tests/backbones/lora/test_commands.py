"""The commands that inspect, convert and collapse LoRA files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from backbones.lora import dialect_reader, dialect_writer, keys
from editkit import adapters
from methods.icedit import collapse
from tests.backbones.lora.updates import close, deltas, drawn
from tests.command_line import Cli
from tests.random_weights import transformer_config


@pytest.mark.parametrize(
    ("channels", "method"), [(64, "kontext"), (384, "icedit or aceplus"), (448, "aceplus")]
)
@pytest.mark.parametrize("dialect", keys.DIALECTS)
def test_inspect(cli: Cli, tmp_path: Path, channels: int, method: str, dialect: str) -> None:
    flux = FluxTransformer2DModel.from_config(transformer_config(channels))
    updates = drawn(flux)
    state, about = dialect_writer.to_dialect(updates, dialect)
    state["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.ones(1, 1)
    save_file(state, tmp_path / "some.safetensors", about)
    run = cli("lora", "inspect", tmp_path / "some.safetensors", "--json")
    assert (run.status, run.err) == (0, "")
    found = json.loads(run.out)
    assert (found["dialect"], found["method"], found["width"]) == (dialect, method, 64)
    assert found["x_embedder"] == channels
    assert found["modules"] == found["possible"] == len(updates)
    assert found["ranks"] == {"4": len(updates)}
    assert found["alphas"] == {"4.0": len(updates)}
    assert sum(found["kinds"].values()) == len(updates)
    assert len(found["unplaced"]) == 1
    run = cli("lora", "inspect", tmp_path / "some.safetensors")
    assert f"dialect   {dialect}\n" in run.out
    assert f"method    {method}\n" in run.out
    assert "unloaded  1 tensors (lora_te1_" in run.out


def test_inspect_of_experts(cli: Cli, moe: Path) -> None:
    run = cli("lora", "inspect", moe)
    assert run.status == 0, run.err
    assert "method    icedit (LoRA-MoE)" in run.out
    assert "3 of rank 4, alpha 8, on 3 more modules; top-k 2, router paper" in run.out
    alone = {key: tensor for key, tensor in load_file(moe).items() if "expert" in key or "route" in key}
    save_file(alone, moe)
    found = json.loads(cli("lora", "inspect", moe, "--json").out)
    assert (found["modules"], found["width"], found["experts"]["modules"]) == (0, 64, 3)


@pytest.mark.parametrize("dialect", keys.DIALECTS)
def test_convert(cli: Cli, plain: Path, tmp_path: Path, dialect: str) -> None:
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    run = cli("lora", "convert", plain, there, "--to", dialect)
    assert (run.status, run.out, run.err) == (0, f"{there}\n", "")
    assert dialect_reader.detect_dialect(load_file(there)) == dialect
    assert cli("lora", "convert", there, back, "--to", "diffusers").status == 0
    close(
        deltas(dialect_reader.read_in_diffusers_names(*adapters.read_adapter(back)).updates),
        deltas(dialect_reader.read_lora(*adapters.read_adapter(plain)).updates),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in (plain, there, back))


def test_text_encoders_are_left_out_aloud(cli: Cli, plain: Path, tmp_path: Path) -> None:
    state, about = adapters.read_adapter(plain)
    save_file(state | {"text_encoder.x.lora_A.weight": torch.ones(1, 1)}, plain, about)
    run = cli("lora", "convert", plain, tmp_path / "new.safetensors", "--to", "kohya")
    assert run.status == 0
    assert run.err.startswith("note: 1 tensors of text encoders were left out, such as text_encoder.x")


@pytest.mark.parametrize("way", collapse.WAYS)
def test_collapse(cli: Cli, moe: Path, tmp_path: Path, way: str) -> None:
    state, _ = adapters.read_adapter(moe)
    modules = [key[12:-18] for key in state if key.endswith(".lora_route.weight")]
    weights = {name: [0.5, 0.25, 0.25] for name in modules}
    (tmp_path / "routing.json").write_text(json.dumps(weights))
    new = tmp_path / "new.safetensors"
    run = cli("lora", "collapse", moe, new, "--way", way, "--weights", tmp_path / "routing.json")
    assert run.status == 0
    assert "each token uses 2 experts" in run.err
    wanted = collapse.collapse(state, way=way, weights=weights, scale=2.0)
    assert 0 < wanted.error < 1.5
    assert f"mean relative error {wanted.error:.4f} over 3 modules" in run.out
    worst = max(wanted.errors, key=lambda name: wanted.errors[name])
    assert f"worst {wanted.errors[worst]:.4f} at {worst}" in run.out
    found = dialect_reader.read_in_diffusers_names(*adapters.read_adapter(new))
    assert not found.unplaced
    assert found.updates["x_embedder"].scale == 2
    assert {found.updates[name].scale for name in modules} == {1.0}
    for name in modules:
        assert torch.equal(found.updates[name].up_Or, wanted.state[f"transformer.{name}.lora_B.weight"])
    transformer = FluxTransformer2DModel.from_config(transformer_config(384))
    adapters.load_adapter(transformer, new, "plain")
    assert transformer.x_embedder.scaling["plain"] == 2
    assert transformer.transformer_blocks[0].ff.net[2].scaling["plain"] == 1


def test_collapse_to_a_higher_rank_is_exact(cli: Cli, moe: Path, tmp_path: Path) -> None:
    """One expert a module loses nothing; more ranks lose less."""
    errors = []
    for rank in (1, 4, 12):
        run = cli("lora", "collapse", moe, tmp_path / "new.safetensors", "--rank", rank)
        errors.append(float(run.out.split("mean relative error ")[1].split()[0]))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    updates = dialect_reader.read_in_diffusers_names(
        *adapters.read_adapter(tmp_path / "new.safetensors")
    ).updates
    assert updates["transformer_blocks.0.ff.net.2"].rank == 12
