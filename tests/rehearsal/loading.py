"""Ways to load a folder of Kontext: each gives the latents of the plain way, within its error."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import editkit
from backbones import low_memory
from backbones.conversion import state_dict
from backbones.weight_tracker import tensors, weight_bytes
from editkit import EditRequest
from tests.pictures import image
from tests.rehearsal.edits import CLOSE, PROMPT, SEED, latents
from tests.rehearsal.figures import memory, relative, start, tell
from tests.rehearsal.stage import Stage
from tests.weight_files import comfy_hints, write

FP8 = 0.3
"""Largest relative RMS of latents in fp8: each weight is off by 3 in 100, and 57 blocks add that up."""


def plain(stage: Stage) -> Tensor:
    """The latents that no option may change much, on the CPU."""
    return _latents(stage, stage.load("kontext"))


def scaled_presets(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the presets allow as much less as the stage's folder is smaller than FLUX.1's."""
    files = (stage.folder / "kontext").glob("*/*.safetensors")
    share = sum(file.stat().st_size for file in files) / low_memory.published_weights().whole
    cuda = stage.device.type == "cuda"
    presets = {
        name: replace(preset, weights=preset.weights * share, stream=preset.stream and cuda)
        for name, preset in low_memory.PRESETS.items()
    }
    monkeypatch.setattr(low_memory, "PRESETS", presets)


def under_preset(stage: Stage, name: str, wanted: Tensor) -> None:
    """Weights on the device stay below the preset's bound, by the tracker and by what CUDA counted."""
    if stage.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(stage.device)
        before = torch.cuda.memory_allocated(stage.device)
    start()
    editor = stage.load("kontext", low_memory=name)
    made, bound = _latents(stage, editor), low_memory.PRESETS[name].weights
    peak = editor.backbone.placement.tracker.peak
    assert 0 < peak <= bound
    tell(f"kontext, low_memory={name}", relative(made, wanted))
    tell(f"kontext, low_memory={name}, weights", f"{peak / 1e9:.3f} of {bound / 1e9:.3f} GB")
    assert relative(made, wanted) < CLOSE
    if stage.device.type == "cuda":
        tell(f"kontext, low_memory={name}, tensors", memory(stage.device))
        assert torch.cuda.max_memory_allocated(stage.device) - before <= bound + low_memory.ROOM


def compiled(stage: Stage, wanted: Tensor) -> None:
    """Blocks that torch.compile made."""
    start()
    editor = stage.load("kontext", compile=True)
    made = _latents(stage, editor)
    blocks = editor.backbone.transformer("kontext").transformer_blocks
    assert all(block._compiled_call_impl is not None for block in blocks)
    tell("kontext, compiled", relative(made, wanted))
    assert relative(made, wanted) < CLOSE


def in_fp8(stage: Stage, wanted: Tensor) -> None:
    """A file of scaled fp8 in the native naming, as people hold it."""
    file, state = stage.folder / "kontext-fp8.safetensors", {}
    for each in (stage.folder / "kontext" / "transformer").glob("*.safetensors"):
        state |= load_file(each)
    write(comfy_hints(state_dict.diffusers_to_native(state)), file)
    whole = weight_bytes(state.values())
    del state
    start()
    editor = stage.load("kontext", transformer=str(file))
    made = _latents(stage, editor)
    held = weight_bytes(tensors(editor.backbone.transformer("kontext")))
    tell(f"kontext, scaled fp8, {held / whole:.2f} of the bytes", relative(made, wanted))
    assert held < 0.8 * whole
    assert relative(made, wanted) < FP8
    file.unlink()


def _latents(stage: Stage, editor: editkit.Editor) -> Tensor:
    side: int = stage.scale.side
    options: dict[str, Any] = {"kontext": {"sizes": "exact"}}
    asked = EditRequest(image=image(side, side), instruction=PROMPT, seed=SEED, steps=2, guidance=2.5)
    return latents(editor.configured(options), asked)[1].cpu()
