"""A Hub that answers over HTTP: what is fetched from it, and when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import editkit
from backbones.flux import Flux
from backbones.meta_init import MetaFlux
from editkit import EditkitError, config
from editkit.backbone import Family, Role
from editkit.train.estimate.plan import plan
from editkit.train.settings import EditTrainConfig
from tests.hub_server import NAME, Hub, serving


@pytest.fixture
def hub(random_flux: Flux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    random_flux.save("kontext", tmp_path / "whole")
    with serving(tmp_path / "whole", tmp_path / "cache", monkeypatch) as server:
        yield server


def test_a_plan_fetches_configs_alone_and_loading_the_rest(
    hub: Hub, random_flux: Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    chosen = config.build(EditTrainConfig, {"backbone": NAME, "trainable": "full", "data": {"count": 4}})
    planned = plan(chosen)
    own = random_flux.transformer("kontext")
    assert planned.total == sum(p.numel() for p in own.parameters())
    parts = MetaFlux(NAME).component_bytes("kontext", 2)
    assert parts["vae"] == 2 * sum(p.numel() for p in random_flux.vae.parameters())
    assert parts["text_encoder_2"] == 2 * sum(p.numel() for p in random_flux.encoders.t5.parameters())
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
        MetaFlux(NAME).component_bytes("kontext", 2)


REFUSED = {
    "gated, no token": (403, {"X-Error-Code": "GatedRepo"}, None, "are gated and this machine has no token; "
                        "accept the licence at .* and run: hf auth login$"),
    "gated, no access": (403, {"X-Error-Code": "GatedRepo"}, "hf_x", "this machine's token has no access; "
                         "accept the licence at .* by: hf auth login$"),
    "a token that is void": (401, {}, "hf_x", "refuses this machine's token .* by: hf auth login$"),
    "no such repository": (404, {"X-Error-Code": "RepoNotFound"}, None, "no folder and no repository .* "
                           "called .*; check the name, or, where it is private, run: hf auth login$"),
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


def test_a_transformer_from_elsewhere_needs_none_of_the_pipelines(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ACE++'s full model samples as the pipeline does, whose own transformer has 24 GB."""
    from huggingface_hub import constants

    role = Role(
        source=NAME,
        file="somebody/other/whole.safetensors",
        in_channels=448,
        steps=1,
        guidance=None,
        licence="none",
    )
    family = Family(name="separate", summary="", sequence_length=48, roles={"ace": role})
    shift = Flux(family, torch.device("cpu"), torch.float32).time_shift("ace")
    assert "scheduler/scheduler_config.json" in hub.asked
    assert not [name for name in hub.asked if name.startswith("transformer/") and "safetensors" in name]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Flux(family, torch.device("cpu"), torch.float32).time_shift("ace") == shift
