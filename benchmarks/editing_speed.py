"""Measure techniques of fast editing: operations, success, PSNR to the full edit, and memory.

`tiny` edits held-out scenes with each technique, alone and combined, beside diffusers' pipeline; `flux`
counts FLUX.1's own operations at 1024x1024 on the meta device, where nothing is computed.

    python benchmarks/editing_speed.py tiny [--method kontext ...] [--examples 24] [--steps 28] [--seconds]
    python benchmarks/editing_speed.py tiny --few-steps out/tiny/kontext-few-steps/export
    python benchmarks/editing_speed.py tiny --write     # configs/speed.yaml, and the page with its plot
    python benchmarks/editing_speed.py flux [--side 1024] [--steps 28]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch

import editkit
from benchmarks import speed_edits, speed_figures, speed_flux, speed_page, speed_plot, speed_table
from benchmarks.speed_edits import CACHED, EXACT, TECHNIQUES, Edited, Technique

METHODS = ("kontext", "icedit", "aceplus")
PEER = 2
"""Examples that diffusers edits too; its operations are the same for all."""


def main() -> None:
    """Print tables, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("tiny", "flux"))
    parser.add_argument("--method", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", action="store_true", help="time the edits too; needs a free machine")
    parser.add_argument(
        "--write", action="store_true", help="write configs/speed.yaml, the page and its plot"
    )
    parser.add_argument("--few-steps", metavar="EXPORT", help="a Kontext adapter distilled for few steps")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.network == "flux":
        speed_flux.report(given.side, given.steps)
        return
    if given.write and (lacking := set(METHODS) - set(given.method)):
        parser.error(f"--write needs all methods, {', '.join(sorted(lacking))} too; leave --method out.")
    distilled = speed_edits.distilled(given.few_steps) if given.few_steps else {}
    measure(given.method, given.examples, given.steps, given.seconds, given.write, distilled)


def measure(
    methods: Sequence[str],
    count: int,
    steps: int,
    seconds: bool,
    write: bool,
    distilled: Mapping[str, Technique],
) -> None:
    """Edit with each method and technique, by Kontext with distilled ones too, and tell or write figures."""
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = speed_edits.held_out(count)
    told, points, chosen = [f"`python benchmarks/editing_speed.py {' '.join(sys.argv[1:])}`"], {}, {}
    for method in methods:
        cached = editor.backbone.role(editor.role(method)).cached_context
        techniques = TECHNIQUES | (CACHED if cached else {}) | (distilled if method == METHODS[0] else {})
        rows = speed_edits.edits(editor, method, examples, steps, seconds, techniques)
        local = speed_figures.local(examples)
        about = f"{method} on tiny, {steps} steps"
        told.append(f"{about}, {count} edits:\n\n{speed_figures.by_technique(examples, rows)}")
        if local and len(local) < count:
            table = speed_figures.by_technique(examples, rows, local)
            told.append(f"{about}, {len(local)} local edits, which change at most 20 %:\n\n{table}")
        table = speed_figures.by_share(examples, rows)
        told.append(f"{about}, {speed_figures.REGION}, by the share that changes:\n\n{table}")
        if method == METHODS[0]:
            peer = speed_edits.diffusers_edits(editor, examples[:PEER], steps)
            told.append(beside(peer, rows[EXACT][:PEER]))
        found = {name: speed_figures.figures(examples, rows[name], rows[EXACT]) for name in techniques}
        points[method] = [speed_plot.point(each, steps, found[name]) for name, each in techniques.items()]
        chosen[method] = {
            name: (each.speed, found[name])
            for name, each in techniques.items()
            if each.share == 1 and each.steps is None and "cache=mag" not in each.speed
        }
    text = "\n\n".join(told)
    print(text)
    if write:
        for method, measured in chosen.items():
            speed_table.write("tiny", method, steps, measured)
        speed_page.write(text, speed_plot.plot(points))


def beside(theirs: Sequence[Edited], ours: Sequence[Edited]) -> str:
    """Tell diffusers' operations beside those of the exact edit."""
    apart = max(float(np.abs(one.pixels - two.pixels).max()) for one, two in zip(theirs, ours, strict=True))
    their_flops, our_flops = (float(np.mean([each.flops for each in row])) / 1e9 for row in (theirs, ours))
    return (
        "| Kontext in full | GFLOP an edit |\n| --- | --- |\n"
        f"| diffusers' FluxKontextPipeline | {their_flops:.2f} |\n"
        f"| editkit, `speed=exact` | {our_flops:.2f} |\n\n"
        f"The two pictures differ by {apart * 255:.0f} of 255 levels at most."
    )


if __name__ == "__main__":
    main()
