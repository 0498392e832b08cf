"""Measure the ratios of diffusers' MagCache on `tiny`: what each step adds, relative to the step before.

    python benchmarks/mag_ratios.py [--examples 24] [--write]

They are means over held-out edits in the backbone's own number of steps. `fill` is measured by ICEdit and
ACE++ together.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence

import numpy as np
import torch
import yaml

import editkit
from benchmarks import speed_edits
from editkit import config
from editkit.inference.mag_cache import TABLE

METHODS = {"kontext": ("kontext",), "fill": ("icedit", "aceplus")}
"""Methods by the role that they run on."""


def main() -> None:
    """Print ratios by role, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write configs/mag-ratios.yaml")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = speed_edits.held_out(given.examples)
    found = {
        role: [each for method in methods for each in ratios(editor, role, method, examples)]
        for role, methods in METHODS.items()
    }
    means = {role: np.mean(rows, axis=0).round(5).tolist() for role, rows in found.items()}
    print(json.dumps(means))
    if given.write:
        lines = TABLE.read_text().splitlines(keepends=True)
        head = [line for line in lines if line.startswith("#")]
        table = config.read_yaml(TABLE) | {"tiny": means}
        TABLE.write_text("".join(head) + yaml.safe_dump(table, default_flow_style=None, width=118))


def ratios(
    editor: editkit.Editor, role: str, method: str, examples: Sequence[speed_edits.Example]
) -> list[list[float]]:
    """Return the ratios of each example's steps; diffusers prints them where it calibrates."""
    steps, _ = editor.backbone.defaults(role)
    calibrate = {"type": "MagCacheConfig", "calibrate": True, "num_inference_steps": steps}
    found = []
    for example in examples:
        printed = io.StringIO()
        with editor.backbone.skipping_blocks(role, calibrate), contextlib.redirect_stdout(printed):
            editor.run(speed_edits.request(example, method, speed_edits.Technique(), steps))
        found.append(json.loads(printed.getvalue().split("\n")[-3]))
    return found


if __name__ == "__main__":
    main()
