"""Editkit's sampler against diffusers' pipeline, side by side on the shipped weights.

Same steps, sizes, noise and precision; outputs are compared. Prints seconds, ratios and peak memory. Weights
that were trained with a cached context are timed with it too.

    python benchmarks/sampler.py [--rounds 15] [--steps 8] [--threads 2]
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

import editkit
from editkit import shapesworld
from editkit.imaging import canvas

BATCH = 32
COMPARED = 2
"""Edits whose outputs are compared; the others are timed."""


def main() -> None:
    """Measure first edits, second edits of the same picture or instruction, and batches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    sides = Sides(asked.steps, 2 * asked.rounds + COMPARED)
    tokens, length = (128 // canvas.GRID) ** 2, sides.length
    print(f"{asked.steps} steps, {tokens} + {tokens} image tokens, {length} text tokens")
    print(f"largest difference of outputs: {sides.largest_difference()} of 255 levels")
    contexts = ["joint"] + ["cached"] * sides.editor.backbone.role("kontext").cached_context
    for context in contexts:
        timed: dict[str, list[tuple[float, float]]] = {
            "first edit": [],
            "second edit, same picture": [],
            "second edit, same picture and words": [],
        }
        for place in range(COMPARED, asked.rounds + COMPARED):
            # The noise and words of the second edits are other ones, or the same words.
            for name, (seed, words) in zip(
                timed, ((place, place), (99, place + 1), (98, place)), strict=True
            ):
                timed[name].append(sides.seconds(context, place, seed, words))
        print(f"context={context}:")
        for name, times in timed.items():
            mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(a / b for a, b in times)
            print(f"{name:<36} editkit {mine:.4f} s  diffusers {theirs:.4f} s  ratio {ratio:.3f}")
    _batches(sides.editor, sides.pictures, sides.words, asked.steps)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


class Sides:
    """Both pipelines on the same weights, and the edits that they are given.

    Args:
        steps: Euler steps of an edit.
        count: number of scenes; those without a source are left out.
    """

    def __init__(self, steps: int, count: int) -> None:
        self.steps = steps
        self.editor = editkit.load("tiny", device="cpu", dtype="float32")
        self.editors = {
            context: self.editor.configured({"kontext": {"context": context}})
            for context in ("joint", "cached")
        }
        backbone: Any = self.editor.backbone
        self.length: int = backbone.family.sequence_length
        self.pipeline = FluxKontextPipeline.from_pretrained(
            backbone.folder("kontext"), torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        examples = [shapesworld.example(seed) for seed in range(count)]
        self.pictures = [Image.fromarray(shapesworld.render(e.source)) for e in examples if e.source]
        self.words = [example.instruction for example in examples]

    def largest_difference(self) -> int:
        """Return the largest difference of both sides' outputs, in levels."""
        pairs = [
            [
                np.asarray(make(place, 7, place), dtype=int)
                for make in (partial(self.ours, "joint"), self.peer)
            ]
            for place in range(COMPARED)
        ]
        return max(int(np.abs(one - other).max()) for one, other in pairs)

    def seconds(self, context: str, place: int, seed: int, words: int) -> tuple[float, float]:
        """Return the seconds of one edit by each side, back to back, so that both meet the same machine."""
        given = (place, seed, words)
        return _seconds(partial(self.ours, context, *given)), _seconds(partial(self.peer, *given))

    def ours(self, context: str, place: int, seed: int, words: int) -> Image.Image:
        """Edit the picture of one place by the words of another."""
        image = (
            self.editors[context]
            .edit(self.pictures[place], self.words[words], seed=seed, steps=self.steps)
            .image
        )
        assert image is not None
        return image

    def peer(self, place: int, seed: int, words: int) -> Image.Image:
        """Edit the same by diffusers."""
        image = self.pipeline(
            image=self.pictures[place],
            prompt=self.words[words],
            height=128,
            width=128,
            max_area=128 * 128,
            _auto_resize=False,
            num_inference_steps=self.steps,
            guidance_scale=1.0,
            max_sequence_length=self.length,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        assert isinstance(image, Image.Image)
        return image


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _batches(editor: editkit.Editor, pictures: list[Image.Image], words: list[str], steps: int) -> None:
    requests = [
        editkit.EditRequest(
            image=pictures[place % len(pictures)],
            instruction=words[place % len(pictures)],
            seed=place,
            steps=steps,
        )
        for place in range(BATCH)
    ]
    ratios = []
    for _ in range(3):
        start = time.perf_counter()
        for request in requests:
            editor.edit_many([request], batch_size=1)
        single = time.perf_counter() - start
        start = time.perf_counter()
        editor.edit_many(requests, batch_size=BATCH)
        ratios.append((single, time.perf_counter() - start))
    single, batched = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"{BATCH} edits: one by one {single:.2f} s, edit_many at {BATCH} {batched:.2f} s, "
        f"{BATCH / batched:.1f} edits/s, throughput x{single / batched:.2f}"
    )


if __name__ == "__main__":
    main()
