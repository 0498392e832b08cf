"""Behaviour of the Train tab, as a program uses it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from demos.train_data import UPLOAD
from tests.demos import pairs
from tests.demos.page_client import PASSWORD, compared, words
from tests.demos.page_server import Page


@pytest.mark.slow
def test_training_from_the_page(client: Client, page: Page, tmp_path: Path) -> None:
    archive = pairs.packed(pairs.written(tmp_path / "mine"))
    own = {"kind": UPLOAD, "upload": handle_file(archive)}

    def status() -> str:
        return words(client.predict(api_name="/train_status")[0])

    assert "trains " in client.predict(steps=2, api_name="/train_plan", **own)[0]
    assert "0 steps are not allowed" in words(client.predict(steps=0, api_name="/train_start")[0])
    assert "9 pairs train" in words(client.predict(steps=2, api_name="/train_start", **own)[0])
    assert "already going on" in words(client.predict(steps=2, api_name="/train_start")[0])
    deadline = time.monotonic() + 300
    while "done 2 of 2" not in status():
        assert time.monotonic() < deadline, status()
        time.sleep(1)
    note, said = client.predict(api_name="/train_try")
    assert "kontext uses" in words(note)
    assert "active in Compare" in words(said)
    told = json.loads(compared(client)["kontext: recipe"])
    assert any(name.startswith("adapter") for name in told["weights"]), told["weights"]
    other = Client(page.url, auth=("another", PASSWORD), verbose=False)
    told = json.loads(compared(other)["kontext: recipe"])
    assert not any(name.startswith("adapter") for name in told["weights"])
