"""Devices to run on, and GPUs to plan for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT
from tests.command_line import Cli, refused


@pytest.mark.parametrize("command", ["methods", "backbones", "train"])
def test_the_former_name_of_plan_device_works_and_is_not_shown(command: str, cli: Cli) -> None:
    told = cli(command, "--help").out
    assert "--plan-device" in told
    assert "--device" not in told
    config = [ROOT / "configs" / "flux1-dev" / "kontext-lora.yaml"] if command == "train" else []
    refused(cli(command, *config, "--device", "cuda:0"), "cuda:0 is a device to run on, not one to plan for")
    both = ["--device", "h100-80g", "--plan-device", "h100-80g"]
    refused(cli(command, *config, *both), "--device is the former name of --plan-device")


def test_replays_and_evaluations_tell_gpus_to_plan_for(
    cli: Cli, random_pipeline: Path, tmp_path: Path
) -> None:
    """Neither goes through the options that edits share."""
    why, made = "rtx4090-24g is a GPU to plan for", tmp_path / "made.png"
    edited = cli("generate", "a red car", "-b", random_pipeline, "--steps", 1, "--device", "cpu", "-o", made)
    assert edited.status == 0
    refused(cli("replay", made, "--device", "rtx4090-24g"), why)
    out = ["-m", "kontext", "-b", random_pipeline, "--out", tmp_path / "run"]
    run = cli("eval", "run", "shapesworld", *out, "--limit", 1, "--device", "rtx4090-24g")
    assert run.status == 2
    assert why in run.err
