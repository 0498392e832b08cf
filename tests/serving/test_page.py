"""`editkit serve --page`: one process, one queue and one set of weights for the page and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from tests import ROOT
from tests.command_line import Cli, refused
from tests.pictures import difference, image
from tests.serving.server import served
from tests.serving.uploads import file, opened

RED = ROOT / "demos" / "samples" / "red_circle.png"


@pytest.mark.slow
def test_page_and_programs(tmp_path: Path) -> None:
    with served(tmp_path, "--page", "--method", "kontext") as server:
        page = httpx.get(server.url, timeout=60)
        assert page.status_code == 200
        assert "editkit" in page.text
        before = server.memory()
        client = Client(server.url, verbose=False, download_files=tmp_path, httpx_kwargs={"timeout": 60})
        painted: dict[str, Any] = {"background": handle_file(RED), "layers": [], "composite": None}
        client.predict(picture=painted, instruction="make it blue", methods=["kontext"], api_name="/compare")
        told = httpx.get(f"{server.url}/metrics").text
        assert "editkit_batch_edits_count 0.0" in told  # the page's work is none of a program's batches
        source = image(40, 30)
        answer = server.client().images.edit(
            image=file(source), prompt="make it blue", extra_body={"seed": 1, "steps": 1}
        )
        assert answer.data is not None
        assert difference(opened(answer.data[0]), source) > 0
        # The weights of `tiny` take 100 MB; a second set of them would show.
        assert server.memory() - before < 1 << 30
        client.close()
    assert server.process.returncode in (0, -15)


def test_refused(cli: Cli) -> None:
    refused(cli("serve", "--password", "a"), "--password is for the page")
    refused(cli("serve", "--page", "--api-key", "a"), "leaves the page open")
    refused(cli("serve", "--adapters", "nowhere"), "folder of adapters nowhere is missing")
    refused(cli("serve", "--queue", 2), "queue=2 is too short")
    refused(cli("serve", "--max-pixels", 0), "--max-pixels 0")
    refused(cli("serve", "--port", 70000), "cannot be used")
    refused(cli("serve", "--method", "kontex"), "no method 'kontex'")
