"""Seconds from start to first batch, and memory, of a run on many encoded records.

Writes 64x64 pictures, encodes them with `tiny`, and then starts a run anew in a process of its own, which
draws batches. Prints seconds, and the process's memory at the first batch and at the last.

    python benchmarks/streaming.py [--records 2000] [--batches 200] [--latents cached] [--folder FOLDER]
    python benchmarks/streaming.py --records 1000000 --source jsonl --encode 64

The second encodes 64 records, and writes their file again for all others under their own indices. Start and
memory are those of a million records that were all encoded, which takes hours on a CPU.
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
    parser.add_argument("--source", choices=("webdataset", "jsonl"), default="webdataset")
    parser.add_argument("--encode", type=int, help="encode that many, which divide --records; repeat them")
    parser.add_argument("--folder", type=Path, help="keeps shards and cache there for the next time")
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw:
        print(json.dumps(drawn(arguments)))
        return
    with tempfile.TemporaryDirectory() as made:
        arguments.folder = arguments.folder or Path(made)
        data = arguments.folder / f"{arguments.source}-{arguments.records}"
        if not data.is_dir():
            {"webdataset": write, "jsonl": write_lines}[arguments.source](data, arguments.records)
        for name in ("encoding and first start", "start with the cache"):
            figures = started(arguments)
            print(f"{name}, {arguments.records:,} records, latents {arguments.latents}:")
            for what, value in figures.items():
                print(f"    {what:<32}{value}")


def write(shards: Path, count: int) -> None:
    """Write shards of one-coloured pictures, each record with the same words."""
    shards.mkdir(parents=True)
    rng = random.Random(0)
    pictures = [coloured(rng) for _ in range(PICTURES)]
    for start in range(0, count, SHARD):
        with tarfile.open(shards / f"{start:09d}.tar", "w") as archive:
            for index in range(start, min(start + SHARD, count)):
                parts = {"source.png": rng.choice(pictures), "answer.png": rng.choice(pictures)}
                for name, data in (*parts.items(), ("txt", b"change the colour")):
                    member = tarfile.TarInfo(f"{index:09d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def write_lines(folder: Path, count: int) -> None:
    """Write one-coloured pictures and a line for each record."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for number in range(PICTURES):
        (folder / f"{number}.png").write_bytes(coloured(rng))
    with (folder / "train.jsonl").open("w") as lines:
        for _ in range(count):
            names = {name: f"{rng.randrange(PICTURES)}.png" for name in ("source", "answer")}
            lines.write(json.dumps(names | {"instruction": "change the colour"}) + "\n")


def coloured(rng: random.Random) -> bytes:
    """A picture file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(256) for _ in range(3))).save(buffer, "png")
    return buffer.getvalue()


def started(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a process that draws batches, and return its figures."""
    command = [sys.executable, __file__, "--draw", "--folder", str(arguments.folder)]
    for name in ("records", "batches", "latents", "source"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.encode is not None:
        command += ["--encode", str(arguments.encode)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(told.splitlines()[-1])
    return figures


def source(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the dataset."""
    folder = arguments.folder / f"{arguments.source}-{arguments.records}"
    if arguments.source == "jsonl":
        return {"name": "jsonl", "path": str(folder / "train.jsonl")}
    columns = {"source": "source.png", "answer": "answer.png", "instruction": "txt"}
    return {"name": "webdataset", "path": str(folder), "columns": columns}


def repeat_chunks(first: int) -> None:
    """Let a cache encode the first records alone, and write their files again for the others."""
    from safetensors.torch import load_file, save_file

    from editkit import atomic_files
    from editkit.data import latent_cache
    from editkit.data.chunk_files import opened
    from editkit.data.latent_chunks import CHUNK, ChunkEncoder, digest

    class Repeated(ChunkEncoder):
        def __call__(self) -> None:
            total = len(self.dataset)
            assert total % first == 0, "--encode must divide --records"
            assert first <= CHUNK, "--encode must be at most a file's records"
            self.dataset = [self.dataset[place] for place in range(first)]
            path = self.chunks / f"{digest(list(range(first)))}.safetensors"
            if not path.exists():
                super().__call__()
            with opened(path) as chunk:
                header = chunk.header
            tensors = load_file(path)
            for start in range(first, total, first):
                indices = list(range(start, start + first))
                about = {"about": json.dumps(header | {"indices": indices})}
                target = self.chunks / f"{digest(indices)}.safetensors"
                if not target.exists():  # as a run that was stopped left it
                    with atomic_files.beside(target) as partial:
                        save_file(tensors, partial, about)

    latent_cache.ChunkEncoder = Repeated  # type: ignore[misc]


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
        "data": source(arguments),
        "fit": {"output": str(arguments.folder / "run"), "batch": BATCH, "device": "cpu", "trackers": []},
    }

    if arguments.encode is not None:
        repeat_chunks(arguments.encode)

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
