"""Behaviour: files of other models are refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editkit.errors import EditkitError
from tests.backbones.files.encoders import (
    clip_state,
    component,
    t5_state,
    write_t5_gguf,
)
from tests.weight_files import State

REFUSED: dict[str, tuple[str, Callable[[Path, Path], Path], str]] = {
    "further tensor": (
        "text_encoder_2",
        lambda home, at: saved(t5_state(home) | {"encoder.block.0.q_scale": torch.ones(1)}, at),
        "1 unknown tensors, such as encoder.block.0.q_scale",
    ),
    "clip for T5": (
        "text_encoder_2",
        lambda home, at: saved(clip_state(home), at),
        "lacks .* encoder.block.0",
    ),
    "T5 for clip": ("text_encoder", lambda home, at: saved(t5_state(home), at), "lacks .* embeddings"),
    "two embeddings": (
        "text_encoder_2",
        lambda home, at: saved(t5_state(home) | {"shared.weight": torch.zeros(32, 64)}, at),
        "two embeddings",
    ),
    "another size": (
        "text_encoder",
        lambda home, at: saved(clip_state(home) | {"text_model.final_layer_norm.bias": torch.ones(3)}, at),
        r"final_layer_norm.bias has shape \(3,\), not \(64,\)",
    ),
    "pickle": ("vae", lambda home, at: renamed(at, "ae.ckpt"), "pickles are never opened"),
    "nothing": ("vae", lambda home, at: at / "none.safetensors", "file, or a folder, that exists"),
    "clip for an autoencoder": (
        "vae",
        lambda home, at: saved(clip_state(home), at),
        "do not belong to FLUX.s",
    ),
    "further tensor of GGUF": (
        "text_encoder_2",
        lambda home, at: write_t5_gguf(
            home, "F16", at / "t5.gguf", {"enc.blk.0.extra.weight": torch.ones(2)}
        ),
        "1 unknown tensors, such as enc.blk.0.extra.weight",
    ),
}


def saved(state: State, folder: Path) -> Path:
    save_file(state, folder / "part.safetensors")
    return folder / "part.safetensors"


def renamed(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(b"never read")
    return folder / name


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused_in_one_sentence(case: str, home: Path, tmp_path: Path) -> None:
    name, make, words = REFUSED[case]
    with pytest.raises(EditkitError, match=words):
        component(name, make(home, tmp_path), home)
