"""Checkpoints that cannot be resumed from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cases import SMALL_AUTOENCODER, Place, halved
from tests.command_line import Cli, copied, refused

DAMAGED_CHECKPOINTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated weights": ("weights.safetensors", halved),
    "truncated optimizer": ("optimizer-0.safetensors", halved),
    "state that is not json": ("state.json", halved),
    "state without steps": ("state.json", lambda _: b"{}"),
    "state that is a list": ("state.json", lambda _: b"[1]"),
    "state of other optimizers": ("state.json", lambda _: b'{"step": 1, "optimizers": []}'),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step and its config."""
    from editkit import config
    from editkit.registry import recipe as recipe_module
    from editkit.train.loop import fit

    folder = tmp_path_factory.mktemp("checkpoint")
    module = recipe_module("autoencoder")
    settings = config.build(module.CONFIG, SMALL_AUTOENCODER, ["fit.steps=1", f"fit.output={folder}"])
    fit(module.JOB(settings), settings.fit)
    return folder / "checkpoint-0000001"


@pytest.mark.parametrize("case", DAMAGED_CHECKPOINTS)
def test_damaged_checkpoint(case: str, cli: Cli, place: Place, checkpoint: Path) -> None:
    name, change = DAMAGED_CHECKPOINTS[case]
    damaged = copied(checkpoint, place.folder / "damaged")
    (damaged / name).write_bytes(change((damaged / name).read_bytes()))
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    refused(cli("train", config, f"fit.resume={damaged}"), "checkpoint .*damaged does not fit")


def test_checkpoint_of_other_weights(cli: Cli, place: Place, checkpoint: Path) -> None:
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    run = cli("train", config, f"fit.resume={checkpoint}", "model.layers_per_block=2")
    refused(run, r"checkpoint-0000001 is of model\.layers_per_block=1, and this run has .*=2; resume with")
