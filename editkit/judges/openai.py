"""A judge behind an OpenAI-compatible chat endpoint that sees pictures: vLLM, SGLang, or a hosted one."""

import base64
import io
import json
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from editkit.errors import EditkitError, first_sentence
from editkit.judges.judge import Case, Judge, Verdict
from editkit.judges.question import question, read

RETRIED = (408, 409, 429, 500, 502, 503, 504)
LONGEST_REPLY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where the endpoint is and how patient to be. The key comes from the environment alone."""

    url: str = ""
    """Base address, such as http://localhost:8000/v1; OPENAI_BASE_URL where empty."""
    model: str = ""
    """The model's name there; the first one that the endpoint lists where empty."""
    timeout: float = 60.0
    """Seconds for one request, its whole reply included."""
    retries: int = 4
    """How often a request is repeated after a failure that may pass."""
    longest_wait: float = 30.0
    """Most seconds between two tries, whatever the endpoint asks for."""

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0 or self.longest_wait < 0:
            raise ValueError("timeout must be positive, retries and longest_wait not negative")


class EndpointJudge(Judge):
    """Sends both attempts and the original; whatever cannot be read as an answer is a tie, and said to be."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        url = config.url or os.environ.get("OPENAI_BASE_URL", "")
        if not url.startswith(("http://", "https://")):
            raise EditkitError(
                "The judge 'openai' needs an address; set OPENAI_BASE_URL, such as http://localhost:8000/v1."
            )
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key.isascii():
            raise EditkitError("OPENAI_API_KEY holds characters that no key has; set it anew.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=config.timeout)
        self._model = config.model

    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Ask which is better.

        Raises:
            EditkitError: where the endpoint cannot be reached or refuses.
        """
        start = time.perf_counter()
        pictures = [picture for picture in (case.source, first, second) if picture is not None]
        asked: dict[str, Any] = {"type": "text", "text": question(case)}
        content = [*({"type": "image_url", "image_url": {"url": _url(p)}} for p in pictures), asked]
        body = {
            "model": self._named(),
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": 64,
        }
        reply = self._ask("POST", "chat/completions", body)
        try:
            text = str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            text = str(reply)[:500]
        better, problem = read(text)
        return Verdict(better=better, reply=text, seconds=time.perf_counter() - start, problem=problem)

    def _named(self) -> str:
        if not self._model:
            try:
                self._model = str(self._ask("GET", "models")["data"][0]["id"])
            except (KeyError, IndexError, TypeError) as error:
                raise EditkitError("The judge's endpoint lists no models; name one with model=.") from error
        return self._model

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request, repeated while it fails in ways that pass."""
        for attempt in range(self.config.retries + 1):
            wait = min(0.5 * 2**attempt, self.config.longest_wait)
            try:
                status, headers, text = self._send(verb, path, body)
            except httpx.RequestError as error:
                problem = f"cannot be reached at {self._client.base_url} ({first_sentence(error)})"
            else:
                if status == 200:
                    return _json(text)
                problem = f"answers with status {status}"
                if status not in RETRIED:
                    break
                asked = headers.get("retry-after", "")
                if re.fullmatch(r"\d+(\.\d+)?", asked):
                    wait = min(float(asked), self.config.longest_wait)
            if attempt < self.config.retries:
                time.sleep(wait)
        raise EditkitError(f"The judge's endpoint {problem}; check its address, key and model, or wait.")

    def _send(self, verb: str, path: str, body: dict[str, Any] | None) -> tuple[int, httpx.Headers, bytes]:
        """A reply, read only as far and as long as is sensible."""
        deadline, text = time.perf_counter() + self.config.timeout, b""
        with self._client.stream(verb, path, json=body) as response:
            for chunk in response.iter_bytes():
                text += chunk
                if len(text) > LONGEST_REPLY:
                    raise httpx.ReadError("its reply is too long")
                if time.perf_counter() > deadline:
                    raise httpx.ReadTimeout("its reply takes too long")
            return response.status_code, response.headers, text


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text[:500].decode(errors="replace")


def _url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


CONFIG, JUDGE = EndpointConfig, EndpointJudge
