"""A Hub that answers over HTTP with the files of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

NAME = "somebody/something"
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """Serves one folder as a repository; `asked` are the files that were fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked = folder, set[str]()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_HEAD(self) -> None:
        listing = self.path.startswith("/api/")
        path = unquote(self.path)
        name = path.partition(f"/resolve/{COMMIT}/")[2] or path.partition("/resolve/main/")[2]
        if listing:
            files = {
                str(path.relative_to(self.server.folder)): path.stat().st_size
                for path in self.server.folder.rglob("*")
                if path.is_file()
            }
            tree = [{"type": "file", "path": p, "size": size, "oid": p} for p, size in files.items()]
            about = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            body = json.dumps(tree if "/tree/" in self.path else about).encode()
        elif not (self.server.folder / name).is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        else:
            body = (self.server.folder / name).read_bytes()
            self.server.asked.add(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if listing else "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep stderr clean."""


@contextmanager
def serving(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a folder, and let huggingface_hub ask this server and keep what it gets in a cache of its own."""
    from huggingface_hub import close_session, constants

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    close_session()  # an open one keeps the proxy that it began with
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    with Hub(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield server
        server.shutdown()
