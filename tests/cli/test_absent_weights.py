"""Weights that are neither here nor on a Hub that can be reached."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cases import Place, edit
from tests.command_line import Cli, files, refused


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """An address whose queue is full, so that connecting hangs as behind a firewall."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


HUB = {
    "a hub id": ("nobody/nothing", "nobody/nothing"),
    "a known hub id": ("black-forest-labs/FLUX.1-Kontext-dev", "black-forest-labs/FLUX.1-Kontext-dev"),
    "a known name": ("flux1-dev", r"black-forest-labs/FLUX.1-[A-Za-z-]+"),
}


@pytest.mark.parametrize(("case", "network"), [*((case, refusing) for case in HUB), ("a known name", silent)])
@pytest.mark.usefixtures("no_cache")
def test_absent_weights_are_told_within_two_seconds(
    case: str,
    network: Callable[[], Any],
    cli: Cli,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    import backbones.flux  # noqa: F401  (imports take seconds of their own)

    name, repository = HUB[case]
    arguments = edit(place, backbone=name)
    before = files(place.folder)
    with network() as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        for _ in range(3):  # a busy machine may be slow once
            started = time.perf_counter()
            run = cli(*arguments)
            seconds = time.perf_counter() - started
            if seconds < 2:
                break
    refused(run, f"The weights of ({repository}) .* https://huggingface.co/\\1 .*: hf download \\1$")
    assert ("Non-Commercial" in run.err) == (name != "nobody/nothing")
    assert ("there is no folder nobody/nothing either" in run.err) == (name == "nobody/nothing")
    assert seconds < 2
    assert files(place.folder) == before


@pytest.mark.usefixtures("no_cache")
def test_hub_behind_a_proxy_is_tried(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine reaches nothing itself; a proxy does, and says that it has no such thing."""
    from huggingface_hub import close_session, constants

    close_session()  # an open one keeps the proxy that it began with
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Keep stderr clean."""

    with refusing() as endpoint, ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "")
        run = cli(*edit(place, backbone="nobody/nothing"))
        server.shutdown()
    refused(run, "nobody/nothing could not be downloaded .*hf download nobody/nothing$")
    assert any("nobody/nothing" in path for path in asked)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (["nobody"], "There is no judge 'nobody'; there are preserve, tiny, qwen-vl, openai"),
        (["openai"], "needs an address; set OPENAI_BASE_URL"),
        (["qwen-vl"], "not on this machine and the Hub cannot be reached"),
        (["qwen-vl", "--judge-option", "model=gone/folder/here"], "no folder here and no Hub id"),
        (["tiny", "--judge-option", "dtype=int3"], "int3"),
    ],
)
@pytest.mark.usefixtures("no_cache")
def test_absent_judges(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, judge: list[str], words: str
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    refused(cli(*edit(place, "--search", 2, "--judge", *judge)), words)
    assert place.output.read_bytes() == b"old"


@pytest.mark.usefixtures("no_cache")
def test_offline_switch_of_the_hub(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = cli("generate", "a circle", "-b", "flux1-schnell")
    assert not files(place.folder)
    refused(run, r"FLUX.1-schnell are not on this machine .* \(Apache-2.0\) .*hf download")
