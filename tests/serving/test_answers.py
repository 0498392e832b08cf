"""Answers of the app itself: to errors that nobody foresaw, and to a key."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.testclient import TestClient

import editkit
from editkit.serving.app import Server
from editkit.serving.lane import Edit, Lane
from editkit.serving.settings import ServerSettings
from editkit.types import EditResult


class Full(Lane):
    """A device whose memory is full."""

    def edit(self, batch: Sequence[Edit]) -> Sequence[EditResult | Exception]:
        """Fail as torch does."""
        return [RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")] * len(batch)


def test_an_unforeseen_error_is_a_500_everywhere(editor: editkit.Editor) -> None:
    server = Server([Full(editor)], ["kontext"], ServerSettings())
    with TestClient(server.app, raise_server_exceptions=False) as client:
        told = {"prompt": "a red circle", "steps": 1, "size": "32x32"}
        answer = client.post("/v1/images/generations", json=told, headers={"X-Request-ID": "mine"})
        metrics = client.get("/metrics").text
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "CUDA" not in answer.text
    assert answer.headers["X-Request-ID"] == "mine"
    assert 'editkit_requests_total{path="/v1/images/generations",status="500"} 1.0' in metrics
    assert 'status="499"' not in metrics


def test_a_key_of_any_letters(editor: editkit.Editor) -> None:
    server = Server([Full(editor)], ["kontext"], ServerSettings(api_key="schlüssel"))
    with TestClient(server.app) as client:
        for key, status in (("schlüssel", 200), ("schlussel", 401)):
            answer = client.get("/v1/models", headers={b"Authorization": f"Bearer {key}".encode()})
            assert answer.status_code == status, key
