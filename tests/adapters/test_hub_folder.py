"""`editkit lora publish`: a folder that the Hub and diffusers understand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from backbones.lora import files as lora_files
from editkit import adapters
from editkit.adapters import hub_folder
from tests import ROOT
from tests.command_line import Cli, refused

PLAIN, EXPERTS = (ROOT / "methods" / "icedit" / "tiny" / name for name in ("lora", "moe"))
LOADED = 'name = editor.load_adapter("{}", method="icedit")\n'
"""The line of a training's card that loads the adapter."""


def card(folder: Path) -> ModelCard:
    """Its model card, as the Hub reads it."""
    return ModelCard.load(folder / "README.md")


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_a_plain_lora_is_written_in_diffusers_names(cli: Cli, tmp_path: Path, dialect: str) -> None:
    source, out = tmp_path / "some.safetensors", tmp_path / "out"
    lora_files.convert(PLAIN, source, dialect)
    run = cli("lora", "publish", source, out, "--backbone", "flux1-dev", "--method", "icedit")
    assert (run.status, run.err) == (0, "")
    assert f"hf upload OWNER/out {out}" in run.out
    assert {path.name for path in out.iterdir()} == {adapters.FILE, "README.md"}
    whole, _ = adapters.read_adapter(PLAIN)
    found = load_file(out / adapters.FILE)
    assert all(key.startswith("transformer.") for key in found)
    assert found.keys() == whole.keys()
    data = card(out).data
    assert data.base_model == "black-forest-labs/FLUX.1-Fill-dev"
    assert (data.library_name, data.pipeline_tag, data.license) == ("diffusers", "image-to-image", "other")
    assert {"editkit", "icedit", "lora"} <= set(data.tags)


def test_experts_and_what_training_wrote_come_along(cli: Cli, tmp_path: Path) -> None:
    source, out = tmp_path / "export", tmp_path / "out"
    source.mkdir()
    (source / adapters.FILE).write_bytes(adapters.file(EXPERTS).read_bytes())
    (source / "README.md").write_text("---\ntags: [mine]\n---\n\n# Mine\n" + LOADED.format("export"))
    (source / "config.yaml").write_text(
        "method: icedit\ndata:\n  path: /home/me/pairs\nwords: [/srv/x.txt, a/b]\n"
    )
    assert cli("lora", "publish", source, out, "-b", "tiny").status == 0
    before, after = load_file(source / adapters.FILE), load_file(out / adapters.FILE)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert "# Mine" in card(out).content
    assert LOADED.format("OWNER/out") in card(out).content
    assert (
        out / "config.yaml"
    ).read_text() == "method: icedit\ndata:\n  path: pairs\nwords:\n- x.txt\n- a/b\n"
    assert {path.name for path in out.iterdir()} == {adapters.FILE, "README.md", "config.yaml"}
    assert hub_folder.CARD in hub_folder.BESIDE


def test_refused(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(cli("lora", "publish", PLAIN, out, "-b", "flux9", "-m", "icedit"), "backbone flux9 is unknown")
    assert not out.exists()
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    refused(cli("lora", "publish", PLAIN, out, "-b", "tiny", "-m", "icedit"), "not empty")
    assert [path.name for path in out.iterdir()] == ["kept.txt"]
