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
from editkit.imaging import images
from editkit.inference import inputs

ROOT = Path(__file__).resolve().parent.parent
PICTURE, WORDS = ROOT / "demos/samples/red_circle.png", "make the red circle blue"
METHOD = "kontext"
CONNECTIONS = 16
FASTEST, TAIL, OVERHEAD = 3.0, 3.0, 1.1
"""Bars: throughput of batches over single requests, p99 over p50, seconds over the API's."""


def main() -> None:
    """Print the ratios with the load that made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=160, help="over 16 connections; an eighth one by one")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    size = "x".join(map(str, Image.open(PICTURE).size))
    print(f"load: {asked.requests} edits of {size}, {asked.steps} steps, tiny, {asked.threads} threads")
    own, alone, over = Own(asked.steps), [], []
    with served(asked.threads, asked.batch) as url:
        load(url, CONNECTIONS, CONNECTIONS, asked.steps)  # everything is loaded and warm
        for seed in range(max(8, asked.requests // 8)):  # in turn, so that both meet the same machine
            over += load(url, 1, 1, asked.steps)[1]
            alone.append(own.seconds(seed, 1))
        batched, many = load(url, asked.requests, CONNECTIONS, asked.steps)
    own.seconds(0, asked.batch)  # warm in this size too
    products = statistics.median(own.seconds_of_products(asked.batch) for _ in range(3)) / asked.batch
    together = statistics.median(own.seconds(0, asked.batch) for _ in range(3)) / asked.batch
    single, api = statistics.median(over), statistics.median(alone)
    p50, p99 = statistics.median(many), sorted(many)[min(len(many) - 1, len(many) * 99 // 100)]
    print(f"one request at a time: {1 / single:.2f} edits/s, p50 {single:.3f} s")
    print(f"{CONNECTIONS} connections: {batched:.2f} edits/s, p50 {p50:.3f} s, p99 {p99:.3f} s")
    print(f"Python API: p50 {api:.3f} s; in batches of {asked.batch} {together:.3f} s for each edit")
    print(f"batches / single, the model alone: {api / together:.2f}")
    print(f"the transformer's linear layers alone: {products:.3f} s for each edit, in the same batches")
    print(f"batches / single, if a batch took no more than these: {api / products:.2f}")
    print(f"batches / single: {batched * single:.2f} (aimed at: {FASTEST:g} or more)")
    print(f"p99 / p50: {p99 / p50:.2f} (aimed at: {TAIL:g} or less)")
    print(f"server / API: {single / api:.3f} (aimed at: {OVERHEAD:g} or less)")


@contextmanager
def served(threads: int, batch: int) -> Iterator[str]:
    """A server of the embedded model in a process of its own; gives its address."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "editkit", "serve", "--device", "cpu", "--method", METHOD]
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


class Own:
    """The same edits in this process, written as PNG as the server does."""

    def __init__(self, steps: int) -> None:
        self.editor, self.steps = editkit.load("tiny", "cpu"), steps
        self.seconds(0, 1)  # warm

    def seconds(self, seed: int, count: int) -> float:
        """Seconds of a batch of edits."""
        start = time.perf_counter()
        requests = [
            editkit.EditRequest(
                image=PICTURE, instruction=WORDS, method=METHOD, seed=seed + place, steps=self.steps
            )
            for place in range(count)
        ]
        for result in self.editor.run_batch([inputs.prepare(request) for request in requests]):
            assert result.image is not None
            images.encode(result.image, images.PNG, result.recipe)
        return time.perf_counter() - start

    def seconds_of_products(self, count: int) -> float:
        """Seconds that a batch spends in the linear layers of the transformer."""
        started: list[float] = []
        spent: list[float] = []
        hooks = []
        for layer in self.editor.backbone.transformer(METHOD).modules():
            if isinstance(layer, torch.nn.Linear):
                hooks.append(layer.register_forward_pre_hook(lambda *_: started.append(time.perf_counter())))
                hooks.append(
                    layer.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started.pop()))
                )
        self.seconds(0, count)
        for hook in hooks:
            hook.remove()
        return sum(spent)


if __name__ == "__main__":
    main()
