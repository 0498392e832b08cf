"""Held-out edits of ShapesWorld by each technique, and by diffusers' pipeline on the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

import editkit
from benchmarks.speed_operations import Operations
from editkit import shapesworld
from editkit.shapesworld.scores import Pixels, changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Technique:
    """A way to save work.

    Attributes:
        speed: value of a request's `speed`.
        share: share of the full number of steps that is taken.
    """

    speed: str = "exact"
    share: float = 1.0


EXACT = "exact"
TECHNIQUES = {
    EXACT: Technique(),
    "half the steps": Technique(share=1 / 2),
    "a quarter of the steps": Technique(share=1 / 4),
    "context after 3 steps": Technique(speed="full_steps=3,region=false"),
    "context after 1 step, every 4th": Technique(speed="full_steps=1,region=false,refresh=3"),
    "region after 3 steps": Technique(speed="full_steps=3"),
    "region after 2 steps": Technique(speed="full_steps=2"),
    "region after 2 steps, every 8th": Technique(speed="full_steps=2,refresh=7"),
    "region after 1 step": Technique(speed="full_steps=1"),
    "region by a draft of 4 steps": Technique(speed="full_steps=1,draft=4"),
}
"""Techniques by name; the first saves nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A held-out edit of which the answer is known."""

    source: Pixels
    answer: Pixels
    instruction: str
    category: str
    seed: int

    @property
    def share(self) -> float:
        """Share of the picture that changes."""
        return float(changed(self.source, self.answer).mean())

    @property
    def picture(self) -> Image.Image:
        """The source as a picture."""
        return Image.fromarray((self.source * 255).round().astype(np.uint8))


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """One example's edit: its pixels, the network's operations, and seconds (0 where not timed)."""

    pixels: Pixels
    flops: float
    seconds: float = 0.0


def held_out(count: int) -> list[Example]:
    """Return the first held-out edits that have a source."""
    found: list[Example] = []
    seed = 0
    while len(found) < count:
        example = shapesworld.example(seed)
        if example.source is not None and example.answer is not None:
            source, answer = (
                (shapesworld.render(scene) / np.float32(255)).astype(np.float32)
                for scene in (example.source, example.answer)
            )
            found.append(
                Example(
                    source=source,
                    answer=answer,
                    instruction=example.instruction,
                    category=example.category,
                    seed=seed,
                )
            )
        seed += 1
    return found


def edits(
    editor: editkit.Editor, method: str, examples: Sequence[Example], steps: int, seconds: bool = False
) -> dict[str, list[Edited]]:
    """Edit all examples with each technique, one by one, and count what the network computes."""
    operations = Operations(_transformer(editor, method))
    found: dict[str, list[Edited]] = {}
    for name, technique in TECHNIQUES.items():
        found[name] = []
        for example in examples:
            request = editkit.EditRequest(
                image=example.picture,
                instruction=example.instruction,
                method=method,
                seed=example.seed,
                steps=max(1, round(technique.share * steps)),
                speed=technique.speed,
            )
            with operations.watched():
                image = editor.run(request).image
            spent = timed(lambda request=request: editor.run(request)) if seconds else 0.0
            found[name].append(Edited(pixels=pixels(image), flops=operations.total, seconds=spent))
    return found


def _transformer(editor: editkit.Editor, method: str) -> torch.nn.Module:
    record, options = editor.method(method)
    transformer: Any = editor.backbone.transformer(record.role_under(options))
    assert isinstance(transformer, torch.nn.Module)
    return transformer


def diffusers_edits(editor: editkit.Editor, examples: Sequence[Example], steps: int) -> list[Edited]:
    """Edit by diffusers' own pipeline on the same weights."""
    from diffusers import FluxKontextPipeline

    backbone: Any = editor.backbone
    pipeline = FluxKontextPipeline.from_pretrained(backbone.folder("kontext"), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    operations = Operations(pipeline.transformer)
    found = []
    for example in examples:
        height, width = example.source.shape[:2]
        with operations.watched():
            image = pipeline(
                image=example.picture,
                prompt=example.instruction,
                height=height,
                width=width,
                max_area=height * width,
                _auto_resize=False,
                num_inference_steps=steps,
                guidance_scale=1.0,
                max_sequence_length=backbone.family.sequence_length,
                generator=torch.Generator().manual_seed(example.seed),
            ).images[0]
        found.append(Edited(pixels=pixels(image), flops=operations.total))
    return found


def pixels(image: Image.Image | None) -> Pixels:
    """Return a picture's colours in [0, 1]."""
    assert image is not None
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
