"""`editkit demo` in a process of its own, for tests that visit its page."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

READY = "editkit demo is ready at "


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that is being served.

    Attributes:
        url: where.
        seconds: from the start of the process to its being ready.
        log: what the server said on stderr.
        folder: where it runs, and keeps its temporary files.
    """

    url: str
    seconds: float
    log: Path
    folder: Path


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextmanager
def served(folder: Path, *options: object, **environment: str) -> Iterator[Page]:
    """The page, until the block ends."""
    log, start = folder / "stderr.txt", time.perf_counter()
    command = [sys.executable, "-m", "editkit", "demo", "--port", str(free_port()), *map(str, options)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
            | environment,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(READY), log.read_text()
        try:
            url = line.removeprefix(READY).split()[0]
            yield Page(url=url, seconds=time.perf_counter() - start, log=log, folder=folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
