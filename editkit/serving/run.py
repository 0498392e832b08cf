"""Start the server: load the weights, listen, and stop without losing what is held."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from editkit import registry
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.request import EditRequest
from editkit.serving import logs
from editkit.serving.app import Server
from editkit.serving.lane import Lane
from editkit.serving.settings import ServerSettings

log = logging.getLogger("editkit.serving")
CONNECTIONS = 512
HEADER_SECONDS = 15.0
"""Longest time, in seconds, from a connection to the end of its first request's headers."""
ANSWER_SECONDS = 5
"""Longest time, in seconds, for clients to read their answers once everything held is done."""
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
USUAL = EditRequest(image=None, instruction="").method
Mount = Callable[[Server], AbstractContextManager[None]]


class Protocol(H11Protocol):
    """uvicorn's protocol with a limit of time for the first headers, which a client may send byte by byte."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(HEADER_SECONDS, self._late)

    def handle_events(self) -> None:
        """Stop the clock at the first request."""
        super().handle_events()
        if self.cycle is not None:
            self._clock.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(LATE)
            self.transport.close()


class Graceful(uvicorn.Server):
    """uvicorn's server; told to stop, it refuses new work, finishes what it holds, and returns the rest."""

    def __init__(self, config: uvicorn.Config, served: Server) -> None:
        super().__init__(config)
        self.served = served

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            at = f"http://{self.config.host}:{self.config.port}"
            print(f"editkit serve is ready at {at} (Ctrl-C ends it)", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is held within the grace; then close, whatever clients still listen."""
        queue, end = self.served.queue, time.monotonic() + self.served.settings.grace
        queue.close()  # new requests are answered with 503 and may try another server
        log.info("closing", extra={"told": {"held": queue.size}})
        while queue.size and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, queue.end)
        await super().shutdown(sockets)


def offered(lanes: Sequence[Lane], names: Sequence[str]) -> tuple[str, ...]:
    """Load the methods' weights on every device; return the methods that are offered, the default first.

    Args:
        lanes: the devices.
        names: methods to offer; where none is named, all that can be loaded.

    Raises:
        EditkitError: where a named one cannot be loaded, or none can.
    """
    known = [USUAL, *(name for name in registry.method_names() if name != USUAL)]
    found: list[str] = []
    problem: EditkitError | None = None
    for name in names or known:
        registry.method(name)
        try:
            for lane in lanes:
                _check_role(lane.editor, name)
                lane.warm(name)
        except EditkitError as error:
            if names:
                raise
            problem = error
            log.warning("method left out", extra={"told": {"name": name, "problem": str(error)}})
        else:
            found.append(name)
    if not found and problem is not None:
        raise problem
    return tuple(dict.fromkeys(found))


def _check_role(editor: Editor, name: str) -> None:
    """Check that a backbone has a method's role; the default method alone makes pictures without its own."""
    record, options = editor.method(name)
    if name != USUAL:
        editor.backbone.role(record.role_under(options))


def made(
    load: Callable[[str | None], Editor],
    devices: Sequence[str | None],
    methods: Sequence[str],
    settings: ServerSettings,
) -> Server:
    """Make the server, its weights loaded; from here on logs are lines of JSON.

    Args:
        load: gives the editor of a device.
        devices: one worker each.
        methods: to offer; all that can be loaded where empty.
        settings: the limits.

    Raises:
        EditkitError: where weights cannot be loaded or a device is unknown.
    """
    logs.set_up()
    # Recipes go to clients, who need not know where the operator's adapters are.
    editors = [load(device).configured(None, private=True) for device in devices]
    lanes = [Lane(editor, settings.adapters) for editor in editors]
    return Server(lanes, offered(lanes, methods), settings)


def serve(server: Server, host: str, port: int, mount: Mount | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        server: with its weights loaded.
        host: address to listen at.
        port: to listen at.
        mount: adds to the app while it is served.
    """
    # uvicorn raises the signal again once it has closed; a server that did as it was told ends with 0.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        _run(server, host, port, mount)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(server: Server, host: str, port: int, mount: Mount | None) -> None:
    with mount(server) if mount is not None else nullcontext():
        config = uvicorn.Config(
            server.app,
            host=host,
            port=port,
            http=Protocol,
            log_config=None,
            access_log=False,
            limit_concurrency=CONNECTIONS,
            server_header=False,
            timeout_graceful_shutdown=ANSWER_SECONDS,
        )
        Graceful(config, server).run()
