"""Behaviour: what a stage exports is installed whole or not at all; the shipped list installs all weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editkit import adapters
from editkit.errors import EditkitError
from editkit.train import in_order, stages
from tests import ROOT
from tests.train.stage_list import WEIGHTS


def test_an_adapter_is_installed_in_bf16_without_its_card(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "placed"
    export.mkdir()
    about = {"lora_adapter_metadata": '{"transformer.lora_alpha": 7}', "format": "pt"}
    state = {"transformer.proj.lora_A.weight": torch.randn(3, 5)}
    save_file(state, export / adapters.FILE, about)
    (export / "README.md").write_text("card")
    in_order.install(export, place)
    assert [path.name for path in place.iterdir()] == [adapters.FILE]
    found = load_file(place / adapters.FILE)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key].bfloat16()) for key in state)
    with safe_open(place / adapters.FILE, "pt") as file:
        assert file.metadata() == about


def test_a_folder_is_installed_instead_of_what_is_there(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "above" / "part"
    (export / "vae").mkdir(parents=True)
    (export / "vae" / WEIGHTS).write_bytes(b"new")
    place.mkdir(parents=True)
    (place / "old.json").write_text("{}")
    (tmp_path / "above" / "link").symlink_to("part")
    in_order.install(export, place)
    assert [path.name for path in place.iterdir()] == ["vae"]
    assert (tmp_path / "above" / "link" / "vae" / WEIGHTS).read_bytes() == b"new"
    assert sorted(path.name for path in place.parent.iterdir()) == ["link", "part"]


def test_a_failed_install_leaves_what_was_there(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "placed"
    for folder, content in ((export, b"new"), (place, b"old")):
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(content)
    (export / "unreadable").symlink_to("nowhere")
    with pytest.raises(EditkitError, match=r"placed .*free some space"):
        in_order.install(export, place)
    assert (place / WEIGHTS).read_bytes() == b"old"
    assert not list(tmp_path.rglob(".*"))


def test_shipped_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    listed = [stage.about for stage in stages.read_stages(Path("configs/tiny/stages.yaml"))]
    written = "out/tiny/vae"  # by editkit.shapesworld.linear_autoencoder, before the first stage
    for number, about in enumerate(listed):
        made = {place for before in listed[:number] for place in (before.export, before.install)}
        for start in set(about.starts_from) - {written}:
            assert any(Path(place).is_relative_to(start) for place in made - {""}), f"{start} comes later"
        place = Path(about.install)
        assert not about.install or (stages.weights(place) and not place.is_symlink())
    placed = [about.install for about in listed if about.install]
    tops = ("backbones", "editkit", "methods")
    for file in (file for top in tops for file in Path(top).rglob("*.safetensors")):
        assert any(file.is_relative_to(place) for place in placed), f"{file} is not among them"


def test_shipped_configs_name_what_they_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for stage in stages.read_stages(Path("configs/tiny/stages.yaml")):
        values, starts = stage.values, stage.about.starts_from
        named = {values.get("adapter"), values.get("fresh", {}).get("vae")} - {None}
        assert named.issubset(starts)
        if values["recipe"] in ("edit", "fill") and "fresh" not in values:
            assert any(start.startswith(("backbones/tiny", "out/tiny")) for start in starts)
