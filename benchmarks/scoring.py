"""Prints how fast results made elsewhere are scored, and what memory that takes.

python benchmarks/scoring.py [--n 1000] [--metrics pixels]

The items are held-out ShapesWorld edits as PNG files of 128 by 128; the results are the true answers with
noise. Each count runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from editkit import shapesworld as world
from editkit.evaluation import runner
from editkit.evaluation.settings import RunConfig

NOISE = 4.0
"""Levels of 255."""


def draw(folder: Path, n: int) -> None:
    """Write sources, answers, results and the file that names them."""
    for name in ("source", "answer", "result"):
        (folder / name).mkdir()
    lines = []
    for seed in range(n):
        example = world.example(seed)
        assert example.source is not None
        answer = world.render(example.answer)
        noise = np.random.default_rng(seed).normal(0, NOISE, answer.shape)
        result = np.clip(answer + noise, 0, 255).astype(np.uint8)
        pictures = {"source": world.render(example.source), "answer": answer, "result": result}
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name / f"{seed}.png")
        paths = {name: f"{name}/{seed}.png" for name in ("source", "answer")}
        lines.append(json.dumps({"id": str(seed), "instruction": example.instruction, **paths}) + "\n")
    (folder / "items.jsonl").write_text("".join(lines))


def score(folder: Path, n: int, metrics: list[str]) -> dict[str, float]:
    """Score the first `n` results as `editkit eval run` does, without its report."""
    config = RunConfig(
        benchmark="jsonl", data=str(folder / "items.jsonl"), results={"noisy": str(folder / "result")},
        limit=n, metrics=metrics, out=str(folder / f"run-{n}"),
    )  # fmt: skip
    prepared = runner.prepare(config)

    def phase(label: str, total: int) -> Callable[[int], None]:
        return lambda count: None

    begun, busy = time.perf_counter(), time.process_time()
    runner.run(prepared, lambda: sys.exit("no model is needed"), phase)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"items": n, "items/s": n / seconds, "items per CPU second": n / cpu, "peak MiB": peak}


def main() -> None:
    """One row a count of items."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--metrics", default="pixels")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.folder:
        print(json.dumps(score(asked.folder, asked.n, asked.metrics.split(","))))
        return
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), asked.n)
        for n in (asked.n // 4, asked.n):
            options = ["--n", str(n), "--metrics", asked.metrics, "--folder", folder]
            command = [sys.executable, __file__, *options]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            print("  ".join(f"{name} {value:.0f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
