"""Behaviour: quantized networks go with other options, with a wider input, and with LoRAs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from diffusers import FluxTransformer2DModel

from backbones.conversion import state_dict
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer, place_transformer
from backbones.widening import widen_transformer
from editkit import adapters, config
from editkit.adapters import LoraOptions
from editkit.errors import EditkitError
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests.backbones.files.networks import AXES, apart, loaded, predict
from tests.random_weights import transformer_config
from tests.weight_files import (
    SPELLINGS,
    State,
    comfy_hints,
    write,
    write_gguf,
)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        *(({"offload": "leaf"}, kind) for kind in ("fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF")),
        ({"offload": "block"}, "NF4"),
        ({"attention": "native"}, "GGUF"),
    ],
)
def test_other_options_go_with_quantized_files(
    kind: str, options: dict[str, Any], native: State, tmp_path: Path
) -> None:
    if kind == "GGUF":
        file, _ = write_gguf(native, "Q8_0", tmp_path / "flux.gguf")
    else:
        file = write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors")
    made = loaded(file)
    before = predict(made)
    after = predict(place_transformer(made, torch.device("cpu"), LoadOptions(**options)))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF"])
def test_a_quantized_fill_becomes_ace(kind: str, tmp_path: Path) -> None:
    """Behind a wider input, with the same quantized layers in memory."""
    fill = FluxTransformer2DModel.from_config(transformer_config(384))
    native = state_dict.diffusers_to_native({n: t.detach() for n, t in fill.state_dict().items()})
    if kind == "GGUF":
        file, _ = write_gguf(native, "Q8_0", tmp_path / "fill.gguf")
    else:
        file = write(SPELLINGS[kind][0](native), tmp_path / "fill.safetensors")
    made = loaded(file)
    wide = widen_transformer(made, 448)
    tokens = torch.randn(1, 12, 384)
    padded = torch.cat([tokens[..., :128], torch.zeros(1, 12, 64), tokens[..., 128:]], -1)
    layers = made.x_embedder(tokens), wide.x_embedder(padded)
    assert torch.allclose(*layers, atol=1e-5)
    assert wide.transformer_blocks[0].ff.net[2].weight is made.transformer_blocks[0].ff.net[2].weight


def test_loras_run_over_quantized_weights(native: State, random_flux: Any, tmp_path: Path) -> None:
    """An adapter's own numbers stay what they were, whatever the weights under it are stored as."""
    for kind in ("fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF"):
        if kind == "GGUF":
            file, _ = write_gguf(native, "Q8_0", tmp_path / "flux.gguf")
        else:
            file = write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors")
        made = loaded(file)
        before = predict(made)
        adapters.attach(made, LoraOptions(rank=2, targets=("attn.to_q", "ff.net.2")), "one")
        assert apart(predict(made), before) < 1e-4, kind  # a new adapter does nothing
        layer = made.transformer_blocks[0].attn.to_q
        torch.nn.init.normal_(layer.lora_B["one"].weight)
        assert layer.lora_A["one"].weight.dtype == torch.float32
        assert len(layer.lora_A["one"].weight.unique()) > 100, kind
        assert apart(predict(made), before) > 1e-3


