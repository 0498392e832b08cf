"""What saved steps save and what they cost: operations, success, and PSNR to the full edit.

`tiny` edits held-out scenes with each technique, beside diffusers' pipeline; `flux` counts FLUX.1's own
operations at 1024x1024 on the meta device, where nothing is computed.

    python benchmarks/editing_speed.py tiny [--method kontext] [--examples 32] [--steps 28] [--seconds]
    python benchmarks/editing_speed.py tiny --write     # writes configs/speed.yaml
    python benchmarks/editing_speed.py flux [--side 1024] [--steps 28]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import editkit
from benchmarks import speed_flux, speed_table
from editkit import shapesworld
from editkit.shapesworld.scores import Pixels, changed, score

TECHNIQUES = {
    "exact": "exact",
    "context after 3 steps": "full_steps=3,region=false",
    "context after 1 step, every 4th": "full_steps=1,region=false,refresh=3",
    "region after 3 steps": "full_steps=3",
    "region after 2 steps": "full_steps=2",
    "region after 2 steps, every 8th": "full_steps=2,refresh=7",
    "region after 1 step": "full_steps=1",
}
"""Techniques by name, as values of `speed`."""
LOCAL = 0.2
"""Largest share of a picture that a local edit changes."""
T = TypeVar("T")
BANDS = (0.0, 0.05, 0.1, LOCAL, 1.0)
PEER = 2
"""Examples that diffusers edits too, one by one; its operations are the same for all."""


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
    """One example's edit."""

    pixels: Pixels
    flops: float
    seconds: float


