"""Latents that methods' edits end at, beside the true answers: what a decoder has to read."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from editkit import atomic_files
from editkit import shapesworld as world
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.inference.editor import PictureEditor

CHUNK, TOGETHER = 256, 32
"""Records that are sorted into batches at once, and those of a batch."""


@dataclass(frozen=True, kw_only=True)
class EndingsConfig:
    """Edits that a method is asked for; their seeds should be none that it was trained on."""

    data: DataConfig = field(default_factory=DataConfig)
    steps: int = 4
    backbone: str = "tiny"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"endings.steps must be at least 1, not {self.steps}")


def recorded(method: str, config: EndingsConfig, cache: Path) -> tuple[Tensor, Tensor]:
    """Edit all of the data, or take it from disk where the same weights were asked for the same before.

    Returns:
        Tokens of the answer's panel, N L C in bf16, and the true answers there, N 3 H W in levels of 255.

    Raises:
        EditkitError: where an edit cannot be carried out.
    """
    from editkit import api

    editor = api.load(config.backbone)
    about = asdict(config) | {"method": method, "weights": _weights(editor, method, config)}
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=12)
    path = cache / f"endings-{digest.hexdigest()}.safetensors"
    if not path.is_file():
        parts = [
            part for places in _chunks(method, config) for part in _ended(editor, method, config, places)
        ]
        tokens, answers = (torch.cat(each).contiguous() for each in zip(*parts, strict=True))
        with atomic_files.whole(path) as file:
            file.write(save({"tokens_NLC": tokens, "answers_NCHW": answers}))
    kept = load_file(path)
    return kept["tokens_NLC"], kept["answers_NCHW"]


def _chunks(method: str, config: EndingsConfig) -> Iterator[range]:
    count = len(dataset(config.data))
    for first in track(range(0, count, CHUNK), f"edits by {method}"):
        yield range(first, min(first + CHUNK, count))


def _weights(editor: PictureEditor, method: str, config: EndingsConfig) -> dict[str, Any]:
    """Of everything that an edit depends on, by one edit."""
    (result,) = editor.edit_many([dataset(config.data)[0].request(method, 0, 1)])
    if result.error:
        raise EditkitError(result.error)
    return {key: result.recipe[key] for key in ("weights", "options")}


@torch.no_grad()
def _ended(
    editor: PictureEditor, method: str, config: EndingsConfig, places: range
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of tokens and answers."""
    from editkit.inference import inputs, pipeline, planned_batch

    records = dataset(config.data)
    first_seed = world.TRAINING_START if config.data.start is None else config.data.start
    groups = defaultdict(list)
    for place in places:
        record = records[place]
        prepared = inputs.prepare(record.request(method, first_seed + place, config.steps))
        groups[prepared.group].append((prepared, record.answer))
    made = planned_batch.Pipeline(editor.backbone, *editor.method(method))
    for group in groups.values():
        for first in range(0, len(group), TOGETHER):
            batch, answers = zip(*group[first : first + TOGETHER], strict=True)
            editor.load(batch[0].request)
            planned = pipeline.plan_batch(made, batch)
            state = pipeline.denoise(planned.velocity, planned.start, planned.times)
            levels_BCHW = torch.from_numpy(np.stack(answers)).permute(0, 3, 1, 2)
            placed_BCHW = canvas.place(levels_BCHW.float() / 255, planned.plan.canvas)
            tokens_BLC = canvas.answer_tokens(state.x_BLC, planned.plan.canvas)
            yield tokens_BLC.bfloat16().cpu(), (placed_BCHW * 255).round().byte()
