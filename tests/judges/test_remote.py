"""The judge behind an endpoint, against a real server in another process."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

import editkit
from editkit.judges import Verdict
from tests.judges.remote import ask, logged


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
