"""Keys, passwords, proxies and addresses of the judge behind an endpoint."""

from __future__ import annotations

import base64

import pytest

import editkit
from tests.judges.remote import ask, logged


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTP_PROXY"])
def test_a_proxy_that_cannot_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "foo://127.0.0.1:1")
    with pytest.raises(editkit.EditkitError, match="check the proxy") as caught:
        ask("http://10.0.0.1:9/v1")
    assert str(caught.value).endswith(".")


def test_a_host_that_is_no_name() -> None:
    with pytest.raises(editkit.EditkitError, match="cannot be reached"):
        ask(f"http://{'a' * 70}.com/v1", retries=0)


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
    with pytest.raises(editkit.EditkitError, match="is not a URL") as caught:
        ask(url)
    assert str(caught.value).endswith(".")
