"""Weights in few bits, in bf16 and in shards."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from backbones import devices
from backbones.conversion import state_dict
from editkit import EditkitError, adapters, config
from editkit.errors import EditkitWarning
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests.random_weights import quantize
from tests.train.runs import RECOLOUR, losses, train
from tests.weight_files import comfy_hints, write


@pytest.mark.parametrize("start", [None, "text"])
@pytest.mark.parametrize("shards", [False, True])
def test_in_shards_no_device_holds_the_whole_transformer(
    start: str | None, shards: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("meta"))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(shards).lower())
    job = object.__new__(EditJob)
    job.config = replace(settings("run"), fresh={}, start=start)
    job.role = "fill" if start else "kontext"
    transformer = job._backbone().transformer(job.role)
    # Training in shards builds on the meta device, and each process reads its rows from the files.
    assert transformer.device.type == "meta"


@pytest.mark.parametrize(
    ("chosen", "empty"),
    [
        ({"trainable": "lora"}, False),
        ({"trainable": "lora", "adapter": "saved"}, True),
        ({"trainable": "input"}, True),
        ({"trainable": "full"}, True),
    ],
)
def test_a_new_dora_alone_needs_all_values(
    chosen: dict[str, str], empty: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    job = object.__new__(EditJob)
    job.config = replace(settings("run", "lora.dora=true"), fresh={}, start=None, **chosen)
    job.role = "kontext"
    weight = job._backbone().transformer(job.role).x_embedder.weight
    assert weight.is_meta == empty


@pytest.mark.parametrize(
    ("case", "reason"), [("dora", "a new DoRA needs all values"), ("scaled", "its weights are quantized")]
)
def test_weights_that_every_process_reads_whole_are_noted(
    case: str, reason: str, settings: Any, random_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    chosen = settings("run", "data.count=1", f"lora.dora={case == 'dora'}", trainable="lora")
    chosen = replace(chosen, fresh={}, backbone=str(random_pipeline))
    if case == "scaled":
        (source,) = (random_pipeline / "transformer").glob("*.safetensors")
        native = state_dict.diffusers_to_native({n: t.float() for n, t in load_file(source).items()})
        file = write(comfy_hints(native), Path(chosen.fit.output).parent / "scaled.safetensors")
        chosen = replace(chosen, load={"transformer": str(file), "axes": [8, 12, 12]})
    with pytest.warns(EditkitWarning, match=f"Every process reads the whole transformer .*{reason}"):
        job = EditJob(chosen)
    assert not any(p.is_meta for p in job.objective.parameters())


def test_the_input_layer_alone_trains_of_a_fresh_backbone_too(settings: Any) -> None:
    job = EditJob(settings("run", "data.count=1", trainable="input"))
    trained = {name for name, p in job.objective.named_parameters() if p.requires_grad}
    assert trained == {"transformer.x_embedder.weight", "transformer.x_embedder.bias"}


def test_a_lora_over_a_quantized_base(settings: Any, random_pipeline: Path) -> None:
    pytest.importorskip("torchao", reason="an extra that prints about GPUs wherever there is none")
    quantization = {"type": "TorchAoConfig", "quant_type": "Int8WeightOnlyConfig"}
    chosen = settings("run", "data.count=8", "fit.precision=bf16", "lora.rank=2", trainable="lora")
    job, output = train(
        dataclasses.replace(
            chosen,
            backbone=str(random_pipeline),
            fresh={},
            dtype="bfloat16",
            load={"quantization": quantization},
        )
    )
    layer = job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q
    assert type(layer.base_layer.weight.data) is not Tensor
    assert layer.lora_B["default"].weight.abs().max() > 0
    assert {t.dtype for t in load_file(output / "export" / adapters.FILE).values()} == {torch.float32}


class OverFourBits(EditJob):
    """A job whose backbone is in 4 bits, which diffusers' own loading refuses to make without a GPU."""

    def _backbone(self) -> Any:
        loaded = super()._backbone()
        quantize(loaded.transformer(self.role), 4)
        return loaded


def test_a_lora_over_a_base_of_4_bits(settings: Any) -> None:
    few = ("data.count=1", "fit.steps=1", "fit.batch=1", "fit.precision=bf16", "dtype=bfloat16")
    chosen = settings("run", *few, trainable="lora")
    job = OverFourBits(replace(chosen, fresh={}, lora=replace(chosen.lora, rank=2)))
    packed = {name: p.clone() for name, p in job.objective.named_parameters() if p.dtype == torch.uint8}
    assert packed
    fit(job, chosen.fit)
    layer = job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q
    assert layer.lora_B["default"].weight.abs().max() > 0
    after = dict(job.objective.named_parameters())
    assert all(torch.equal(packed[name], after[name]) for name in packed)
    assert all(map(math.isfinite, losses(Path(chosen.fit.output)).values()))


def test_what_trains_is_float32_over_a_bfloat16_base(settings: Any) -> None:
    few = ("fit.steps=1", "fit.batch=1", "fit.precision=bf16")
    plain = dataclasses.asdict(settings("low", *few, trainable="lora"))
    plain |= {"fresh": {}, "dtype": "bfloat16", "data": {"count": 1, "kinds": RECOLOUR}}
    chosen = config.build(EditTrainConfig, plain)
    job = EditJob(chosen)
    fit(job, chosen.fit)
    kinds = {p.requires_grad: set() for p in job.objective.parameters()}
    for parameter in job.objective.parameters():
        kinds[parameter.requires_grad].add(parameter.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}
    with pytest.raises(EditkitError, match="dtype=bfloat16 needs trainable=lora or input"):
        settings("full", "dtype=bfloat16", "fit.precision=bf16")
