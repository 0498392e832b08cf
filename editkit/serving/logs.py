"""Logs of one JSON object a line, and a number for each request that its answer and its log lines share."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from editkit.serving.metrics import Metrics

log = logging.getLogger("editkit.serving")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
GIVEN = re.compile(r"[\w.-]{1,64}")
"""A client's own request id, where it may stand in a log as it is."""
GONE = 499
"""Status in logs and metrics of a request whose client went away, as with nginx."""
PATHS = ("/v1/images/edits", "/v1/images/generations", "/v1/models", "/healthz", "/metrics")


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; what is given as `extra={"told": {...}}` becomes keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "told", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in told.items() if value is not None})


def set_up() -> None:
    """Write the logs of editkit, and of what it stands on, on stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("editkit.serving", "uvicorn", "asyncio", "python_multipart"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "editkit.serving" else logging.WARNING)


class Logged:
    """ASGI middleware: gives each request its id, and logs and counts its answer.

    Args:
        app: what answers.
        metrics: where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if GIVEN.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(name)
        start, status = time.perf_counter(), GONE

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = name
            await send(message)

        try:
            await self.app(scope, receive, numbered)
        finally:
            self._tell(scope, status, time.perf_counter() - start)
            request_id.reset(token)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in PATHS else "other"  # a client cannot invent metrics
        self.metrics.requests.labels(path, str(status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        told = {"method": scope["method"], "path": scope["path"][:200], "status": status}
        told |= {"seconds": round(seconds, 4), **scope.get("told", {})}
        client = scope.get("client")
        log.log(
            logging.INFO if path in PATHS[:3] or status >= 400 else logging.DEBUG,
            "request",
            extra={"told": {**told, "client": client[0] if client else None}},
        )