@pytest.mark.parametrize("kind", ["NF4", "NF4, double", "FP4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_that_comes_after_an_edit_does_what_it_does_before_one(
    kind: str, dtype: torch.dtype, wide_native: State, tmp_path: Path
) -> None:
    """Some CPUs pack 4 bits again in the first forward pass; blocks here differ in their scales."""
    uneven = torch.tensor([1.0, 8.0, 0.25, 2.0]).repeat_interleave(64)
    state = {n: t * uneven if t.ndim == 2 and t.shape[1] == 256 else t for n, t in wide_native.items()}
    file = write(SPELLINGS[kind][0](state), tmp_path / "flux.safetensors")
    edited, new = (
        load_transformer(LoadOptions(transformer=file, axes=AXES), "kontext", Path, dtype) for _ in range(2)
    )
    adapters.attach(new, LoraOptions(rank=2), "default")
    for layer in adapters.layers(new):
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    saved = adapters.save(new, tmp_path / "saved")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        wanted, before = predict(new), predict(edited)
        adapters.load_adapter(edited, saved, "default")
        assert apart(predict(edited), wanted) < 1e-5
        adapters.enable(edited, [], None)
        assert apart(predict(edited), before) < 1e-5


@pytest.mark.parametrize("kind", ["fp8 scaled, hints", "NVFP4, ComfyUI", "GGUF"])
def test_a_dora_needs_values_that_it_can_read(
    kind: str, native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """A new one and a saved one, over weights that only their own layers dequantize."""
    if kind == "GGUF":
        file, _ = write_gguf(native, "Q8_0", tmp_path / "flux.gguf")
    else:
        file = write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors")
    made, options = loaded(file), LoraOptions(rank=2, dora=True)
    why = r"A DoRA reads the values of weights, but the weight of transformer_blocks\.0\..* is packed"
    with pytest.raises(EditkitError, match=why):
        adapters.attach(made, options, "new")
    whole = FluxTransformer2DModel.from_config(plain.config)
    adapters.attach(whole, options)
    saved = adapters.save(whole, tmp_path / "saved")
    with pytest.raises(EditkitError, match=why):
        adapters.load_adapter(made, saved, "saved")
    assert not getattr(made, "peft_config", {})
    adapters.attach(made, LoraOptions(rank=2, dora=True, targets=("x_embedder",)), "input")
    beside = LoraOptions(rank=2, dora=True, targets=("x_embedder", "to_q"), exclude=r".*\.to_q")
    adapters.attach(made, beside, "beside")
    with pytest.raises(EditkitError, match=why):
        adapters.attach(made, replace(beside, exclude=r"transformer_blocks\.[1-9].*"), "some")


@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
def test_a_lokr_needs_weights_in_their_shapes(
    kind: str, native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    names = {"LoKr": ("lokr_w1", "lokr_w2"), "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")}[
        kind
    ]
    rows, columns = plain.transformer_blocks[0].attn.to_q.weight.shape
    sizes = {"LoKr": ((1, 1), (rows, columns)), "LoHa": ((rows, 1), (1, columns)) * 2}[kind]
    stem = "diffusion_model.transformer_blocks.0.attn.to_q."
    state = {stem + name: torch.randn(size) for name, size in zip(names, sizes, strict=True)}
    file = write((state, {}), tmp_path / "adapter.safetensors")
    for packed in ("NVFP4, ComfyUI", "NF4"):
        made = loaded(write(SPELLINGS[packed][0](native), tmp_path / "flux.safetensors"))
        with pytest.raises(
            EditkitError, match=rf"A {kind} needs weights in their own shapes, .*to_q is packed"
        ):
            adapters.load_adapter(made, file, "mine")
    made = loaded(write_gguf(native, "Q8_0", tmp_path / "flux.gguf")[0])
    with pytest.raises(EditkitError, match=r"the weight of .*to_q is packed"):
        adapters.load_adapter(made, file, "mine")
    assert not getattr(made, "peft_config", {})
    made = loaded(write(SPELLINGS["fp8 scaled, hints"][0](native), tmp_path / "flux.safetensors"))
    before = predict(made)
    adapters.load_adapter(made, file, "mine")
    assert apart(predict(made), before) > 1e-3


@pytest.mark.parametrize("kind", ["NF4", "GGUF"])
def test_a_dora_begins_from_the_norms_of_weights_that_can_be_read(
    kind: str, native: State, tmp_path: Path
) -> None:
    """4 bits of bitsandbytes, and GGUF's half precision, which is kept plain."""
    if kind == "GGUF":
        file, _ = write_gguf(native, "F16", tmp_path / "flux.gguf")
        made = loaded(file)
        norms = made.transformer_blocks[0].attn.to_q.weight.norm(dim=1)
    else:
        made = loaded(write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors"))
        layer = made.transformer_blocks[0].attn.to_q.weight
        norms = bitsandbytes.functional.dequantize_4bit(layer.data, layer.quant_state).norm(dim=1)
    adapters.attach(made, LoraOptions(rank=2, dora=True), "one")
    magnitudes = made.transformer_blocks[0].attn.to_q.lora_magnitude_vector["one"].weight
    torch.testing.assert_close(magnitudes.float(), norms.float())


def test_quantized_weights_carry_a_lora_and_do_not_train_themselves(
    native: State, random_pipeline: Path, tmp_path: Path
) -> None:
    file = write(comfy_hints(native), tmp_path / "flux.safetensors")
    told: dict[str, Any] = {"backbone": str(random_pipeline), "data": {"count": 2}, "cache": str(tmp_path)}
    told |= {"load": {"transformer": str(file), "axes": AXES}, "lora": {"rank": 2}}
    with pytest.raises(EditkitError, match="Quantized weights cannot train; take others, or trainable=lora"):
        EditJob(config.build(EditTrainConfig, told | {"trainable": "full"}))
    settings = config.build(
        EditTrainConfig, told | {"trainable": "lora", "fit": {"steps": 1, "output": str(tmp_path / "run")}}
    )
    job = EditJob(settings)
    fit(job, settings.fit)
    assert job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q.lora_B["default"].weight.any()
