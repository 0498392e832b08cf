"""Seconds from start to first batch, and memory, of a run on many encoded records.

Writes webdataset shards of 64x64 pictures, encodes them with `tiny`, and then starts a run anew in a process
of its own, which draws batches. Prints seconds, and the process's memory at the first batch and at the last.

    python benchmarks/streaming.py [--records 2000] [--batches 200] [--latents cached] [--folder FOLDER]
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

SIDE, SHARD, PICTURES, BATCH = 64, 10_000, 64, 16
"""Pixels of a side, records of a shard, different pictures, and samples of a batch."""
WARM = 50
"""Batches after which memory should be flat."""


def main() -> None:
    """Write, encode, start anew, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--latents", choices=("cached", "on_the_fly"), default="cached")
    parser.add_argument("--folder", type=Path, help="keeps shards and cache there for the next time")
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw:
        print(json.dumps(drawn(arguments)))
        return
    with tempfile.TemporaryDirectory() as made:
        arguments.folder = arguments.folder or Path(made)
        shards = arguments.folder / f"shards-{arguments.records}"
        if not shards.is_dir():
            write(shards, arguments.records)
        for name in ("encoding and first start", "start with the cache"):
            figures = started(arguments)
            print(f"{name}, {arguments.records:,} records, latents {arguments.latents}:")
            for what, value in figures.items():
                print(f"    {what:<32}{value}")


def write(shards: Path, count: int) -> None:
    """Write shards of one-coloured pictures, each record with the same words."""
    shards.mkdir(parents=True)
    rng = random.Random(0)
    pictures = []
    for _ in range(PICTURES):
        buffer = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(256) for _ in range(3))).save(buffer, "png")
        pictures.append(buffer.getvalue())
    for start in range(0, count, SHARD):
        with tarfile.open(shards / f"{start:09d}.tar", "w") as archive:
            for index in range(start, min(start + SHARD, count)):
                parts = {"source.png": rng.choice(pictures), "answer.png": rng.choice(pictures)}
                for name, data in (*parts.items(), ("txt", b"change the colour")):
                    member = tarfile.TarInfo(f"{index:09d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def started(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a process that draws batches, and return its figures."""
    command = [sys.executable, __file__, "--draw", "--folder", str(arguments.folder)]
    for name in ("records", "batches", "latents"):
        command += [f"--{name}", str(getattr(arguments, name))]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(told.splitlines()[-1])
    return figures


def drawn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make a job and draw its batches; return seconds and megabytes."""
    import psutil
    import torch

    from editkit import config
    from editkit.train.finetune import EditJob
    from editkit.train.settings import EditTrainConfig

    torch.set_num_threads(2)
    values = {
        "cache": str(arguments.folder / "cache"),
        "latents": arguments.latents,
        "data": {
            "name": "webdataset",
            "path": str(arguments.folder / f"shards-{arguments.records}"),
            "columns": {"source": "source.png", "answer": "answer.png", "instruction": "txt"},
        },
        "fit": {"output": str(arguments.folder / "run"), "batch": BATCH, "device": "cpu", "trackers": []},
    }

    def megabytes() -> int:
        return round(psutil.Process().memory_info().rss / 1e6)

    start = time.perf_counter()
    job = EditJob(config.build(EditTrainConfig, values))
    made = megabytes()
    job.batch(range(BATCH))
    first = time.perf_counter() - start
    held = [megabytes()]
    for number in range(1, arguments.batches):
        job.batch(range(number * BATCH, (number + 1) * BATCH))
        held.append(megabytes())
    return {
        "seconds to the first batch": round(first, 1),
        "MB when the job is made": made,
        f"MB after {min(WARM, len(held))} batches": held[min(WARM, len(held)) - 1],
        f"MB after {len(held)} batches": held[-1],
        "ms a batch": round(1000 * (time.perf_counter() - start - first) / max(1, arguments.batches - 1), 1),
    }


if __name__ == "__main__":
    main()
