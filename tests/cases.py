"""A folder for the files of one case, and the command lines and damages of cases."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.command_line import Cli, copied, files, picture, refused
from tests.random_weights import AUTOENCODER as AUTOENCODER_MODEL

WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a case makes its files."""

    folder: Path
    backbone: Path

    @property
    def image(self) -> Path:
        return picture(self.folder / "image.png")

    @property
    def output(self) -> Path:
        return self.folder / "output.png"

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def damaged(self) -> Path:
        return copied(self.backbone, self.folder / "damaged")


Arguments = list[object]

Case = tuple[Callable[[Place], Arguments], str]


def edit(place: Place, *more: object, image: object = None, backbone: object = None) -> Arguments:
    """The command line of an edit in one step, over an output that exists."""
    place.output.write_bytes(b"old")
    image = place.image if image is None else image
    backbone = place.backbone if backbone is None else backbone
    return ["edit", image, "make it blue", "-b", backbone, "-o", place.output, "--steps", 1, *more]


def instructed(place: Place, instruction: str) -> Arguments:
    arguments = edit(place)
    arguments[2] = instruction
    return arguments


def output(place: Place, path: object) -> Arguments:
    arguments = edit(place)
    arguments[arguments.index("-o") + 1] = path
    return arguments


def trained(place: Place, config: str, *overrides: str) -> Arguments:
    return ["train", place.file("config.yaml", config), *overrides]


def rewritten(file: str, content: Callable[[bytes], bytes]) -> Callable[[Place], Arguments]:
    """A backbone with another content in one of its files."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        (folder / file).write_bytes(content((folder / file).read_bytes()))
        return edit(place, backbone=folder)

    return make


def retensored(
    file: str, change: Callable[[dict[str, torch.Tensor]], object]
) -> Callable[[Place], Arguments]:
    """A backbone with other tensors."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        return edit(place, backbone=folder)

    return make


def with_nan(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[:1].fill_(torch.nan)


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def native(place: Place) -> Path:
    """The backbone's transformer in the native naming."""
    from backbones.conversion.checkpoints import convert

    return convert(place.backbone / "transformer", place.folder / "native.safetensors")


SMALL_AUTOENCODER = {
    "recipe": "autoencoder",
    "model": AUTOENCODER_MODEL,
    "fit": {"steps": 4, "batch": 1, "save_every": 2, "log_every": 1, "device": "cpu", "precision": "fp32"},
}


def assert_refused(case: Case, cli: Cli, place: Place) -> None:
    """One sentence that says the case's words, status 2, and every file as it was."""
    make, words = case
    arguments = make(place)
    before = files(place.folder)
    refused(cli(*arguments), words)
    assert files(place.folder) == before


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def trap(place: Place, name: str) -> Path:
    return place.file(name, pickle.dumps(Trap(place.folder / "sprung")))
