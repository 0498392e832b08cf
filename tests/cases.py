"""A folder for the files of one case, and the command lines and damages of cases."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import ROOT
from tests.command_line import Cli, copied, files, picture, refused
from tests.random_weights import AUTOENCODER as AUTOENCODER_MODEL
from tests.random_weights import CLIP, T5

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


def without(*files: str) -> Callable[[Place], Arguments]:
    """A backbone that lacks a file."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        for file in files:
            (folder / file).unlink()
        return edit(place, backbone=folder)

    return make


def rewritten(file: str, content: Callable[[bytes], bytes]) -> Callable[[Place], Arguments]:
    """A backbone with another content in one of its files."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        (folder / file).write_bytes(content((folder / file).read_bytes()))
        return edit(place, backbone=folder)

    return make


def reconfigured(file: str, **values: Any) -> Callable[[Place], Arguments]:
    """A backbone whose config says something else than its weights."""
    return rewritten(file, lambda content: json.dumps(json.loads(content) | values).encode())


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


def huge_header(content: bytes) -> bytes:
    return (1 << 60).to_bytes(8, "little") + content[8:]


def header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    claims = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", claims) + chunk(b"IDAT", zlib.compress(b""))


AUTOENCODER = "recipe: autoencoder\nfit: {steps: 1, batch: 1, device: cpu, precision: fp32}\n"


def damaged_vae(place: Place) -> Path:
    vae = place.damaged() / "vae"
    (vae / WEIGHTS).write_bytes(halved((vae / WEIGHTS).read_bytes()))
    return vae


def fresh(place: Place, **values: Any) -> Arguments:
    """Training of a backbone with random weights."""
    words = ROOT / "configs" / "tiny" / "words.txt"
    whole = {"vae": str(place.backbone / "vae"), "words": str(words), "clip": CLIP, "t5": T5, **values}
    return trained(place, json.dumps({"trainable": "full", "fresh": whole, "fit": {"device": "cpu"}}))


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def cmyk(place: Place) -> Path:
    path = place.folder / "m.jpg"
    Image.new("CMYK", (40, 24)).save(path)
    return path


def native(place: Place) -> Path:
    """The backbone's transformer in the native naming."""
    from backbones.conversion.checkpoints import convert

    return convert(place.backbone / "transformer", place.folder / "native.safetensors")


def convert(place: Place, *more: str) -> Arguments:
    return ["weights", "convert", native(place), place.folder / "out", *more]


def evaluated(place: Place, *more: object) -> Arguments:
    return ["eval", "shapesworld", "-b", place.backbone, "-o", place.folder / "report", *more]


SMALL_AUTOENCODER = {
    "recipe": "autoencoder",
    "model": AUTOENCODER_MODEL,
    "fit": {"steps": 4, "batch": 1, "save_every": 2, "log_every": 1, "device": "cpu", "precision": "fp32"},
}


def mask(place: Place) -> Path:
    """White on the left."""
    path = place.folder / "mask.png"
    halves = Image.new("1", (40, 24))
    halves.paste(1, (0, 0, 20, 24))
    halves.save(path)
    return path


def assert_refused(case: Case, cli: Cli, place: Place) -> None:
    """One sentence that says the case's words, status 2, and every file as it was."""
    make, words = case
    arguments = make(place)
    before = files(place.folder)
    refused(cli(*arguments), words)
    assert files(place.folder) == before
