"""An edit up to its latents, the same by diffusers' pipelines, and how far apart they may be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline
from PIL import Image
from torch import Tensor

import editkit
from editkit import EditRequest, adapters
from editkit.inference.inputs import prepare
from editkit.inference.pipeline import Pipeline, PlannedBatch, denoise, plan_batch
from tests import ROOT
from tests.parity.pipelines import pipeline
from tests.rehearsal.figures import relative, tell
from tests.rehearsal.networks import LENGTH

SEED, GUIDANCE = 5, 2.5
SAME = 1e-3
"""Largest relative RMS of latents for which both do the very same arithmetic."""
CLOSE = 0.02
"""Largest one where the same is computed in another order, or rounded otherwise on the way."""
FAR = 0.05
"""Smallest one where an input was changed."""
WORDS = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
PROMPT = " ".join(itertools.islice(itertools.cycle(WORDS), LENGTH - 1))
"""As many words as T5 takes, before its end of sentence."""
NEGATIVE = "blue circle"


@torch.no_grad()
def latents(editor: editkit.Editor, request: EditRequest) -> tuple[PlannedBatch, Tensor]:
    """An edit of editkit's up to its latents."""
    editor.load(request)
    method = Pipeline(editor.backbone, *editor.method(request.method))
    planned = plan_batch(method, [prepare(request)])
    return planned, denoise(planned.velocity, planned.start, planned.times).x_BLC


def other(editor: editkit.Editor, cls: Any, role: str, picture: Image.Image, **arguments: Any) -> Tensor:
    """The same by diffusers' pipeline around the same networks."""
    usual = {
        "prompt": PROMPT,
        "width": picture.width,
        "height": picture.height,
        "generator": torch.Generator().manual_seed(SEED),
        "max_sequence_length": LENGTH,
        "output_type": "latent",
    }
    made: Tensor = pipeline(cls, editor.backbone, role)(image=picture, **(usual | arguments)).images
    return made


def compare(what: str, mine: Tensor, theirs: Tensor, bound: float | None = None) -> None:
    """Both are latents of a live network, and the same within the precision's error."""
    if bound is None:
        bound = SAME if mine.device.type == "cpu" else CLOSE  # elsewhere sums may have no fixed order
    assert bool(torch.isfinite(mine).all())
    assert float(mine.float().std()) > 0.3
    tell(what, relative(mine, theirs))
    assert relative(mine, theirs) < bound


@contextmanager
def bare(editor: editkit.Editor, role: str) -> Iterator[None]:
    """Take all adapters off a transformer afterwards."""
    yield
    for name in adapter_names(editor, role):
        adapters.eject(editor.backbone.transformer(role), name)


def adapter_names(editor: editkit.Editor, role: str) -> list[str]:
    """Names of the adapters on a transformer."""
    found = adapters.layers(editor.backbone.transformer(role))
    return sorted({name for layer in found for name in layer.r})


def mask(width: int, height: int) -> Image.Image:
    """White in the middle."""
    made = Image.new("L", (width, height))
    made.paste(255, (width // 4, height // 4, width * 3 // 4, height * 3 // 4))
    return made


def with_lora(editor: editkit.Editor, file: Path | None, run: Callable[[], Tensor]) -> Tensor:
    """Run a pipeline under a LoRA that diffusers loads by itself."""
    if file is None:
        return run()
    built = pipeline(FluxFillPipeline, editor.backbone, "fill")
    built.load_lora_weights(file.parent, weight_name=file.name)
    try:
        return run()
    finally:
        built.unload_lora_weights()
