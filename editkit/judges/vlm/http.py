"""Requests to an endpoint that answers in JSON: patient, bounded in time and size, silent about secrets."""

import contextlib
import json
import re
import socket
import threading
import time
from typing import Any

import httpx

from editkit.errors import EditkitError, first_sentence

RETRIED = (408, 409, 429, 500, 502, 503, 504)
LONGEST_REPLY = 1_000_000


class Endpoint:
    """A base address and a key.

    Args:
        url: http or https; a user and a password in it are used and never shown.
        key: sent as a bearer token, if any.
        timeout: seconds for one request, its whole reply included.
        retries: how often a request is repeated after a failure that may pass.
        longest_wait: most seconds between two tries.

    Raises:
        EditkitError: for an address or a key that cannot be one.
    """

    def __init__(self, url: str, key: str, *, timeout: float, retries: int, longest_wait: float) -> None:
        self._timeout, self._retries, self._longest_wait = timeout, retries, longest_wait
        key = key.strip()
        if not re.fullmatch("[!-~]*", key):
            raise EditkitError("OPENAI_API_KEY holds characters that no key has; set it anew.")
        try:
            address = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError):
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise EditkitError(
                "The judge's endpoint has an address that is none; give one such as http://localhost:8000/v1."
            )
        self._shown = str(address.copy_with(userinfo=b"", query=None, fragment=None))
        self._secrets = [secret for secret in (key, address.password) if secret]
        try:
            self._client = httpx.Client(
                base_url=address,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=timeout,
                # A deadline sees connections when they are made.
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:  # of a proxy in the environment
            raise EditkitError(
                f"The judge's endpoint cannot be asked ({self._hidden(first_sentence(error))}); "
                "check the proxy that HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name."
            ) from error

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request, repeated while it fails in ways that pass; text where the reply is no JSON.

        Raises:
            EditkitError: where the endpoint cannot be reached or refuses.
        """
        for attempt in range(self._retries + 1):
            wait = min(0.5 * 2**attempt, self._longest_wait)
            try:
                status, headers, text = self._send(verb, path, body)
            except (httpx.RequestError, UnicodeError) as error:  # the latter for a host that is no name
                problem = f"cannot be reached at {self._shown} ({self._hidden(first_sentence(error))})"
            else:
                if status == 200:
                    return _json(text)
                problem = f"answers with status {status}"
                if 400 <= status < 500 and (reason := _reason(_json(text))):
                    problem += f" ({first_sentence(Exception(self._hidden(reason)))})"
                if status not in RETRIED:
                    break
                asked = headers.get("retry-after", "")
                if re.fullmatch(r"\d+(\.\d+)?", asked):
                    wait = min(float(asked), self._longest_wait)
            if attempt < self._retries:
                time.sleep(wait)
        raise EditkitError(f"The judge's endpoint {problem}; check its address, key and model, or wait.")

    def _send(self, verb: str, path: str, body: dict[str, Any] | None) -> tuple[int, httpx.Headers, bytes]:
        """A reply, read only as far and as long as is sensible."""
        text = b""
        with _Deadline(self._timeout) as deadline:
            try:
                with self._client.stream(
                    verb, path, json=body, extensions={"trace": deadline.trace}
                ) as response:
                    for chunk in response.iter_bytes():
                        text += chunk
                        if len(text) > LONGEST_REPLY:
                            raise httpx.ReadError("its reply is too long")
            except httpx.TransportError as error:
                if deadline.passed:
                    raise httpx.ReadTimeout("its reply takes too long") from error
                raise
            if deadline.passed:  # a connection that was cut may look like a reply's end
                raise httpx.ReadTimeout("its reply takes too long")
            return response.status_code, response.headers, text

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return text


class _Deadline:
    """Cuts a connection after some seconds, since httpx counts each read of a byte alone."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """What httpx tells of a request; a new connection is among it, plain first and then encrypted."""
        if hasattr(stream := info.get("return_value"), "get_extra_info"):
            self._stream = stream
            if self.passed:
                self._cut()

    def _cut(self) -> None:
        self.passed = True
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text[:500].decode(errors="replace")


def _reason(reply: Any) -> str:
    """Why a request was refused, where the reply says so as OpenAI's, vLLM's or FastAPI's do."""
    while isinstance(reply, dict):
        reply = next((reply[key] for key in ("error", "message", "detail") if reply.get(key)), "")
    return " ".join(reply.split()) if isinstance(reply, str) and reply.isprintable() else ""
