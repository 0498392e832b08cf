"""Disks that fill half way: the old file stays, nothing half-written is left, and a sentence says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from editkit.train import folder_lock
from tests.cases import SMALL_AUTOENCODER, Place, edit, trained
from tests.command_line import Cli, files, refused


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Under a limit on file sizes, which stands for the full disk: the kernel stops a write half way."""
    resource = pytest.importorskip("resource", reason="Windows limits no file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_keeps_the_old_picture(cli: Cli, place: Place) -> None:
    arguments = edit(place)
    before = files(place.folder)
    with limited(512):
        run = cli(*arguments)
    refused(run, "output.png cannot be written .*free some space")
    assert files(place.folder) == before


def test_full_disk_keeps_the_old_checkpoint(cli: Cli, place: Place) -> None:
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    assert cli("train", config, "fit.steps=2").status == 0
    checkpoint = place.folder / "out" / "train" / "checkpoint-0000002"
    before = files(checkpoint)
    with limited(50_000):
        run = cli("train", config, "fit.resume=latest")
    assert run.status == 2
    assert re.search(
        r"\Aeditkit: .*checkpoint-0000004 cannot be written .*free some space and resume\.\n\Z", run.err
    )
    assert files(checkpoint) == before
    assert [path.name for path in checkpoint.parent.glob(".*")] == [folder_lock.FILE]


def test_full_disk_keeps_no_half_of_the_latents(cli: Cli, place: Place) -> None:
    arguments = trained(place, json.dumps({"data": {"count": 4}, "fit": {"steps": 1, "device": "cpu"}}))
    with limited(4000):
        run = cli(*arguments)
    assert run.status == 2
    assert re.search(
        r"editkit: Latents cannot be kept in .*free some space or give another cache\.\n\Z", run.err
    )
    assert not list((place.folder / "out").glob("cache/*"))
    assert not list((place.folder / "out").glob("cache/.*"))
