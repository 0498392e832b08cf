"""Held-out edits of ShapesWorld by each technique, and by diffusers' pipeline on the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

import editkit
from benchmarks.peak_memory import resident_peak
from benchmarks.speed_operations import Operations
from editkit import shapesworld
from editkit.shapesworld.scores import Pixels, changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Technique:
    """A way to save work.

    Attributes:
        speed: value of a request's `speed`.
        share: share of the full number of steps that is taken.
        steps: number of steps that is taken; where None, `share` says it.
        adapter: folder or file of an adapter that was distilled for few steps; None for none.
    """

    speed: str = "exact"
    share: float = 1.0
    steps: int | None = None
    adapter: str | None = None

    def taken(self, steps: int) -> int:
        """Return the number of steps that it takes where the full edit takes `steps`."""
        return self.steps or max(1, round(self.share * steps))


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
    "region after 1 step, every 10th": Technique(speed="full_steps=1,refresh=9"),
    "region by a draft of 4 steps": Technique(speed="full_steps=1,draft=4"),
    "first block cache, 0.1": Technique(speed="cache=first_block,threshold=0.1"),
    "Taylor cache, every 3rd": Technique(speed="cache=taylor_seer,full_steps=3,interval=3"),
    "MagCache, 0.06": Technique(speed="cache=mag,threshold=0.06"),
    "half the steps, context after 1 step": Technique(share=1 / 2, speed="full_steps=1,region=false"),
    "half the steps, region after 1 step": Technique(share=1 / 2, speed="full_steps=1"),
    "half the steps, region by a draft": Technique(share=1 / 2, speed="full_steps=1,draft=4"),
    "half the steps, first block cache": Technique(share=1 / 2, speed="cache=first_block,threshold=0.1"),
    "a quarter of the steps, region after 1 step": Technique(share=1 / 4, speed="full_steps=1"),
}
"""Techniques by name; the first saves nothing, the last ones combine two. A region holds the context too."""
_CACHED, _REGION = "context=cached,region=false", "context=cached,full_steps=1"
CACHED = {
    "cached context": Technique(speed=_CACHED),
    "cached context, region after 1 step": Technique(speed=_REGION),
    "cached context, half the steps": Technique(speed=_CACHED, share=1 / 2),
    "cached context, half the steps, region after 1 step": Technique(speed=_REGION, share=1 / 2),
    "cached context, a quarter of the steps": Technique(speed=_CACHED, share=1 / 4),
}
"""Techniques for weights that were trained with a cached context."""
FEW = (4, 2, 1)
"""Numbers of steps at which a distilled adapter is measured."""


def distilled(adapter: str) -> dict[str, Technique]:
    """Return techniques that wear an adapter that was distilled for few steps, alone and with others."""
    found = {
        f"distilled, {steps} step{'s' * (steps > 1)}": Technique(steps=steps, adapter=adapter)
        for steps in FEW
    }
    combined = {
        "cached context": _CACHED,
        "context after 1 step": "full_steps=1,region=false",
        "region after 1 step": "full_steps=1",
        "first block cache, 0.1": "cache=first_block,threshold=0.1",
    }
    return found | {
        f"distilled, {max(FEW)} steps, {name}": Technique(speed=speed, steps=max(FEW), adapter=adapter)
        for name, speed in combined.items()
    }


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
    """One example's edit: pixels, the network's operations, seconds (0 where not timed), and peak bytes.

    The peak is that of the technique's first example for all: it depends on shapes.
    """

    pixels: Pixels
    flops: float
    seconds: float = 0.0
    peak: float = math.nan


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
    editor: editkit.Editor,
    method: str,
    examples: Sequence[Example],
    steps: int,
    seconds: bool = False,
    techniques: Mapping[str, Technique] = TECHNIQUES,
) -> dict[str, list[Edited]]:
    """Edit all examples with each technique, one by one, and count what the network computes."""
    operations = Operations(_transformer(editor, method))
    found: dict[str, list[Edited]] = {}
    for name, technique in techniques.items():
        found[name] = []
        own = editor.configured({}, {technique.adapter: 1.0}) if technique.adapter else editor
        peak = math.nan
        for example in examples:
            run = partial(own.run, request(example, method, technique, steps))
            with operations.watched():
                image = run().image
            if not found[name]:  # apart from the count, which takes memory of its own
                peak = resident_peak(run)
            spent = timed(run) if seconds else 0.0
            made = Edited(pixels=pixels(image), flops=operations.total, seconds=spent, peak=peak)
            found[name].append(made)
    return found


def request(example: Example, method: str, technique: Technique, steps: int) -> editkit.EditRequest:
    """Make the request of an example's edit."""
    return editkit.EditRequest(
        image=example.picture,
        instruction=example.instruction,
        method=method,
        seed=example.seed,
        steps=technique.taken(steps),
        speed=technique.speed,
    )


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
