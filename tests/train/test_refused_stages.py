"""Lists of stages that are refused."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Cli, refused
from tests.train.stage_list import LIST, written


def test_a_missing_list_is_one_sentence(cli: Cli, two_stages: Path) -> None:
    refused(cli("stages", "none.yaml"), "none.yaml cannot be read")


def test_a_missing_config_is_one_sentence(cli: Cli, two_stages: Path) -> None:
    (two_stages / "two.yaml").unlink()
    refused(cli("stages", "stages.yaml"), "config two.yaml cannot be read")
    assert not (two_stages / "out").exists(), "which is found before the first stage trains"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"stages": []}, "has no stages"),
        ([1], "must be a mapping"),
        ({"stages": [{"config": "one.yaml"}]}, "mandatory value: export"),
        (
            {"stages": [{"config": "one.yaml", "export": "out/two/export"}]},
            "exports into out/one/export, not",
        ),
        ({"stages": [LIST["stages"][0] | {"install": "one.yaml/below"}]}, "one.yaml is a file"),
    ],
)
def test_a_bad_list_is_one_sentence(listed: Any, words: str, cli: Cli, two_stages: Path) -> None:
    written(two_stages, listed)
    refused(cli("stages", "stages.yaml"), words)


def test_a_bad_config_is_one_sentence(cli: Cli, two_stages: Path) -> None:
    (two_stages / "two.yaml").write_text("recipe: autoencoder\nfit: {setps: 3}")
    refused(cli("stages", "stages.yaml"), "stage two.yaml cannot be trained: .*did you mean 'fit.steps'")


def test_one_process_at_a_time(cli: Cli, two_stages: Path) -> None:
    with Path("stages.yaml").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(cli("stages", "stages.yaml"), "Another process trains stages.yaml already")
