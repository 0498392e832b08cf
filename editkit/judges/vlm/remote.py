"""Judge with a vision-language model behind an OpenAI-compatible endpoint: vLLM, SGLang or a hosted one."""

import base64
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from editkit.errors import EditkitError
from editkit.judges.base import REFUSAL, Case, Judge, JudgeError, Reply
from editkit.judges.vlm.prompt import question, read_reply
from editkit.search_types import Verdict

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Options of a remote judge: endpoint, model and limits. The key comes from the environment."""

    url: str = ""
    """Base address, such as http://localhost:8000/v1; OPENAI_BASE_URL where empty."""
    model: str = ""
    """Name of the model; the first one that the endpoint lists where empty."""
    max_new_tokens: int | None = 64
    """Largest number of tokens of a reply; more for a model that reasons first; the endpoint's own where
    null."""
    temperature: float | None = 0.0
    """Sampling temperature; the endpoint's own where null, which some models require."""
    timeout: float = 60.0
    """Seconds for one request with its whole reply."""
    retries: int = 4
    """Number of times that a request is repeated after a failure that may pass."""
    longest_wait: float = 30.0
    """Longest wait between two tries in seconds, whatever the endpoint asks for."""

    def __post_init__(self) -> None:
        if not (0 < self.timeout <= DAY and 0 <= self.longest_wait <= DAY):
            raise ValueError(f"timeout and longest_wait are seconds, positive and at most a day, {DAY:.0f}")
        if self.retries < 0:
            raise ValueError(f"retries must be 0 or more, not {self.retries}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1 or null, not {self.max_new_tokens}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"temperature must be null, 0 or more, not {self.temperature}")


class EndpointJudge(Judge):
    """Sends pictures and a question to an endpoint; an unreadable comparison is a tie, with a note."""

    follows_rubrics = True
    concurrent = True

    def __init__(self, config: EndpointConfig) -> None:
        url = config.url or os.environ.get("OPENAI_BASE_URL", "")
        if not url:
            raise EditkitError(
                "The judge 'openai' needs an address; set OPENAI_BASE_URL, such as http://localhost:8000/v1."
            )
        try:
            from editkit.judges.vlm.http import Endpoint
        except ImportError as error:
            raise EditkitError(
                "The judge 'openai' needs a package: pip install 'editkit[judges]'."
            ) from error
        self._endpoint = Endpoint(
            url,
            os.environ.get("OPENAI_API_KEY", ""),
            timeout=config.timeout,
            retries=config.retries,
            longest_wait=config.longest_wait,
        )
        self._model = config.model
        self._sampling = {
            key: value
            for key, value in (("temperature", config.temperature), ("max_tokens", config.max_new_tokens))
            if value is not None
        }

    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Ask the endpoint which edit is better.

        Raises:
            EditkitError: where the endpoint cannot be reached or refuses.
        """
        pictures = [picture for picture in (case.source, first, second) if picture is not None]
        reply, seconds = self._sent(question(case), pictures)
        text = _words(reply) or str(reply)[:500]
        better, problem = read_reply(text)
        return Verdict(better=better, reply=text, seconds=seconds, problem=problem)

    def ask(self, question: str, pictures: Sequence[Image.Image], attempt: int = 0) -> Reply:
        """Send a question; each attempt is a request of its own, which the endpoint samples.

        Raises:
            JudgeError: where the endpoint cannot be reached, refuses, or answers without words.
        """
        reply, seconds = self._sent(question, pictures)
        if not (text := _words(reply)):
            raise JudgeError(
                REFUSAL,
                f"The judge's endpoint answers without words ({_why(reply)}); give more max_new_tokens "
                "to a model that reasons first, or give the command again later.",
            )
        return Reply(text=text, seconds=seconds, model=_answered(reply))

    def _sent(self, question: str, pictures: Sequence[Image.Image]) -> tuple[Any, float]:
        """Send a question; return the endpoint's whole reply, and the seconds that it took."""
        start = time.perf_counter()
        asked: dict[str, Any] = {"type": "text", "text": question}
        content = [*({"type": "image_url", "image_url": {"url": _url(p)}} for p in pictures), asked]
        messages = [{"role": "user", "content": content}]
        reply = self._endpoint.chat(model=self._named(), messages=messages, **self._sampling)
        return reply, time.perf_counter() - start

    def identity(self) -> Mapping[str, Any]:
        """Model and sampling; the revision is what each reply says."""
        return {"model": self._named(), "revision": "as each reply says", **self._sampling}

    def _named(self) -> str:
        if not self._model:
            try:
                self._model = str(self._endpoint.models()["data"][0]["id"])
            except (KeyError, IndexError, TypeError) as error:
                raise EditkitError("The judge's endpoint lists no models; name one with model=.") from error
        return self._model


def _choice(reply: Any) -> Mapping[str, Any]:
    """The first choice of a reply; empty where there is none."""
    try:
        found = reply["choices"][0]
    except (KeyError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(reply: Any) -> str:
    """The words of a reply; empty where it has none."""
    message = _choice(reply).get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return "" if content is None or not str(content).strip() else str(content)


def _why(reply: Any) -> str:
    """Why a reply has no words; not in its own, which may repeat the key."""
    reason = _choice(reply).get("finish_reason")
    known = isinstance(reason, str) and re.fullmatch(r"[a-z_]{1,30}", reason)
    return f"finish_reason {reason}" if known else "no choices" if not _choice(reply) else "no finish_reason"


def _answered(reply: Any) -> str:
    """The model that a reply names, with the fingerprint of its system."""
    if not isinstance(reply, dict):
        return ""
    told = (reply.get("model"), reply.get("system_fingerprint"))
    return " ".join(each for each in told if isinstance(each, str))


def _url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


CONFIG, JUDGE = EndpointConfig, EndpointJudge
