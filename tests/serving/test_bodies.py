"""Bodies that are read whole, or refused, and fields that stand elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.datastructures import FormData, Headers
from starlette.types import Message

from editkit.serving.body import Body
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings
from tests.serving.server import Served

PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORM = PART % (b"prompt", b"make it blue") + PART % (b"steps", b"1")


def read(content: bytes, kind: str) -> FormData | dict[str, Any]:
    """Read a body that comes in two chunks."""
    half = len(content) // 2
    chunks = iter([(content[:half], True), (content[half:], False)])

    async def receive() -> Message:
        body, more = next(chunks)
        return {"type": "http.request", "body": body, "more_body": more}

    async def run() -> FormData | dict[str, Any]:
        body = Body(Headers({"content-type": kind}), receive, ServerSettings())
        return await (body.json() if kind == "application/json" else body.form())

    return asyncio.run(run())


def test_a_whole_form() -> None:
    form = read(FORM + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert form == FormData([("prompt", "make it blue"), ("steps", "1")])
    assert read(FORM + b"--x--", "multipart/form-data; boundary=x") == form


@pytest.mark.parametrize("end", [b"", b"--x", b"--x-", b"--x\r\nContent-Disposition: form-d"])
def test_a_form_that_breaks_off_is_refused(end: bytes) -> None:
    """Else its last fields would be left out in silence."""
    with pytest.raises(RefusedError, match="breaks off before its last boundary"):
        read(FORM + end, "multipart/form-data; boundary=x")
    with pytest.raises(RefusedError, match="breaks off before its last boundary"):
        read(FORM[:-3], "multipart/form-data; boundary=x")


@pytest.mark.parametrize(
    ("charset", "field", "value"),
    [
        ("", b"prompt", "grün".encode("latin-1")),
        ("", b"prompt", "зелёный".encode("cp1251")),
        ("; charset=ascii", b"prompt", "grün".encode()),
        ("; charset=undefined", b"prompt", b"green"),
        ("; charset=unicode_escape", b"model", b"gpt-image\\ud800"),
        ("; charset=unicode_escape", b"\\ud800", b"green"),
    ],
)
def test_a_field_that_is_no_text_is_refused(charset: str, field: bytes, value: bytes) -> None:
    """Else it would be read as other letters, or be an error of the server's."""
    with pytest.raises(RefusedError, match=r"is no text.*send text in UTF-8"):
        read(FORM + PART % (field, value) + b"--x--\r\n", f"multipart/form-data; boundary=x{charset}")


def test_a_field_in_the_charset_of_its_form() -> None:
    form = PART % (b"prompt", "grün".encode("latin-1")) + b"--x--\r\n"
    read_form = read(form, "multipart/form-data; boundary=x; charset=latin-1")
    assert read_form == FormData([("prompt", "grün")])


@pytest.mark.parametrize(
    ("kind", "content", "advice"),
    [
        ("multipart/form-data", FORM + b"--x--", r"Missing boundary .* its Content-Type with the boundary"),
        ("multipart/form-data; boundary=y", FORM + b"--x--", "Invalid .* let the HTTP client write"),
        ("multipart/form-data; boundary=x", PART % (b"a", b"a" * 70_000), "64KB.* send fewer or smaller"),
        ("multipart/form-data; boundary=x", FORM * 40, r"Too many fields.* send fewer or smaller"),
    ],
)
def test_a_form_that_cannot_be_read_says_what_helps(kind: str, content: bytes, advice: str) -> None:
    with pytest.raises(RefusedError, match=advice):
        read(content, kind)


@pytest.mark.parametrize("text", ['{"prompt": "a", "prompt": "b"}', '{"search": {"seeds": 2, "seeds": 3}}'])
def test_a_key_that_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"(prompt|seeds) is given twice; give it once"):
        read(text.encode(), "application/json")
    assert read(b'{"prompt": "a"}', "application/json") == {"prompt": "a"}


def test_fields_in_the_address_are_refused(server: Served) -> None:
    """Others may stand there: clients of Azure send the version of the API so."""
    told = {"prompt": "a red circle", "steps": 1, "size": "32x32"}
    address = f"{server.url}/v1/images/generations"
    refused = httpx.post(address, params={"seed": 3, "api-version": "1"}, json=told, timeout=120)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "seed stands in the address; send it in the body."
    assert httpx.post(address, params={"api-version": "1"}, json=told, timeout=120).status_code == 200


def test_the_log_of_a_broken_form_is_json(server: Served) -> None:
    """Its parser has a log of its own."""
    headers = {"Content-Type": "multipart/form-data; boundary=y", "X-Request-ID": "broken-form"}
    content = FORM + b"--x--"
    answer = httpx.post(f"{server.url}/v1/images/edits", content=content, headers=headers, timeout=120)
    assert answer.status_code == 400
    told = [line for line in server.lines() if line.get("request_id") == "broken-form"]
    assert [line["message"] for line in told] == [
        "Expected boundary character 121, got 120 at index 4",
        "request",
    ]


def test_an_address_or_a_method_that_there_is_not(server: Served) -> None:
    missing = httpx.post(f"{server.url}/v1/images/variations", timeout=120)
    assert missing.status_code == 404
    told = missing.json()["error"]["message"]
    assert told.startswith("There is no /v1/images/variations here; there are /v1/images/edits, ")
    wrong = httpx.get(f"{server.url}/v1/images/edits", timeout=120)
    assert wrong.status_code == 405
    assert wrong.json()["error"]["message"] == "/v1/images/edits takes no GET; send POST."
    assert wrong.headers["Allow"] == "POST"
