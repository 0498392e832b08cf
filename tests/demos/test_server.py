"""Behaviour of `editkit demo`: what its server refuses."""

from __future__ import annotations

import sys

import httpx
import pytest
from gradio_client import Client

from tests import ROOT
from tests.command_line import Cli, refused
from tests.demos.page_server import Page, free_port


def test_the_page_asks_for_its_password(page: Page) -> None:
    assert httpx.get(page.url + "config").status_code == 401
    with pytest.raises(Exception, match=r"[Cc]redentials|[Ll]ogin|auth"):
        Client(page.url, auth=("anybody", "wrong"), verbose=False)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(ROOT / "pyproject.toml"), "pyproject.toml", "../../etc/passwd"]
)
def test_only_the_page_own_files_are_served(client: Client, path: str) -> None:
    found = httpx.get(f"{client.src}gradio_api/file={path}", cookies=client.cookies)
    assert found.status_code in (403, 404)


def test_large_uploads_are_refused(client: Client) -> None:
    files = {"files": ("large.png", b"0" * (41 * 2**20))}
    sent = httpx.post(f"{client.src}gradio_api/upload", files=files, cookies=client.cookies, timeout=60)
    assert sent.status_code == 413


def test_bad_options_are_one_sentence(cli: Cli, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(page.url.split(":")[-1].strip("/"))
    refused(cli("demo", "--port", port), rf"127.0.0.1:{port} cannot be used \(.*in use\); give another")
    refused(cli("demo", "--host", "256.1.1.1", "--port", free_port()), "cannot be used")
    refused(cli("demo", "--max-pixels", 0), "--max-pixels 0 is not allowed")
    refused(cli("demo", "--load", "speed=9", "--port", free_port()), "speed")
    refused(cli("demo", "--dtype", "float3", "--port", free_port()), "float3")
    refused(cli("demo", "-b", "nonesuch", "--port", free_port()), "nonesuch")
    refused(cli("demo", "--lora", "gone.safetensors", "--port", free_port()), "gone.safetensors is neither")
    for name in [name for name in sys.modules if name.split(".")[0] == "demos"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(cli("demo", "--port", free_port()), r"pip install 'editkit\[demo\]'")
