"""`--lora`: an adapter from the command line, in the recipe and honoured by replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editkit.cli.options import scaled
from editkit.errors import EditkitError
from editkit.inference import provenance
from tests.command_line import Cli, picture, refused


def written(path: Path, width: int) -> Path:
    """A LoRA of the last layer of a transformer of this width."""
    generator = torch.Generator().manual_seed(1)
    save_file(
        {
            "lora_unet_final_layer_linear.lora_down.weight": torch.randn(2, width, generator=generator),
            "lora_unet_final_layer_linear.lora_up.weight": torch.randn(64, 2, generator=generator),
        },
        path,
    )
    return path


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return written(tmp_path / "style.safetensors", 64)


def test_an_edit_uses_it_and_replay_too(cli: Cli, random_pipeline: Path, tmp_path: Path, style: Path) -> None:
    source, output, plain = picture(tmp_path / "image.png"), tmp_path / "o.png", tmp_path / "plain.png"
    arguments = ["edit", source, "make it blue", "-b", random_pipeline, "--steps", 2]
    assert cli(*arguments, "-o", plain).status == 0
    run = cli(*arguments, "-o", output, "--lora", f"{style}=0.5")
    assert (run.status, run.err) == (0, "")
    assert output.read_bytes() != plain.read_bytes()
    told = provenance.read_recipe(output)
    assert told["lora"] == {str(style): 0.5}
    assert any(key.startswith("adapter style-") and key.endswith(" x0.5") for key in told["weights"])
    assert "lora" not in provenance.read_recipe(plain)
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


MASKED = ("masked", "-m", "aceplus", "--kind", "repainting")


@pytest.mark.parametrize("command", [("shapesworld", "-m", "icedit"), MASKED])
def test_a_report_says_what_was_worn(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    style, told = written(tmp_path / "tiny.safetensors", 256), []
    for place, more in enumerate(([], ["--lora", f"{style}=0.5", "--option", "adapter=null"])):
        folder = tmp_path / str(place)
        assert cli("eval", *command, "--n", 1, "--steps", 1, "-o", folder, *more).status == 0
        told.append(json.loads((folder / "report.json").read_text()))
    plain, worn = told
    assert not {"lora", "options"} & plain.keys()
    assert (worn["lora"], worn["options"]) == ({str(style): 0.5}, {"adapter": None})
    assert worn["kinds"] != plain["kinds"]


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


def test_an_empty_name_is_no_file() -> None:
    """As an unset variable gives."""
    with pytest.raises(EditkitError, match="--lora names no file"):
        scaled([""])
