"""The recipe that `editkit edit` writes and prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.inference import pipeline, provenance
from tests.command_line import Cli, picture
from tests.pictures import image


def test_recipe_in_the_picture(cli: Cli, random_pipeline: Path, tmp_path: Path) -> None:
    """Everything needed to make it again, and the same in `--json`."""
    source, output = picture(tmp_path / "image.png"), tmp_path / "o.png"
    arguments = ["-b", random_pipeline, "-o", output, "--seed", 7, "--steps", 2, "--guidance", 2.5]
    run = cli("edit", source, "make it blue", *arguments, "--size", "64x48", "--json")
    assert run.status == 0
    assert re.fullmatch("note: .* was trained without guidance, so guidance=2.5 .*\n", run.err)
    printed, kept = json.loads(run.out), provenance.read_recipe(output)
    assert printed.pop("output") == str(output)
    assert set(printed.pop("timings")) == {"plan", "sample", "decode"}
    assert printed.pop("alignment") is None  # a plain picture shows no motion
    assert printed == kept
    expected = {
        "instruction": "make it blue",
        "method": "kontext",
        "backbone": str(random_pipeline),
        "seed": 7,
        "steps": 2,
        "guidance": 2.5,
        "size": [64, 48],
        "canvas": [64, 48],
        "tokens": 12,
        "precision": "float32",
        "device": "cpu",
        "mask": False,
        "references": 0,
        "negative": None,
    }
    assert expected.items() <= kept.items()
    weights = {
        "vae": "vae/diffusion_pytorch_model.safetensors",
        "text_encoder": "text_encoder/model.safetensors",
        "text_encoder_2": "text_encoder_2/model.safetensors",
        "transformer": "transformer/diffusion_pytorch_model.safetensors",
    }
    assert kept["weights"] == {
        part: atomic_files.sha256(random_pipeline / file) for part, file in weights.items()
    }
    assert {"python", "torch", "diffusers", "transformers"} <= set(kept["versions"])
    assert re.fullmatch("[0-9a-f]{64}", kept["source_sha256"])


def test_a_photograph_is_told_before_its_edit_and_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(64, 48).save(tmp_path / "photo.png")
    arguments = ["edit", tmp_path / "photo.png", "make it blue", "--steps", 1, "-o", tmp_path / "o.png"]
    run = cli(*arguments, "--device", "cpu")
    assert run.status == 0
    assert run.err.count("as photographs have") == 1

    def ended(*_: object, **__: object) -> None:
        raise EditkitError("The edit ended early.")

    monkeypatch.setattr(pipeline, "run", ended)
    run = cli(*arguments, "--device", "cpu")
    assert run.status == 2
    assert re.fullmatch(
        "note: The picture .* as photographs have.*\neditkit: The edit ended early.\n", run.err
    )
