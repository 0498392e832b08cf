"""A server of OpenAI's protocol that answers questions of rubrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, int], "str | int | dict[str, Any]"]
"""The reply to a question's text and its number, a status to refuse with, or a whole body."""


@dataclass
class Served:
    """A running server.

    Attributes:
        url: its base address.
        asked: bodies of the requests.
        answer: makes the replies; may be changed.
    """

    url: str
    answer: Answer
    asked: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def texts(self) -> list[str]:
        return [body["messages"][0]["content"][-1]["text"] for body in self.asked]


@contextmanager
def serving(answer: Answer) -> Iterator[Served]:
    served = Served(url="", answer=answer)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.asked.append(body)
                number = len(served.asked)
            said = served.answer(body["messages"][0]["content"][-1]["text"], number)
            message = {"choices": [{"message": {"content": said}}], "model": "eyes-2026-01-01"}
            body = said if isinstance(said, dict) else message
            status, sent = (said, b"{}") if isinstance(said, int) else (200, json.dumps(body).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def options(served: Served, **more: Any) -> dict[str, Any]:
    """Options of the judge `openai` for it, impatient."""
    return {"url": served.url, "model": "eyes", "retries": 1, "longest_wait": 0.01, "timeout": 5.0, **more}
