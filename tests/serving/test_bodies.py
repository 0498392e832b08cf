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
