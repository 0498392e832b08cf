"""Behaviour: what `editkit doctor` says is true of this machine, and reads well."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backbones import inventory
from backbones.specs import FAMILIES
from editkit import machine
from tests import ROOT
from tests.command_line import Cli, in_process


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


FILES = {
    "model_index.json": "{}",
    "tokenizer/tokenizer_config.json": "{}",
    "tokenizer_2/tokenizer_config.json": "{}",
    "vae/model.safetensors": "1234",
    "text_encoder/model.safetensors": "1234",
    "text_encoder_2/model-1.safetensors": "1234",
    "text_encoder_2/model-2.safetensors": "1234",
    "text_encoder_2/model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ),
    "transformer/model.safetensors": "1234",
}


def keep(hub: Path, repository: str, files: dict[str, str]) -> Path:
    """A repository in the Hub's cache, as huggingface_hub lays it out."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    for number, (name, text) in enumerate(files.items()):
        blob, link = folder / "blobs" / f"{number:064x}", snapshot / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("a" * 40)
    return snapshot


def states() -> dict[str, str]:
    return {f"{each.family} {each.role}": each.state for each in inventory.cached_roles()}


def test_weights_are_complete_or_not(hub: Path) -> None:
    assert set(states().values()) == {"embedded", "absent"}
    snapshot = keep(hub, "black-forest-labs/FLUX.1-Kontext-dev", FILES)
    assert states()["flux1-dev kontext"] == "complete"
    assert states()["flux1-dev fill"] == "absent"
    (snapshot / "text_encoder_2" / "model-2.safetensors").unlink()
    assert states()["flux1-dev kontext"] == "partly"


@pytest.mark.parametrize("token", [None, "hf_of_somebody"])
def test_it_names_what_is_missing_and_whether_there_is_a_token(
    token: str | None, cli: Cli, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(hub / "token"))
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    snapshot = keep(hub, "black-forest-labs/FLUX.1-Kontext-dev", FILES)
    (snapshot / "text_encoder_2" / "model-2.safetensors").unlink()
    run = cli("doctor")
    name = "black-forest-labs/FLUX.1-Kontext-dev"
    words = f"flux1-dev kontext lacks text_encoder_2/model-2.safetensors of {name}; run: hf download {name}"
    assert words in run.out
    assert ("run: hf auth login" in run.out) == (token is None)
    told = json.loads(cli("doctor", "--json").out)
    assert told["token"] is bool(token)
    assert "hf_of_somebody" not in run.out
    (kontext,) = (each for each in told["weights"] if each["role"] == "kontext" and each["missing"])
    assert kontext["missing"] == [f"{name} text_encoder_2/model-2.safetensors"]


def test_aces_own_file_and_fills_encoders_make_a_role(hub: Path) -> None:
    keep(hub, "ali-vilab/ACE_Plus", {"ace_plus_fft.safetensors": "1234"})
    assert states()["flux1-dev ace"] == "partly"
    keep(hub, "black-forest-labs/FLUX.1-Fill-dev", {k: v for k, v in FILES.items() if "transformer" not in k})
    assert states()["flux1-dev ace"] == "complete"
    assert states()["flux1-dev fill"] == "partly"
    sizes = {each.role: each.size for each in inventory.cached_roles() if each.family == "flux1-dev"}
    assert sizes["ace"] > sizes["fill"] > 0


def test_json_holds_everything(cli: Cli, hub: Path) -> None:
    run = cli("doctor", "--json")
    assert run.status == 0, run.err
    told: dict[str, Any] = json.loads(run.out)
    assert told.keys() == {"devices", "versions", "optional", "weights", "token", "memory"}
    assert told["devices"][-1]["name"] == "cpu"
    assert told["devices"][-1]["memory"] > told["devices"][-1]["free"] > 0
    assert {"python", "torch", "diffusers", "transformers", "peft"} <= told["versions"].keys()
    assert [(each["family"], each["role"]) for each in told["weights"]] == [
        (family.name, role) for family in FAMILIES.values() for role in family.roles
    ]
    assert all(isinstance(way["fits"], bool) for way in told["memory"]["ways"])


def test_it_reads_well_at_80_columns(cli: Cli, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = cli("doctor")
    assert (run.status, run.err) == (0, "")
    for title in ("Devices", "Versions", "Optional packages", "Weights", "One role of FLUX.1"):
        assert re.search(f"^{title}", run.out, re.MULTILINE)
    tables = run.out.partition("tiny runs here")[0]
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in tables
    assert "editkit edit" in run.out


def test_every_extra_is_explained() -> None:
    """Law: whatever an extra of the package brings is in the table, under that extra, and nothing else is."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {
        (re.split(r"[<>=\[]", requirement)[0], extra)
        for extra, requirements in extras.items()
        if extra != "dev"
        for requirement in requirements
    }
    assert brought == {(each.package, each.extra) for each in machine.OPTIONAL if each.extra}


def test_the_quickstart_tells_the_same_figures() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    table = re.search(r"^\| card .*\n\|[- |]+\n((?:\|.*\n)*)", text, re.MULTILINE)
    assert table
    told = [float(figure) for figure in re.findall(r"\| ([\d.]+) GB(?:,[^|]*)? \|$", table[1], re.MULTILINE)]
    known = [way.device / 1e9 for way in inventory.loading_choices(on_cpu=False)]
    assert told == pytest.approx(known, abs=0.06)


def test_a_way_counts_what_it_says() -> None:
    plain, *_, four_bits, t5_too, files, resting, offload = inventory.loading_choices(on_cpu=False)
    assert plain.device > four_bits.device > files.device > t5_too.device > offload.device > resting.device
    assert resting.main + resting.device == pytest.approx(files.device)
    assert offload.main + offload.device > plain.device
    full, half, _ = inventory.loading_choices(on_cpu=True)
    assert full.device == 2 * half.device == 2 * plain.device
