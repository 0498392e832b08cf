"""The server's throughput with and without dynamic batches, its tail under load, and its cost over the API.

python benchmarks/serving.py
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import torch
from PIL import Image

import editkit

ROOT = Path(__file__).resolve().parent.parent
PICTURE, WORDS = ROOT / "demos/samples/red_circle.png", "make the red circle blue"
CONNECTIONS = 16
FASTEST, TAIL, OVERHEAD = 3.0, 3.0, 1.1
"""What is aimed at: throughput of batches over single requests, p99 over p50, seconds over the API's."""


def main() -> None:
    """Print the ratios with the load that made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=160, help="of each load")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    size = "x".join(map(str, Image.open(PICTURE).size))
    print(f"load: {asked.requests} edits of {size}, {asked.steps} steps, tiny, {asked.threads} threads")
    with served(asked.threads, asked.batch) as url:
        load(url, CONNECTIONS, CONNECTIONS, asked.steps)  # everything is loaded and warm
        single, one = load(url, max(8, asked.requests // 8), 1, asked.steps)
        batched, many = load(url, asked.requests, CONNECTIONS, asked.steps)
    own, together = api(max(8, asked.requests // 8), asked.steps, asked.batch)
    p50, p99 = statistics.median(many), sorted(many)[min(len(many) - 1, len(many) * 99 // 100)]
    print(f"one request at a time: {single:.2f} edits/s, p50 {statistics.median(one):.3f} s")
    print(f"{CONNECTIONS} connections: {batched:.2f} edits/s, p50 {p50:.3f} s, p99 {p99:.3f} s")
    print(f"Python API: p50 {own:.3f} s; in batches of {asked.batch} {together:.3f} s for each edit")
    print(f"batches / single, the model alone: {own / together:.2f}")
    print(f"batches / single: {batched / single:.2f} (aimed at: {FASTEST:g} or more)")
    print(f"p99 / p50: {p99 / p50:.2f} (aimed at: {TAIL:g} or less)")
    print(f"server / API: {statistics.median(one) / own:.3f} (aimed at: {OVERHEAD:g} or less)")


@contextmanager
def served(threads: int, batch: int) -> Iterator[str]:
    """A server of the embedded model in a process of its own; gives its address."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "editkit", "serve", "--device", "cpu", "--method", "kontext"]
    command += ["--port", str(port), "--batch", str(batch)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline(), "the server did not start"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def load(url: str, count: int, connections: int, steps: int) -> tuple[float, list[float]]:
    """Send requests over some connections; return edits a second, and the seconds of each."""
    buffer = BytesIO()
    Image.open(PICTURE).save(buffer, "PNG")
    picture = buffer.getvalue()
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(connections) as threads:

        def one(seed: int) -> float:
            start = time.perf_counter()
            data = {"prompt": WORDS, "seed": str(seed), "steps": str(steps)}
            answer = client.post(f"{url}/v1/images/edits", files={"image": ("a.png", picture)}, data=data)
            answer.raise_for_status()
            return time.perf_counter() - start

        start = time.perf_counter()
        seconds = list(threads.map(one, range(count)))
        return count / (time.perf_counter() - start), seconds


def api(count: int, steps: int, batch: int) -> tuple[float, float]:
    """Median seconds of an edit in this process, alone and in a batch, written as PNG as the server does."""
    from editkit.imaging import images
    from editkit.inference import inputs

    editor = editkit.load("tiny", "cpu")

    def edit(size: int, seed: int) -> float:
        start = time.perf_counter()
        made = [
            editkit.EditRequest(image=PICTURE, instruction=WORDS, seed=seed + place, steps=steps)
            for place in range(size)
        ]
        for result in editor.run_batch([inputs.prepare(request) for request in made]):
            assert result.image is not None
            images.encode(result.image, images.PNG, result.recipe)
        return (time.perf_counter() - start) / size

    edit(1, 0)  # warm
    alone = [edit(1, seed) for seed in range(count)]
    together = [edit(batch, place * batch) for place in range(max(2, count // batch))]
    return statistics.median(alone), statistics.median(together)


if __name__ == "__main__":
    main()
