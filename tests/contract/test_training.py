"""Every method trains, resumes, and its adapter loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import editkit
from backbones.specs import FAMILIES
from editkit import adapters, config, registry
from editkit.method import Method
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.command_line import copied
from tests.contract.asked import USUAL, WORDS, named
from tests.pictures import difference, image
from tests.random_weights import CLIP, LETTERS, T5, transformer_config


def settings(
    case: tuple[Method, dict[str, Any]], role: str, vae: Path, folder: Path, *overrides: str
) -> EditTrainConfig:
    """A LoRA of a few steps on a new backbone of random weights, always the same ones."""
    method, options = case
    channels = FAMILIES["tiny"].roles[role].in_channels
    values = {
        "method": method.name,
        "options": options,
        "fresh": {
            "vae": str(vae),
            "words": str(ROOT / "configs" / "tiny" / "words.txt"),
            "letters": LETTERS,
            "transformer": transformer_config(channels),
            "clip": CLIP,
            "t5": T5,
        },
        "lora": {"rank": 2},
        "cache": str(folder.parent / "latents"),
        "data": {"count": 8, "kinds": {"recolour": 1.0}},
        "fit": {
            "output": str(folder),
            "steps": 2,
            "batch": 4,
            "precision": "fp32",
            "device": "cpu",
            "save_every": 1,
            "optim": {"lr": 0.01},
        },
    }
    return config.build(EditTrainConfig, values, overrides)


TRAINED_WAYS: dict[str, list[dict[str, Any]]] = {
    "kontext": [{"context": "cached"}],
    "aceplus": [{"model": "full", "layout": "sequence"}],
    "icedit": [
        {"moe": {"experts": 2, "rank": 2, "balance": 0.1}},
        {"moe": {"experts": 2, "rank": 2}, "context": "cached"},
    ],
}
"""Options under which a method trains something else."""


@pytest.mark.filterwarnings("ignore:context=cached spoils the picture")  # which is compared with itself alone
@pytest.mark.parametrize(
    "case",
    [*USUAL, *((registry.method(name), way) for name, ways in TRAINED_WAYS.items() for way in ways)],
    ids=named,
)
def test_trained_saved_resumed_loaded(
    case: tuple[Method, dict[str, Any]], role: str, vae: Path, tmp_path: Path
) -> None:
    method, options = case
    straight = settings(case, role, vae, tmp_path / "straight")
    fit(EditJob(straight), straight.fit)
    copied(tmp_path / "straight" / "checkpoint-0000001", tmp_path / "stopped" / "checkpoint-0000001")
    stopped = settings(case, role, vae, tmp_path / "stopped", "fit.resume=latest")
    fit(EditJob(stopped), stopped.fit)
    files = [tmp_path / name / "export" / adapters.FILE for name in ("straight", "stopped")]
    states = [load_file(path) for path in files]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(tensor.abs().sum() > 0 for key, tensor in states[0].items() if ".lora_B" in key)

    editor = editkit.Editor(EditJob(straight).backbone, {method.name: options})
    editor.use_adapters([], method=method.name)  # a method's default adapter is not for random weights

    def edited() -> Image.Image:
        return editor.edit(image(64, 64), WORDS[0], method.name, steps=2).image

    transformer = editor.backbone.transformer(role)
    base = edited()
    name = editor.load_adapter(files[0], method.name)
    adapted = edited()
    assert difference(adapted, base) > 0
    editor.use_adapters([], method=method.name)
    assert difference(edited(), base) == 0
    adapters.eject(transformer, name)
    assert difference(edited(), base) == 0
