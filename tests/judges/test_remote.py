"""The judge behind an endpoint, against a real server in another process."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import editkit
from editkit import judges
from editkit.judges import Case, Verdict
from tests.judges.endpoint import SERVER
from tests.pictures import image

WORDS = "make the red circle blue"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)]) as process:
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def server(endpoint: str) -> str:
    """The endpoint, which was asked nothing yet."""
    urllib.request.urlopen(f"{endpoint}/forget", timeout=5).close()
    return endpoint


def logged(server: str) -> list[dict[str, Any]]:
    return json.loads(urllib.request.urlopen(f"{server}/log", timeout=5).read())


def ask(url: str, **options: Any) -> Verdict:
    chosen = {"url": url, "timeout": 0.5, "retries": 2, "longest_wait": 0.2} | options
    case = Case(source=image(32, 32), instruction=WORDS)
    return judges.load_judge("openai", chosen).compare(case, image(32, 32, 1), image(32, 32, 2))


@pytest.mark.parametrize(
    ("kind", "better", "problem"),
    [
        ("good", "second", ""),
        ("other", "first", ""),
        ("busy", "first", ""),
        ("vague", "", "names no single answer"),
        ("broken", "", "names no single answer"),
        ("odd", "", "names no single answer"),
    ],
)
def test_replies(server: str, kind: str, better: str, problem: str) -> None:
    verdict = ask(f"{server}/{kind}")
    assert verdict.better == better
    assert problem in verdict.problem
    assert bool(verdict.problem) == bool(problem)
    assert verdict.reply
    assert verdict.seconds > 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("refuses", "answers with status 401"),
        ("down", "answers with status 503"),
        ("slow", "cannot be reached"),
        ("drips", "its reply takes too long"),
        ("drips_headers", "its reply takes too long"),
        ("endless", "its reply is too long"),
    ],
)
def test_failures_end_in_one_sentence(server: str, kind: str, sentence: str) -> None:
    start = time.perf_counter()
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        ask(f"{server}/{kind}", model="eyes", retries=1)
    assert str(caught.value).endswith(".")
    assert time.perf_counter() - start < 2.5  # twice `timeout`, and a wait between


def test_no_server_at_all() -> None:
    with pytest.raises(editkit.EditkitError, match="cannot be reached at"):
        ask("http://127.0.0.1:9", retries=0)


def test_a_caller_within_an_event_loop(server: str) -> None:
    """As in a notebook."""

    async def cell() -> Verdict:
        return ask(f"{server}/good")

    assert asyncio.run(cell()).better == "second"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "editkit.judges.vlm.http", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(editkit.EditkitError, match=r"editkit\[judges\]"):
        ask("http://127.0.0.1:9")


def test_what_is_sent(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server}/good")
    ask("")
    ask("", model="named")
    log = logged(server)
    assert [entry["model"] for entry in log] == ["eyes", "named"]
    assert log[0]["key"] == "Bearer secret"
    assert (log[0]["max_tokens"], log[0]["temperature"]) == (64, 0)
    assert log[0]["kinds"] == ["image_url"] * 3 + ["text"]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"max_new_tokens": 2000, "temperature": 0.5}, (2000, 0.5)),
        ({"max_new_tokens": None, "temperature": None}, (None, None)),
    ],
)
def test_sampling_is_an_option(server: str, options: dict[str, Any], sent: tuple[Any, Any]) -> None:
    ask(f"{server}/good", **options)
    (entry,) = logged(server)
    assert (entry["max_tokens"], entry["temperature"]) == sent


def test_a_server_that_asks_for_an_hour_waits_no_longer_than_allowed(server: str) -> None:
    start = time.perf_counter()
    assert ask(f"{server}/full", longest_wait=0.3).better == "first"
    assert 0.3 <= time.perf_counter() - start < 3
    assert len(logged(server)) == 2


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("moved", "answers with status 307"),
        ("bomb", "its reply is too long"),
        ("bad_gzip", "cannot be reached"),
        ("cut_short", "cannot be reached"),
    ],
)
def test_malicious_replies_are_one_sentence(server: str, kind: str, sentence: str) -> None:
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        ask(f"{server}/{kind}", retries=0, timeout=5.0)
    assert str(caught.value).endswith(".")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["deep", "huge_number"])
def test_malicious_json_is_a_tie(server: str, kind: str) -> None:
    found = ask(f"{server}/{kind}", timeout=5.0)
    assert found.better == ""
    assert found.problem


def test_escape_sequences_are_data(server: str) -> None:
    found = ask(f"{server}/escapes")
    assert found.better == "second"


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTP_PROXY"])
def test_a_proxy_that_cannot_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "foo://127.0.0.1:1")
    with pytest.raises(editkit.EditkitError, match="check the proxy") as caught:
        ask("http://10.0.0.1:9/v1")
    assert str(caught.value).endswith(".")


def test_a_host_that_is_no_name() -> None:
    with pytest.raises(editkit.EditkitError, match="cannot be reached"):
        ask(f"http://{'a' * 70}.com/v1", retries=0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"timeout": float("nan")},
        {"timeout": 1e300},
        {"longest_wait": float("inf")},
    ],
)
def test_sampling_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(editkit.EditkitError, match=next(iter(options))):
        ask("http://127.0.0.1:9", **options)


def test_a_refusal_gives_its_reason_without_the_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    with pytest.raises(
        editkit.EditkitError, match=r"status 400 \(No such key: Bearer \[hidden\]\)"
    ) as caught:
        ask(f"{server}/explains")
    assert "sk-secret" not in str(caught.value)


def test_a_key_with_a_line_break_behind_it_is_sent_without(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret-123\n")
    ask(f"{server}/good")
    assert logged(server)[0]["key"] == "Bearer sk-secret-123"


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk- secret", "sk-\x01secret", "sk-sécret"])
def test_keys_that_are_none(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(editkit.EditkitError, match="holds characters that no key has") as caught:
        ask("http://127.0.0.1:9")
    assert "cret" not in str(caught.value)


def test_a_password_in_the_address_is_used_and_not_shown(server: str) -> None:
    ask(server.replace("//", "//user:pw123@") + "/good")
    assert logged(server)[0]["key"] == "Basic " + base64.b64encode(b"user:pw123").decode()
    with pytest.raises(
        editkit.EditkitError, match=r"cannot be reached at http://127\.0\.0\.1:9/v1"
    ) as caught:
        ask("http://user:pw123@127.0.0.1:9/v1?key=pw123", retries=0)
    assert "pw123" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:port/v1", "http://[::1/v1", "http://", "ftp://here/v1", "localhost:8000"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(editkit.EditkitError, match="an address that is none") as caught:
        ask(url)
    assert str(caught.value).endswith(".")
