"""`editkit serve` in a process of its own, for tests that ask it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil

from tests import ROOT
from tests.demos.page_server import free_port

READY = "editkit serve is ready at "


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that is running.

    Attributes:
        port: where it listens, on this machine.
        log: what it said on stderr.
        process: it.
    """

    port: int
    log: Path
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "any") -> openai.OpenAI:
        """OpenAI's own client, which does not ask again."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def memory(self) -> int:
        """Bytes of its resident memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def served(folder: Path, *options: object, **environment: str) -> Iterator[Served]:
    """A server, until the block ends; it must then end by itself."""
    port, log = free_port(), folder / "stderr.txt"
    arguments = ("--port", port, "--device", "cpu", *options)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "editkit", "serve", *map(str, arguments)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(READY), log.read_text()
        try:
            yield Served(port=port, log=log, process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=180)
