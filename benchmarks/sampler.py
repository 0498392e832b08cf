"""Editkit's sampler against diffusers' pipeline, side by side on the shipped weights.

Same steps, sizes, noise and precision; outputs are compared. Prints seconds, ratios and peak memory.

    python benchmarks/sampler.py [--rounds 15] [--steps 8] [--threads 2]
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

import editkit
from editkit import shapesworld
from editkit.imaging import canvas

BATCH = 32


def main() -> None:
    """Measure first edits, second edits of the same picture or instruction, and batches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    folder = editor.backbone.folder("kontext")
    pipeline = FluxKontextPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    examples = [shapesworld.example(seed) for seed in range(2 * arguments.rounds + 2)]
    pictures = [Image.fromarray(shapesworld.render(e.source)) for e in examples if e.source]
    words = [example.instruction for example in examples]

    def peer(place: int, seed: int, text: str) -> Image.Image:
        return pipeline(
            image=pictures[place],
            prompt=text,
            height=128,
            width=128,
            max_area=128 * 128,
            _auto_resize=False,
            num_inference_steps=arguments.steps,
            guidance_scale=1.0,
            max_sequence_length=editor.backbone.family.sequence_length,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]

    def ours(place: int, seed: int, text: str) -> Image.Image:
        image = editor.edit(pictures[place], text, seed=seed, steps=arguments.steps).image
        assert image is not None
        return image

    worst = 0
    for place in (0, 1):
        pair = [np.asarray(make(place, 7, words[place]), dtype=int) for make in (ours, peer)]
        worst = max(worst, int(np.abs(pair[0] - pair[1]).max()))
    tokens = (128 // canvas.GRID) ** 2
    length = editor.backbone.family.sequence_length
    print(f"{arguments.steps} steps, {tokens} + {tokens} image tokens, {length} text tokens")
    print(f"largest difference of outputs: {worst} of 255 levels")
    first, again_picture, again_words = [], [], []
    for place in range(2, arguments.rounds + 2):
        first.append(_pair(lambda p=place: ours(p, p, words[p]), lambda p=place: peer(p, p, words[p])))
        again_picture.append(
            _pair(lambda p=place: ours(p, 99, words[p + 1]), lambda p=place: peer(p, 99, words[p + 1]))
        )
        again_words.append(
            _pair(lambda p=place: ours(p, 98, words[p]), lambda p=place: peer(p, 98, words[p]))
        )
    for name, times in (
        ("first edit", first),
        ("second edit, same picture", again_picture),
        ("second edit, same picture and words", again_words),
    ):
        mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"{name:<36} editkit {mine:.4f} s  diffusers {theirs:.4f} s  ratio {ratio:.3f}")
    _batches(editor, pictures, words, arguments.steps)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _pair(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call each, back to back, so that both meet the same machine."""
    seconds = []
    for call in (ours, peer):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


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
