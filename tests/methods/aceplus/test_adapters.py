"""ACE++'s released adapters, and which of them a request uses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor

from backbones.lora import dialect_writer
from backbones.lora.low_rank import LowRankUpdate
from backbones.specs import PUBLISHED_SHAPE
from editkit import EditkitError, adapters, config
from editkit.errors import NoAdapterError
from editkit.types import EditRequest
from methods.aceplus import METHOD
from methods.aceplus.config import RELEASED
from tests.random_weights import transformer_config

FULL_SIZE = PUBLISHED_SHAPE | {"in_channels": 448, "out_channels": 64, "guidance_embeds": True}


def test_which_adapter_a_request_uses() -> None:
    def chosen(backbone: str | None, request: EditRequest, **options: Any) -> str | None:
        return METHOD.adapter(config.build(METHOD.config, options), backbone, request)

    alone = EditRequest(image="a.png", instruction="x")
    subject = EditRequest(image=None, instruction="x", references=["a.png"])
    portrait = dataclasses.replace(subject, task="portrait")
    assert chosen("flux1-dev", alone) == RELEASED["local"]
    assert chosen("flux1-dev", subject) == RELEASED["subject"]
    assert chosen("flux1-dev", portrait) == RELEASED["portrait"]
    assert chosen("flux1-dev", alone, adapter="portrait") == RELEASED["portrait"]
    assert chosen("flux1-dev", alone, adapter=None) is None
    assert chosen("flux1-dev", alone, model="full") is None
    assert chosen("tiny", subject, model="full") == chosen("tiny", alone, model="full")
    assert str(chosen("tiny", alone, model="full")).endswith("tiny/full")
    with pytest.raises(NoAdapterError, match="no adapter for this backbone"):
        chosen(None, alone)
    assert chosen(None, alone, adapter="mine.safetensors") == "mine.safetensors"
    assert chosen("flux1-dev", alone, model="full", adapter="portrait") == RELEASED["portrait"]
    for misspelt in ("full", "locl"):
        words = rf"adapter {misspelt} is neither one for flux1-dev \(local, subject, portrait\) nor"
        with pytest.raises(EditkitError, match=words):
            chosen("flux1-dev", alone, adapter=misspelt)


def kohya(transformer: Any, rank: int, seed: int = 0) -> dict[str, Tensor]:
    """A LoRA in the released layout for a small transformer, half of it with alpha other than the rank."""

    generator = torch.Generator().manual_seed(seed)
    linears = {
        name: module
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "blocks" in name
    }
    updates = {
        name: LowRankUpdate(
            down_rI=torch.randn(rank, module.in_features, generator=generator) * 0.1,
            up_Or=torch.randn(module.out_features, rank, generator=generator) * 0.1,
            alpha=float(rank) * (1 + number % 2) / 2,
        )
        for number, (name, module) in enumerate(linears.items())
    }
    return dialect_writer.to_dialect(updates, "kohya")[0]


def test_released_layout_loads_and_counts(tmp_path: Path) -> None:
    transformer = FluxTransformer2DModel.from_config(transformer_config(384))
    state = kohya(transformer, 4)
    # As released: whole blocks, q, k and v fused, modulation too, and nothing outside the blocks.
    stems = {key.split(".", 1)[0] for key in state}
    assert {"lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_1_modulation_lin"} <= stems
    path = tmp_path / "comfyui_subject_lora16.safetensors"
    save_file(state, path)
    before = transformer.state_dict()["transformer_blocks.0.attn.to_k.weight"].clone()
    adapters.load_adapter(transformer, path, "subject")
    layer = transformer.transformer_blocks[0].attn.to_k
    down, up = layer.lora_A["subject"].weight, layer.lora_B["subject"].weight
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    fused = state[f"{stem}.lora_up.weight"] @ state[f"{stem}.lora_down.weight"]
    scale = layer.scaling["subject"]
    wanted = fused[64:128] * state[f"{stem}.alpha"] / len(state[f"{stem}.lora_down.weight"])
    assert torch.allclose(up @ down * scale, wanted, atol=1e-5)
    adapters.eject(transformer, "subject")
    assert torch.equal(transformer.state_dict()["transformer_blocks.0.attn.to_k.weight"], before)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_every_tensor_of_a_released_file_is_placed_at_full_size() -> None:
    from backbones.lora import dialects
    from tests.released_adapters import ace

    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(FULL_SIZE | {"in_channels": 384})
    for rank in (16, 64):
        released = ace(rank)
        state, about = dialects.convert_to_diffusers(released, {})
        assert len(released) == 912
        assert len(state) == 988
        transformer.load_lora_adapter(
            state,
            prefix="transformer",
            adapter_name=f"rank{rank}",
            metadata=json.loads(about.get("lora_adapter_metadata", "null")),
            low_cpu_mem_usage=True,  # so that what lies on the meta device is taken as it is
        )
        held = [m for m in adapters.layers(transformer) if f"rank{rank}" in m.r]
        assert len(held) == 494
        assert {m.r[f"rank{rank}"] for m in held} == {rank}
        assert {m.scaling[f"rank{rank}"] for m in held} == {1.0}


def test_whole_input_layer_by_rank() -> None:
    transformer = FluxTransformer2DModel.from_config(transformer_config(448))
    options = adapters.LoraOptions(rank=4, targets=("x_embedder", "attn.to_q"), ranks={"x_embedder": 64})
    adapters.attach(transformer, options)
    layer = transformer.x_embedder
    assert layer.r["default"] == 64  # as many as the layer has outputs: any update at all
    assert layer.scaling["default"] == transformer.transformer_blocks[0].attn.to_q.scaling["default"] == 1
    adapters.eject(transformer, "default")
    for misspelt in ({"embedder": 64}, {"proj_mlp": 8}):
        with pytest.raises(EditkitError, match=r"which lora\.targets does not"):
            adapters.attach(transformer, dataclasses.replace(options, ranks=misspelt))
    with pytest.raises(EditkitError, match=r"lora.ranks.x_embedder must be at least 1"):
        config.build(adapters.LoraOptions, {"ranks": {"x_embedder": 0}})
