"""Weights that are read in shards: none of the processes holds them whole, and training is the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import ROOT
from tests.random_weights import transformer_config
from tests.train.launched import ALONE, IN_SHARDS, run

LOADING = (*IN_SHARDS[:-1], str(ROOT / "tests" / "train" / "sharded_loading_run.py"))


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_a_process_reads_its_shard_and_no_more(tmp_path: Path, trainable: str) -> None:
    """A model of 0.5 GB in files of 50 MB: memory grows by 1.2 of a shard and a file at most."""
    from diffusers import FluxTransformer2DModel

    config = transformer_config() | {"num_layers": 2, "num_single_layers": 6, "attention_head_dim": 64}
    config |= {"num_attention_heads": 12, "axes_dims_rope": [16, 24, 24]}
    made = FluxTransformer2DModel.from_config(config)
    size = sum(p.numel() * 4 for p in made.parameters())
    made.save_pretrained(tmp_path, max_shard_size="50MB")
    del made
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [*LOADING, str(tmp_path), trainable],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    found = re.findall(r"shard (\d+) grown (\d+)", told.stdout)
    assert len(found) == 2, told.stdout + told.stderr
    file = max(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    for shard, grown in found:
        assert int(shard) == pytest.approx(size / 2, rel=0.02)
        assert int(grown) <= 1.2 * (int(shard) + file)


CASES = {
    "full": ("trainable=full",),
    "lora": ("trainable=lora", "lora.rank=4"),
    "start": ("trainable=full", "method=icedit", "start=kontext"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_training_from_files_in_shards_is_training_in_one_process(
    random_pipeline: Path, parts: tuple[str, str], tmp_path: Path, case: str
) -> None:
    backbone = "tiny" if case == "start" else random_pipeline
    settings = (f"backbone={backbone}", "fit.steps=2", *CASES[case])
    one = run(ALONE, tmp_path / "one", parts, *settings)
    two = run(IN_SHARDS, tmp_path / "two", parts, *settings, "fit.batch=4")
    assert two == pytest.approx(one, abs=1e-4)
    assert torch.isfinite(torch.tensor(list(two.values()))).all()
    ours, theirs = (exported(tmp_path / name) for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)


def exported(output: Path) -> dict[str, torch.Tensor]:
    """The weights that a run exported."""
    (file,) = (
        path
        for path in (output / "export").rglob("*.safetensors")
        if path.parent.name in ("export", "transformer")
    )
    return load_file(file)
