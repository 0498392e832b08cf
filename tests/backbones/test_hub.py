"""A Hub that answers over HTTP: what is fetched from it, and when."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import editkit
from backbones.flux import Flux
from backbones.meta_init import MetaFlux
from editkit import EditkitError, config
from editkit.train.estimate.plan import plan
from editkit.train.settings import EditTrainConfig

NAME = "somebody/something"
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """Serves one folder as a repository; `asked` are the files that were fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked = folder, set[str]()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_HEAD(self) -> None:
        listing = self.path.startswith("/api/")
        name = self.path.partition(f"/resolve/{COMMIT}/")[2] or self.path.partition("/resolve/main/")[2]
        if listing:
            files = {
                str(path.relative_to(self.server.folder)): path.stat().st_size
                for path in self.server.folder.rglob("*")
                if path.is_file()
            }
            tree = [{"type": "file", "path": p, "size": size, "oid": p} for p, size in files.items()]
            about = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            body = json.dumps(tree if "/tree/" in self.path else about).encode()
        else:
            body = (self.server.folder / name).read_bytes()
            self.server.asked.add(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if listing else "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep stderr clean."""


@pytest.fixture
def hub(random_flux: Flux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    random_flux.save("kontext", tmp_path / "whole")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    close_session()  # an open one keeps the proxy that it began with
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with Hub(tmp_path / "whole") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield server
        server.shutdown()


def test_a_plan_fetches_configs_alone_and_loading_the_rest(
    hub: Hub, random_flux: Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    chosen = config.build(EditTrainConfig, {"backbone": NAME, "trainable": "full", "data": {"count": 4}})
    planned = plan(chosen)
    own = random_flux.transformer("kontext")
    assert planned.total == sum(p.numel() for p in own.parameters())
    parts = MetaFlux(NAME).component_parameters("kontext")
    assert parts["vae"] == sum(p.numel() for p in random_flux.vae.parameters())
    assert parts["text_encoder_2"] == sum(p.numel() for p in random_flux.encoders.t5.parameters())
    assert hub.asked
    assert all(name.endswith(".json") for name in hub.asked)

    with monkeypatch.context() as cut_off:
        cut_off.setattr(constants, "HF_HUB_OFFLINE", True)
        assert plan(chosen) == planned
        with pytest.raises(EditkitError, match=f"weights of {NAME} are not on this machine"):
            editkit.load(NAME, device="cpu").backbone.load("kontext")

    editor = editkit.load(NAME, device="cpu")
    editor.backbone.load("kontext")
    assert sum(name.endswith(".safetensors") for name in hub.asked) == 4
    hub.asked.clear()
    editkit.load(NAME, device="cpu").backbone.load("kontext")
    assert not hub.asked


def test_a_config_that_cannot_be_read_is_named(hub: Hub) -> None:
    (hub.folder / "vae" / "config.json").write_text("{")
    with pytest.raises(EditkitError, match=r"The config in .*vae cannot be read"):
        MetaFlux(NAME).component_parameters("kontext")


REFUSED = {
    "gated, no token": (403, {"X-Error-Code": "GatedRepo"}, None, "are gated and this machine has no token; "
                        "accept the licence at .* and run: hf auth login$"),
    "gated, no access": (403, {"X-Error-Code": "GatedRepo"}, "hf_x", "this machine's token has no access; "
                         "accept the licence at .* by: hf auth login$"),
    "a token that is void": (401, {}, "hf_x", "refuses this machine's token .* by: hf auth login$"),
    "a hub in trouble": (503, {}, None, r"could not be downloaded \(.*\); .*hf download"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_of_the_hub_are_one_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session, constants

    status, headers, token, words = REFUSED[case]

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Keep stderr clean."""

    for name in ("http_proxy", "HTTP_PROXY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    close_session()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(EditkitError, match=words) as caught:
            editkit.load(NAME, device="cpu")
        server.shutdown()
    assert NAME in str(caught.value)
    assert "hf_x" not in str(caught.value)


def test_a_part_of_the_weights_is_told_as_such(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was broken off: what is missing is named, and nothing is made up for it."""
    from huggingface_hub import constants

    (hub.folder / "README.md").write_text("which nobody fetches")
    editkit.load(NAME, device="cpu").backbone.load("kontext")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    editkit.load(NAME, device="cpu").backbone.load("kontext")
    (found,) = Path(constants.HF_HUB_CACHE).rglob("transformer/*.safetensors")
    found.unlink()
    with pytest.raises(EditkitError, match=r"in part, without transformer/\*\.safetensors, .*hf download"):
        editkit.load(NAME, device="cpu").backbone.load("kontext")
