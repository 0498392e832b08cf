"""Read a request's body under limits of size and time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings

FIELDS, FIELD_BYTES = 64, 64 * 2**10
"""Largest number of a form's fields, and size of one that is no file."""
FEWER, UTF_8 = "send fewer or smaller parts", "send text in UTF-8"
ADVICE = (("Too many", FEWER), ("Part exceeded", FEWER), ("A field is no", UTF_8), ("A name is no", UTF_8))
"""What to do about a form, by how the parser's sentence begins."""
OTHER_ADVICE = "let the HTTP client write the form, and its Content-Type with the boundary"
DRAINED, DRAIN_SECONDS = 4, 5.0
"""How much more than the largest body is read and thrown away, and for how long, before a refusal is sent: a
client that is still sending may not read an answer."""


class GoneError(Exception):
    """An error for a client that has gone away."""


class WholeForm(MultiPartParser):
    """A parser of a form that knows whether its last boundary came; a client that broke off sent none.

    Attributes:
        ended: whether it came.
    """

    ended = False

    def on_part_end(self) -> None:
        """Check that a field is text, which would be read as Latin-1 where it is not what the form says.

        Raises:
            MultiPartException: where it is not.
        """
        part = self._current_part
        try:
            text = part.data.decode(self._charset) if part.file is None else ""
            (part.field_name + text).encode()  # half of a surrogate pair is no text
        except (UnicodeError, LookupError) as error:
            raise MultiPartException(f"A field is no text in {self._charset}") from error
        super().on_part_end()

    def on_end(self) -> None:
        """Note the last boundary."""
        self.ended = True


class Body:
    """The body of one request as it comes in.

    Args:
        headers: of the request.
        receive: gives ASGI's messages.
        settings: its limits.
    """

    def __init__(self, headers: Headers, receive: Receive, settings: ServerSettings) -> None:
        self.headers, self.settings = headers, settings
        self._receive, self._more, self._read = receive, True, 0
        self._ends = asyncio.get_running_loop().time() + settings.body_seconds

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def form(self) -> FormData:
        """Read a form; its files lie in memory or, where they are larger, in temporary files.

        Raises:
            RefusedError: where it is none, or too large or slow.
            GoneError: where the client goes away.
        """
        await self._check_kind("multipart/form-data")
        try:
            parser = WholeForm(
                self.headers,
                self._stream(),
                max_files=self.settings.pictures + 1,
                max_fields=FIELDS,
                max_part_size=FIELD_BYTES,
            )
            form = await parser.parse()
        except (MultiPartException, UnicodeError) as error:  # the latter of a field's name
            await self.drain()
            problem = getattr(error, "message", "A name is no text").rstrip(".")
            advice = next((advice for start, advice in ADVICE if problem.startswith(start)), OTHER_ADVICE)
            raise RefusedError(f"The form cannot be read ({problem}); {advice}.") from error
        if not parser.ended:  # a part that is cut off is left out by the parser
            await form.close()
            raise RefusedError("The form breaks off before its last boundary; send all of it.")
        return form

    async def json(self) -> dict[str, Any]:
        """Read an object.

        Raises:
            RefusedError: where it is none, or too large or slow.
            GoneError: where the client goes away.
        """
        await self._check_kind("application/json")
        text = bytearray()
        async for chunk in self._stream():
            text += chunk
            if len(text) > FIELDS * FIELD_BYTES:
                await self.drain()
                raise RefusedError(
                    "The JSON object is too large; it may hold text only.", 413, code="too_large"
                )
        try:
            found = json.loads(text, object_pairs_hook=_once)
            json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError) as error:  # errors of Unicode are ValueErrors
            raise RefusedError("The body is no JSON of Unicode text; send one object.") from error
        if not isinstance(found, dict):
            raise RefusedError("The body is no JSON object; send one.")
        return found

    async def gone(self) -> None:
        """Return when the client goes away, once the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def drain(self) -> None:
        """Read what is still coming, within limits, and throw it away."""
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._thrown_away(), DRAIN_SECONDS)

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        encoding, length = self.headers.get("content-encoding"), self.headers.get("content-length", "0")
        if encoding not in (None, "identity"):
            await self.drain()
            raise RefusedError(f"The body is encoded with {encoding}; send it as it is.", 415)
        if length.isdecimal() and int(length) > self.settings.body_bytes:
            await self._too_large()
        while self._more:
            left = self._ends - asyncio.get_running_loop().time()
            try:
                chunk = await asyncio.wait_for(self._next(), left)
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise RefusedError(
                    f"The body took over {self.settings.body_seconds:g} s; send it faster.", 408, code="slow"
                ) from error
            if self._read > self.settings.body_bytes:
                await self._too_large()
            yield chunk

    async def _check_kind(self, wanted: str) -> None:
        if self.kind != wanted:
            await self.drain()
            given = self.kind or "none"
            raise RefusedError(f"The body is of type {given}; send {wanted}.", 415, code="media_type")

    async def _thrown_away(self) -> None:
        while self._more and self._read < DRAINED * self.settings.body_bytes:
            await self._next()

    async def _too_large(self) -> None:
        await self.drain()
        allowed = f"{self.settings.body_bytes / 2**20:g} MB"
        raise RefusedError(f"The body is larger than {allowed}; send less.", 413, code="too_large")

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        self._read += len(chunk)
        return chunk


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys come once; JSON's readers would take the last one without a word.

    Raises:
        RefusedError: where one comes twice.
    """
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise RefusedError(f"{name[:80]} is given twice; give it once.", param=name[:80])
        made[name] = value
    return made
