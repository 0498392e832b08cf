"""Operation of the server: the key, the limits of time and queue, and a stop that loses nothing."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.pictures import image
from tests.serving.server import Served, served
from tests.serving.uploads import WORDS, file

KEY = "a key"
LONG = {"n": "10", "steps": "100"}
"""An edit that takes longer than any timeout here."""


def asked(server: Served, **fields: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/images/edits",
        files={"image": file(image(24, 24))},
        data={"prompt": WORDS, "steps": "1"} | fields,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=120,
    )


def held(server: Served, wanted: bool) -> None:
    """Wait until the server holds something, or nothing."""
    for _ in range(1200):
        told = httpx.get(f"{server.url}/metrics", timeout=60).text
        if ("editkit_edits_held 0.0" not in told) == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(told)


@pytest.mark.slow
def test_key_queue_timeout_and_stop(tmp_path: Path) -> None:
    options = ("--api-key", KEY, "--queue", 12, "--timeout", 6, "--method", "kontext", "--device", "cpu,cpu")
    with served(tmp_path, *options) as server, ThreadPoolExecutor(4) as threads:
        for key in ("wrong", "a keys", "ä"):
            with pytest.raises(openai.AuthenticationError) as refused:
                server.client(key if key.isascii() else "a").models.list()
            assert refused.value.body["code"] == "invalid_api_key"  # type: ignore[index]
        for given, status in (("", 401), (KEY, 401), (f"Basic {KEY}", 401), (f"bearer {KEY}", 200)):
            answer = httpx.get(f"{server.url}/v1/models", headers={"Authorization": given})
            assert answer.status_code == status, given
        assert [model.id for model in server.client(KEY).models.list()] == ["kontext"]
        health = httpx.get(f"{server.url}/healthz").json()
        assert health["devices"] == ["cpu", "cpu"]

        slow: Any = threads.submit(asked, server, **LONG)
        held(server, True)
        busy = asked(server, n="3")
        assert busy.status_code == 429
        assert int(busy.headers["Retry-After"]) >= 1
        assert busy.json()["error"]["code"] == "rate_limit_exceeded"
        assert slow.result().status_code == 504
        held(server, False)
        assert asked(server).status_code == 200

        last = threads.submit(asked, server, n="4", steps="3")
        held(server, True)
        server.process.send_signal(signal.SIGTERM)
        answer = last.result()
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) == 4
        assert server.process.wait(60) == 0
        told = [line["message"] for line in server.lines()]
        assert "closing" in told
        assert not any(line["level"] == "error" for line in server.lines())


@pytest.mark.slow
def test_a_stop_returns_what_takes_too_long(tmp_path: Path) -> None:
    with served(tmp_path, "--grace", 1, "--method", "kontext") as server, ThreadPoolExecutor(1) as threads:
        slow = threads.submit(asked, server, **LONG)
        held(server, True)
        server.process.send_signal(signal.SIGTERM)
        answer = slow.result()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "closing"
        assert "Retry-After" in answer.headers
        assert server.process.wait(60) == 0


def test_a_family_that_edits_nothing_is_served(tmp_path: Path, random_text_pipeline: Path) -> None:
    """The log says which methods are left out and why."""
    with served(tmp_path, "--backbone", random_text_pipeline) as server:
        left = {line["name"]: line["problem"] for line in server.lines()}
        assert set(left) == {"icedit", "aceplus"}
        assert all(re.search("no role .* called 'fill'", problem) for problem in left.values())
        client = server.client()
        assert [model.id for model in client.models.list()] == ["kontext"]
        answer = client.images.generate(prompt="a circle", size="32x32", extra_body={"steps": 1})  # type: ignore[arg-type]
        assert answer.data
        with pytest.raises(openai.UnprocessableEntityError, match=r"no role .* called 'kontext'"):
            client.images.edit(image=file(image(24, 24)), prompt=WORDS, extra_body={"steps": 1})
