"""One server for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import editkit
from editkit.backbone import Backbone
from tests.serving.server import Served, served

SLOW_SENDER = 4
"""Seconds that the server gives a client to send a request."""


@pytest.fixture(scope="session")
def editor(tiny: Backbone) -> editkit.Editor:
    """The embedded backbone in this process."""
    return editkit.Editor(tiny)


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, editor: editkit.Editor) -> Path:
    """A folder with one adapter that works and one that fits nothing; nobody may name the one beside it."""
    folder = tmp_path_factory.mktemp("adapters") / "allowed"
    folder.mkdir()
    record, options = editor.method("kontext")
    inside = editor.backbone.transformer(record.role_under(options)).proj_out.in_features
    outside = editor.backbone.transformer(record.role_under(options)).proj_out.out_features
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "transformer.proj_out.lora_A.weight": torch.randn(2, inside, generator=generator),
        "transformer.proj_out.lora_B.weight": torch.randn(outside, 2, generator=generator),
    }
    save_file(tensors, folder / "strong.safetensors")
    misfit = {name: torch.randn(3, 3, generator=generator) for name in tensors}
    save_file(misfit, folder / "misfit.safetensors")
    save_file(tensors, folder.parent / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(folder.parent / "outside.safetensors")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, adapters: Path) -> Iterator[Served]:
    """The embedded backbone behind HTTP."""
    options = ("--adapters", adapters, "--body-seconds", SLOW_SENDER, "--max-pixels", 1_000_000)
    with served(tmp_path_factory.mktemp("server"), *options) as running:
        yield running
