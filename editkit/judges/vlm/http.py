"""Send requests to an OpenAI-compatible endpoint, limited in time and size, without showing secrets."""

import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import anyio.from_thread
import httpx2
import openai

from editkit.errors import EditkitError, first_sentence
from editkit.judges.base import NO_CONNECTION, RATE_LIMIT, REFUSAL, TIME_OUT, JudgeError

RETRIED = (408, 409, 429, 500, 502, 503, 504)
KINDS = {408: TIME_OUT, 429: RATE_LIMIT, 504: TIME_OUT}
"""Kind of failure of each status; any other is a refusal."""
LONGEST_REPLY = 1_000_000
"""Largest size of a reply in bytes, after decompression."""
REWRITTEN = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are no longer true once a reply is decompressed."""


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
        self._retries, self._longest_wait = retries, longest_wait
        key = key.strip()
        if not re.fullmatch("[!-~]*", key):
            raise EditkitError("OPENAI_API_KEY holds characters that no key has; set it again.")
        self._shown, password = _address(url)
        self._secrets = [secret for secret in (key, password) if secret]
        # The package requires a key; a local endpoint has none and gets none.
        self._headers = {} if key else {"Authorization": openai.Omit()}
        try:
            self._client = openai.AsyncOpenAI(
                base_url=url,
                api_key=key or "none",
                max_retries=0,  # the package's own retries know no `longest_wait`
                http_client=_BoundedClient(
                    timeout=timeout,
                    follow_redirects=False,
                    # Each question has an event loop of its own, and no connection outlives its loop.
                    limits=httpx2.Limits(max_keepalive_connections=0),
                ),
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:  # of a proxy in the environment
            raise EditkitError(
                f"The judge's endpoint cannot be reached ({self._hidden(first_sentence(error))}); "
                "check the proxy that HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name."
            ) from error

    def models(self) -> Any:
        """Return the endpoint's list of models; text where the reply is not JSON.

        Raises:
            JudgeError: where the endpoint cannot be reached or refuses.
        """
        listed = self._client.models.with_raw_response.list
        return self._ask(lambda: listed(extra_headers=self._headers))

    def chat(self, **body: Any) -> Any:
        """Return the reply to a chat request; text where it is not JSON.

        Raises:
            JudgeError: where the endpoint cannot be reached or refuses.
        """
        made = self._client.chat.completions.with_raw_response.create
        return self._ask(lambda: made(**body, extra_headers=self._headers))

    def _ask(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Send a request, and repeat it after failures that may pass."""
        for attempt in range(self._retries + 1):
            wait = min(0.5 * 2**attempt, self._longest_wait)
            try:
                # A thread with an event loop, since the caller may be inside of one, as in a notebook.
                with anyio.from_thread.start_blocking_portal() as portal:
                    return _json(portal.call(request).content)
            except openai.APIStatusError as error:
                kind = KINDS.get(error.status_code, REFUSAL)
                problem = f"answers with status {error.status_code}"
                if 400 <= error.status_code < 500 and (reason := _reason(_json(error.response.content))):
                    problem += f" ({first_sentence(Exception(self._hidden(reason)))})"
                if error.status_code not in RETRIED:
                    break
                asked = error.response.headers.get("retry-after", "")
                if re.fullmatch(r"\d+(\.\d+)?", asked):
                    wait = min(float(asked), self._longest_wait)
            except (
                openai.APIConnectionError,
                UnicodeError,
            ) as error:  # the latter for a host that is no name
                kind = TIME_OUT if isinstance(error, openai.APITimeoutError) else NO_CONNECTION
                cause = first_sentence(error.__cause__ or error)
                problem = f"cannot be reached at {self._shown} ({self._hidden(cause)})"
            if attempt < self._retries:
                time.sleep(wait)
        raise JudgeError(kind, f"The judge's endpoint {problem}; check its address, key and model, or wait.")

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return text


class _BoundedClient(httpx2.AsyncClient):
    """Reads a whole reply of at most `LONGEST_REPLY` bytes; `timeout` limits all of it, not each byte."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            with anyio.fail_after(self.timeout.read):
                return await self._read(await super().send(request, **{**options, "stream": True}))
        except TimeoutError as error:
            raise httpx2.ReadTimeout("its reply takes too long") from error

    async def _read(self, reply: httpx2.Response) -> httpx2.Response:
        text = b""
        try:
            async for chunk in reply.aiter_bytes():
                text += chunk
                if len(text) > LONGEST_REPLY:
                    raise httpx2.ReadError("its reply is too long")
        finally:
            await reply.aclose()
        headers = [(name, value) for name, value in reply.headers.items() if name not in REWRITTEN]
        return httpx2.Response(reply.status_code, headers=headers, content=text, request=reply.request)


def _address(url: str) -> tuple[str, str]:
    """Split an address into the part that may be shown and its password."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(url)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise EditkitError(
            "The address of the judge's endpoint is not a URL; give one such as http://localhost:8000/v1."
        ) from error
    return f"{parts.scheme}://{host}{port}{parts.path}", unquote(parts.password or "")


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text[:500].decode(errors="replace")


def _reason(reply: Any) -> str:
    """Return the reason for a refusal, in the form of OpenAI, vLLM or FastAPI; '' where there is none."""
    while isinstance(reply, dict):
        reply = next((reply[key] for key in ("error", "message", "detail") if reply.get(key)), "")
    return " ".join(reply.split()) if isinstance(reply, str) and reply.isprintable() else ""