def main() -> None:
    """Print a table, and write the table of speeds where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("tiny", "flux"))
    parser.add_argument("--method", nargs="+", default=["kontext"])
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", action="store_true", help="time the edits too; needs a free machine")
    parser.add_argument("--write", action="store_true", help="write configs/speed.yaml for these methods")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.network == "flux":
        speed_flux.report(given.side, given.steps)
        return
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = held_out(given.examples)
    for method in given.method:
        rows = measured(editor, method, examples, given.steps, given.seconds)
        if method == "kontext":
            beside(diffusers_edits(editor, examples[:PEER], given.steps), rows["exact"][:PEER])
        tables(method, examples, rows, given.steps, given.seconds)
        if given.write:
            chosen = {name: figures(examples, rows[name], rows["exact"]) for name in TECHNIQUES}
            speed_table.write("tiny", method, {n: (TECHNIQUES[n], f) for n, f in chosen.items()})


def held_out(count: int) -> list[Example]:
    """The first held-out edits that have a source."""
    found, seed = [], 0
    while len(found) < count:
        example = shapesworld.example(seed)
        if example.source is not None and example.answer is not None:
            pair = (shapesworld.render(scene) / np.float32(255) for scene in (example.source, example.answer))
            source, answer = (each.astype(np.float32) for each in pair)
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


def measured(
    editor: editkit.Editor, method: str, examples: Sequence[Example], steps: int, seconds: bool
) -> dict[str, list[Edited]]:
    """Edit all examples with each technique, those of a band as one batch, whose operations they share."""
    rows: dict[str, list[Edited]] = {}
    bands = [
        [place for place, each in enumerate(examples) if in_band(each, *ends)] for ends in pairwise(BANDS)
    ]
    for name, speed in TECHNIQUES.items():
        requests = [
            editkit.EditRequest(
                image=example.picture,
                instruction=example.instruction,
                method=method,
                seed=example.seed,
                steps=steps,
                speed=speed,
            )
            for example in examples
        ]
        found: dict[int, Edited] = {}
        for places in filter(None, bands):
            batch = picked(requests, places)
            flops, results = counted(lambda batch=batch: editor.edit_many(batch))
            for place, result in zip(places, results, strict=True):
                found[place] = Edited(
                    pixels=pixels(result.image),
                    flops=flops / len(places),
                    seconds=timed(lambda one=requests[place]: editor.edit_many([one])) if seconds else 0.0,
                )
        rows[name] = [found[place] for place in range(len(examples))]
    return rows


def in_band(example: Example, least: float, most: float) -> bool:
    """Whether the share of an example lies in a band; an edit of nothing lies in the first."""
    return least < example.share <= most or example.share == least == BANDS[0]


def diffusers_edits(editor: editkit.Editor, examples: Sequence[Example], steps: int) -> list[Edited]:
    """The same edits by diffusers' own pipeline on the same weights."""
    from diffusers import FluxKontextPipeline

    backbone: Any = editor.backbone
    pipeline = FluxKontextPipeline.from_pretrained(backbone.folder("kontext"), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def edit(example: Example) -> Image.Image:
        made: Image.Image = pipeline(
            image=example.picture,
            prompt=example.instruction,
            height=128,
            width=128,
            max_area=128 * 128,
            _auto_resize=False,
            num_inference_steps=steps,
            guidance_scale=1.0,
            max_sequence_length=backbone.family.sequence_length,
            generator=torch.Generator().manual_seed(example.seed),
        ).images[0]
        return made

    found = []
    for example in examples:
        flops, image = counted(lambda each=example: edit(each))
        found.append(Edited(pixels=pixels(image), flops=flops, seconds=0.0))
    return found


def pixels(image: Image.Image | None) -> Pixels:
    """A picture's colours in [0, 1]."""
    assert image is not None
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def counted(edit: Callable[[], T]) -> tuple[float, T]:
    """Count the operations of all models in edits."""
    # The counter knows matrix products, which attention is in this kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        made = edit()
    return float(counter.get_total_flops()), made


def timed(edit: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    edit()
    return time.perf_counter() - start


def figures(examples: Sequence[Example], edits: Sequence[Edited], full: Sequence[Edited]) -> dict[str, float]:
    """Mean operations and their ratio to the full edit's, success, PSNR to the full edit, seconds."""
    right = [
        score(example.source, example.answer, edit.pixels, example.category).success
        for example, edit in zip(examples, edits, strict=True)
    ]
    psnr = [decibels(edit.pixels, whole.pixels) for edit, whole in zip(edits, full, strict=True)]
    flops, whole = (float(np.mean([each.flops for each in row])) for row in (edits, full))
    return {
        "gflops": flops / 1e9,
        "saves": whole / flops,
        "success": float(np.mean(right)),
        "psnr": float(np.mean(psnr)),
        "seconds": float(np.mean([edit.seconds for edit in edits])),
    }


def decibels(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """PSNR of two pictures in [0, 1]; 60 where they are equal in all levels."""
    error = float(np.square(one - other).mean())
    return 60.0 if error < 1e-6 else -10 * float(np.log10(error))


def beside(theirs: Sequence[Edited], ours: Sequence[Edited]) -> None:
    """Print diffusers' operations beside those of the exact edit."""
    apart = max(float(np.abs(one.pixels - two.pixels).max()) for one, two in zip(theirs, ours, strict=True))
    flops = [float(np.mean([each.flops for each in row])) / 1e9 for row in (theirs, ours)]
    print(f"\ndiffusers' FluxKontextPipeline: {flops[0]:.1f} GFLOP an edit; editkit, exact: {flops[1]:.1f}")
    print(f"largest difference of the pictures: {apart * 255:.0f} of 255 levels")


def tables(
    method: str, examples: Sequence[Example], rows: dict[str, list[Edited]], steps: int, seconds: bool
) -> None:
    """Print all techniques on all edits, on local ones, and one technique by share."""
    local = [place for place, example in enumerate(examples) if example.share <= LOCAL]
    every = range(len(examples))
    for about, places in ((f"{len(every)} edits", every), (f"{len(local)} local edits", local)):
        if not places:
            continue
        print(f"\n{method} on tiny, {steps} steps, {about}")
        print("| technique | GFLOP an edit | saves | success | PSNR to full |" + " seconds |" * seconds)
        print("| --- " * (5 + seconds) + "|")
        for name, edits in rows.items():
            print(
                _line(name, picked(examples, places), picked(edits, places), rows["exact"], places, seconds)
            )
    print(f"\n{method} on tiny, region after 2 steps, by the share of the picture that changes")
    print("| share | edits | saves | success | success in full | PSNR to full |\n" + "| --- " * 6 + "|")
    for least, most in pairwise(BANDS):
        places = [place for place in every if in_band(examples[place], least, most)]
        if places:
            full = picked(rows["exact"], places)
            some = figures(picked(examples, places), picked(rows["region after 2 steps"], places), full)
            whole = figures(picked(examples, places), full, full)["success"]
            about = f"| {least:.0%} to {most:.0%} | {len(places)} | {some['saves']:.2f}"
            print(f"{about} | {some['success']:.3f} | {whole:.3f} | {some['psnr']:.1f} |")


def picked(rows: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """The rows at some places."""
    return [rows[place] for place in places]


def _line(
    name: str,
    examples: Sequence[Example],
    edits: Sequence[Edited],
    exact: Sequence[Edited],
    places: Sequence[int],
    seconds: bool,
) -> str:
    found = figures(examples, edits, picked(exact, places))
    cells = (f"{found['gflops']:.1f}", f"{found['saves']:.2f}", f"{found['success']:.3f}")
    line = " | ".join((f"| {name}", *cells, f"{found['psnr']:.1f} |"))
    return line + f" {found['seconds']:.3f} |" * seconds


if __name__ == "__main__":
    main()
