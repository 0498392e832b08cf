"""A server that answers judges, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.judges.endpoint import SERVER


@pytest.fixture(scope="package")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)]) as process:
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def server(endpoint: str) -> str:
    """The endpoint, which was asked nothing yet."""
    urllib.request.urlopen(f"{endpoint}/forget", timeout=5).close()
    return endpoint
