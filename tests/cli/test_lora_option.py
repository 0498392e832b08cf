"""`--lora`: an adapter from the command line, in the recipe and honoured by replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editkit.cli.options import scaled
from editkit.errors import EditkitError
from editkit.inference import provenance
from tests.command_line import Cli, picture, refused


@pytest.fixture
def style(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    save_file(
        {
            "lora_unet_final_layer_linear.lora_down.weight": torch.randn(2, 64, generator=generator),
            "lora_unet_final_layer_linear.lora_up.weight": torch.randn(64, 2, generator=generator),
        },
        tmp_path / "style.safetensors",
    )
    return tmp_path / "style.safetensors"


def test_an_edit_uses_it_and_replay_too(cli: Cli, random_pipeline: Path, tmp_path: Path, style: Path) -> None:
    source, output, plain = picture(tmp_path / "image.png"), tmp_path / "o.png", tmp_path / "plain.png"
    arguments = ["edit", source, "make it blue", "-b", random_pipeline, "--steps", 2]
    assert cli(*arguments, "-o", plain).status == 0
    run = cli(*arguments, "-o", output, "--lora", f"{style}=0.5")
    assert (run.status, run.err) == (0, "")
    assert output.read_bytes() != plain.read_bytes()
    told = provenance.read(output)
    assert told["lora"] == {str(style): 0.5}
    assert any(key.startswith("adapter style-") and key.endswith(" x0.5") for key in told["weights"])
    assert "lora" not in provenance.read(plain)
    assert cli("replay", output).out == f"{output}: identical\n"
    style.rename(tmp_path / "moved.safetensors")
    refused(cli("replay", output), "style.safetensors is neither an existing file or folder")
    assert cli("replay", output, "--lora", f"{tmp_path / 'moved.safetensors'}=0.5").status == 0


def test_other_commands_wear_it(cli: Cli, random_pipeline: Path, tmp_path: Path, style: Path) -> None:
    """Each loads the file, and refuses one that is not there."""
    source, output, gone = picture(tmp_path / "image.png"), tmp_path / "o.png", tmp_path / "gone.safetensors"
    shared = ["-b", random_pipeline, "--steps", 1, "-o", output]
    for command in (
        ["generate", "a blue cat", *shared],
        ["compare", source, "make it blue", "-m", "kontext", *shared],
    ):
        assert cli(*command, "--lora", style).status == 0
        refused(cli(*command, "--lora", gone), "gone.safetensors is neither")
    shared[-1] = tmp_path / "report"
    refused(
        cli("eval", "shapesworld", "--n", 1, *shared, "--lora", gone),
        "gone.safetensors is neither",
    )


def test_how_files_and_scales_are_told_apart(style: Path, tmp_path: Path) -> None:
    (tmp_path / "rank=16").mkdir()
    assert scaled([str(style), "owner/name=0.5", str(tmp_path / "rank=16"), "b=-2"]) == {
        str(style): 1,
        "owner/name": 0.5,
        str(tmp_path / "rank=16"): 1,
        "b": -2,
    }
    for given, words in (
        ([str(style)] * 2, "given twice"),
        (["=0.5"], "names no file"),
        (["a=nan"], "names no"),
    ):
        with pytest.raises(EditkitError, match=words):
            scaled(given)
