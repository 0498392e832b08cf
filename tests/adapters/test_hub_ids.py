"""Adapters by their Hub id: which file is taken, and what peft wrote beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import editkit
from backbones import hub_adapters
from editkit import adapters
from editkit.backbone import Backbone
from editkit.errors import EditkitError, EditkitWarning
from tests.hub_server import NAME, Hub, serving

MODULE = "transformer_blocks.0.attn.to_q"
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "repository").mkdir()
    with serving(tmp_path / "repository", tmp_path / "cache", monkeypatch) as server:
        yield server


def offline(monkeypatch: pytest.MonkeyPatch, value: bool = True) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", value)


def write(hub: Hub, name: str, flux: Backbone, alpha: float | None = 8) -> None:
    """A LoRA of rank 2 as peft writes it, its alpha in the config beside it."""
    rows, columns = flux.transformer("kontext").get_submodule(MODULE).weight.shape
    (hub.folder / name).parent.mkdir(exist_ok=True)
    stem = f"base_model.model.{MODULE}"
    state = {f"{stem}.lora_A.weight": torch.ones(2, columns), f"{stem}.lora_B.weight": torch.ones(rows, 2)}
    save_file(state, hub.folder / name)
    if alpha is not None:
        (hub.folder / name).with_name(PEFT_CONFIG).write_text(json.dumps({"r": 2, "lora_alpha": alpha}))


def scale(flux: Backbone, path: Path) -> float:
    """What an adapter is scaled by on a transformer: its alpha by its rank."""
    transformer = flux.transformer("kontext")
    adapters.load_adapter(transformer, path, "fetched")
    found = transformer.get_submodule(MODULE).scaling["fetched"]
    adapters.eject(transformer, "fetched")
    return float(found)


@pytest.mark.parametrize("name", [adapters.FILE, PEFT_FILE, "my style.safetensors", "deep/one.safetensors"])
def test_the_file_of_a_usual_name_or_the_only_one(
    hub: Hub, random_flux: Backbone, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(hub, name, random_flux)
    (hub.folder / "README.md").write_text("about it")
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 4
    offline(monkeypatch)
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 4
    assert scale(random_flux, hub_adapters.fetch(NAME, name)) == 4


@pytest.mark.parametrize("adapter", [NAME, f"hf://{NAME}/{adapters.FILE}"])
def test_an_editor_loads_it_by_its_id(hub: Hub, random_flux: Backbone, adapter: str) -> None:
    """As a published model card says."""
    write(hub, adapters.FILE, random_flux)
    transformer = random_flux.transformer("kontext")
    name = editkit.Editor(random_flux).load_adapter(adapter)
    try:
        assert transformer.get_submodule(MODULE).scaling[name] == 4
    finally:
        random_flux.unload_adapter("kontext", name)
    with pytest.raises(EditkitError, match="gone is neither an existing file or folder nor a Hub id"):
        editkit.Editor(random_flux).load_adapter("gone")


def test_one_of_several_must_be_named(hub: Hub, random_flux: Backbone) -> None:
    for name in ("a/1.safetensors", "b/2.safetensors"):
        write(hub, name, random_flux)
    words = rf"{NAME} on the Hub holds 2 adapter files \(a/1.*\); name one as hf://{NAME}/FILE\."
    with pytest.raises(EditkitError, match=words):
        hub_adapters.fetch(NAME)
    assert not any(name.endswith(".safetensors") for name in hub.asked)
    assert scale(random_flux, hub_adapters.fetch(NAME, "b/2.safetensors")) == 4


def test_a_usual_name_counts_among_others(hub: Hub, random_flux: Backbone) -> None:
    write(hub, "checkpoint-10/adapter_model.safetensors", random_flux)
    write(hub, PEFT_FILE, random_flux, alpha=6)
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 3


def test_no_adapter(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub.folder / "README.md").write_text("about nothing")
    with pytest.raises(EditkitError, match=r"holds no \.safetensors file"):
        hub_adapters.fetch(NAME)
    offline(monkeypatch)
    with pytest.raises(EditkitError, match="not on this machine and the Hub cannot be reached"):
        hub_adapters.fetch(NAME)


@pytest.mark.parametrize("name", [adapters.FILE, PEFT_FILE])
def test_a_file_that_came_alone_gets_its_config(
    hub: Hub, random_flux: Backbone, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `hf download OWNER/NAME FILE`: the alpha would be lost."""
    from huggingface_hub import hf_hub_download

    write(hub, name, random_flux)
    hf_hub_download(NAME, name)
    offline(monkeypatch)
    if name == PEFT_FILE:
        with pytest.raises(EditkitError, match=rf"in part, without {PEFT_CONFIG}"):
            hub_adapters.fetch(NAME)
    else:
        with pytest.warns(EditkitWarning, match="without it, alpha is the rank"):
            hub_adapters.fetch(NAME)
    offline(monkeypatch, False)
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 4


def test_the_hub_is_asked_once_for_a_config_that_is_not_there(
    hub: Hub, random_flux: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(hub, adapters.FILE, random_flux, alpha=None)
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 1
    offline(monkeypatch)
    assert scale(random_flux, hub_adapters.fetch(NAME)) == 1  # with no warning
