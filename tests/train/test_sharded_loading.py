"""Weights that are read in shards: none of the processes holds them whole, and training is the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backbones.conversion.checkpoints import convert
from editkit import adapters
from tests import ROOT
from tests.random_weights import transformer_config
from tests.train.launched import ALONE, IN_SHARDS, run
from tests.weight_files import comfy_hints, write

PARTS = "diffusion_pytorch_model-*.safetensors"
LOADING = (*IN_SHARDS[:-1], str(ROOT / "tests" / "train" / "sharded_loading_run.py"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora", "start", "native"])
def test_a_process_reads_its_shard_and_no_more(tmp_path: Path, kind: str) -> None:
    """A model of 0.5 GB in files of 50 MB: memory grows by 1.2 of a shard and a file at most.

    So it does where a single file holds all of them under Black Forest Labs' names.
    """
    from diffusers import FluxTransformer2DModel

    config = transformer_config() | {"num_layers": 2, "num_single_layers": 6, "attention_head_dim": 64}
    config |= {"num_attention_heads": 12, "axes_dims_rope": [16, 24, 24]}
    made = FluxTransformer2DModel.from_config(config)
    size = sum(p.numel() * 4 for p in made.parameters())
    made.save_pretrained(tmp_path, max_shard_size="50MB")
    del made
    path = tmp_path
    if kind == "native":
        path, kind = convert(tmp_path, tmp_path / "native.safetensors"), "full"
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [*LOADING, str(path), kind],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    found = re.findall(r"shard (\d+) grown (\d+)", told.stdout)
    assert len(found) == 2, told.stdout + told.stderr
    file = max(path.stat().st_size for path in tmp_path.glob(PARTS))
    for shard, grown in found:
        assert int(shard) == pytest.approx(size / 2, rel=0.02)
        assert int(grown) <= 1.2 * (int(shard) + file)


CASES = {
    "full": ("trainable=full",),
    "lora": ("trainable=lora", "lora.rank=4"),
    "start": ("trainable=full", "method=icedit", "start=kontext"),
    "native": ("trainable=input", "load.axes=[8,12,12]"),
    "scaled": ("trainable=lora", "lora.rank=4", "load.axes=[8,12,12]"),
    "dora": ("trainable=lora",),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_training_from_files_in_shards_is_training_in_one_process(
    random_pipeline: Path, parts: tuple[str, str], tmp_path: Path, case: str
) -> None:
    backbone = "tiny" if case == "start" else random_pipeline
    settings = (f"backbone={backbone}", "fit.steps=2", *CASES[case])
    if case in ("native", "scaled"):
        file = convert(random_pipeline / "transformer", tmp_path / "native.safetensors")
        if case == "scaled":
            file = write(comfy_hints(load_file(file)), tmp_path / "scaled.safetensors")
        settings = (*settings, f"load.transformer={file}")
    if case == "dora":
        saved = saved_dora(random_pipeline / "transformer", tmp_path / "dora")
        settings = (*settings, f"adapter={saved}", "fit.save_every=1")
    one, two = tmp_path / "one", tmp_path / "two"
    losses = run(IN_SHARDS, two, parts, *settings, "fit.batch=4")
    assert losses == pytest.approx(run(ALONE, one, parts, *settings), abs=1e-4)
    assert torch.isfinite(torch.tensor(list(losses.values()))).all()
    if case == "dora":  # from its checkpoint, too
        for late in (two / "checkpoint-0000002", two / "export"):
            shutil.rmtree(late)
        resumed = run(IN_SHARDS, two, parts, *settings, "fit.batch=4", "fit.resume=latest")
        assert resumed == pytest.approx(losses, abs=1e-4)
    for file in ("weights.safetensors", "ema.safetensors"):
        folder = "checkpoint-0000002"
        assert_close(load_file(two / folder / file), load_file(one / folder / file))
    assert_close(exported(two), exported(one))


def saved_dora(transformer: Path, folder: Path) -> Path:
    """A DoRA with an effect, as an earlier run exported it."""
    from diffusers import FluxTransformer2DModel

    made = FluxTransformer2DModel.from_pretrained(transformer)
    adapters.attach(made, adapters.LoraOptions(rank=4, dora=True))
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif ".lora_magnitude_vector." in name:
            parameter.data *= 1.1
    return adapters.save(made, folder)


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Compare weights; those that were rounded to bf16 may be neighbours there."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        step = torch.finfo(tensor.dtype).eps
        assert torch.allclose(ours[name].float(), tensor.float(), rtol=step, atol=1e-4), name


def exported(output: Path) -> dict[str, torch.Tensor]:
    """The weights that a run exported."""
    (file,) = (
        path
        for path in (output / "export").rglob("*.safetensors")
        if path.parent.name in ("export", "transformer")
    )
    return load_file(file)
