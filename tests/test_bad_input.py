"""Every bad input gives one sentence and status 2 and loses nothing; odd but good input is converted."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from conftest import AUTOENCODER as AUTOENCODER_MODEL
from conftest import ROOT, image
from surface_fixtures import Cli, Run, command, copied, files, one_sentence, picture, python, refused

import editkit
from editkit import recipe
from editkit.errors import EditkitError
from editkit.types import EditRequest

pytest_plugins = ("surface_fixtures",)

RED = (200, 30, 20)
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


@pytest.fixture
def place(tmp_path: Path, random_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(folder=tmp_path, backbone=random_pipeline)


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


PICTURES: dict[str, Case] = {
    "missing image": (lambda p: edit(p, image="none.png"), "image none.png cannot be read"),
    "empty image": (lambda p: edit(p, image=p.file("a.png", "")), "empty file"),
    "truncated image": (lambda p: edit(p, image=p.file("a.png", halved(p.image.read_bytes()))), "damaged"),
    "huge image": (lambda p: edit(p, image=p.file("a.png", header(60_000, 60_000))), "over 100,000,000 pixels"),
    "text as image": (lambda p: edit(p, image=p.file("a.png", "hello")), "no known picture format"),
    "folder as image": (lambda p: edit(p, image=p.folder), "Is a directory"),
    "empty name of image": (lambda p: edit(p, image=""), "cannot be read"),
    "missing mask": (lambda p: edit(p, "--mask", "none.png"), "mask none.png cannot be read"),
    "mask of another size": (
        lambda p: edit(p, "--mask", picture(p.folder / "m.png", (24, 40), (255,) * 3)),
        "24x40 pixels, the image 40x24",
    ),
    "black mask": (lambda p: edit(p, "--mask", picture(p.folder / "m.png", colour=(0, 0, 0))), "0% white"),
    "cmyk mask": (lambda p: edit(p, "--mask", cmyk(p)), "CMYK"),
    "missing reference": (lambda p: edit(p, "--ref", p.image, "--ref", "none.png"), "reference none.png"),
    "text as reference": (lambda p: edit(p, "--ref", p.file("r.png", "hello")), "reference .* format"),
}

REQUESTS: dict[str, Case] = {
    "empty instruction": (lambda p: instructed(p, ""), "instruction is empty"),
    "whitespace instruction": (lambda p: instructed(p, " \t\n\u3000"), "instruction is empty"),
    "undecodable instruction": (lambda p: instructed(p, "make it \udcff"), "instruction"),
    "undecodable negative": (lambda p: edit(p, "--negative", "\udcff"), "negative"),
    "unknown method": (lambda p: edit(p, "-m", "kontekst"), "no method 'kontekst'.*kontext"),
    "path as method": (lambda p: edit(p, "-m", "../kontext"), "no method '../kontext'"),
    "unknown option key": (lambda p: edit(p, "--option", "layuot=index"), "'layuot'.*did you mean 'layout'"),
    "option without equals sign": (lambda p: edit(p, "--option", "layout"), "layout must read key=value"),
    "option of the wrong type": (lambda p: edit(p, "--option", "area=wide"), "wide"),
    "option outside its range": (lambda p: edit(p, "--option", "layout=heap"), "layout must be one of"),
    "negative area": (lambda p: edit(p, "--option", "sizes=exact", "--option", "area=-5"), "area"),
    "option that is not yaml": (lambda p: edit(p, "--option", "layout=[index"), r"layout=\[index"),
    "steps 0": (lambda p: edit(p, "--steps", 0), "steps=0.*1 to 1000"),
    "steps -3": (lambda p: edit(p, "--steps", -3), "steps=-3"),
    "steps abc": (lambda p: edit(p, "--steps", "abc"), "--steps"),
    "steps 1e9": (lambda p: edit(p, "--steps", 10**9), "steps=1000000000"),
    "steps beyond integers of the machine": (lambda p: edit(p, "--steps", 10**30), "steps=1000"),
    "size 0x10": (lambda p: edit(p, "--size", "0x10"), "size"),
    "size -1x10": (lambda p: edit(p, "--size", "-1x10"), "size -1x10.*WIDTHxHEIGHT"),
    "size abc": (lambda p: edit(p, "--size", "abc"), "size abc.*WIDTHxHEIGHT"),
    "size 99999x10": (lambda p: edit(p, "--size", "99999x10"), "too large.*8192"),
    "size without height": (lambda p: edit(p, "--size", "64x"), "size 64x .*WIDTHxHEIGHT"),
    "size beyond memory": (lambda p: edit(p, "--size", "64x" + "9" * 50), "size 64x999"),
    "guidance nan": (lambda p: edit(p, "--guidance", "nan"), "guidance=nan"),
    "guidance inf": (lambda p: edit(p, "--guidance", "inf"), "guidance=inf"),
    "guidance -1": (lambda p: edit(p, "--guidance", -1), "guidance=-1"),
    "guidance abc": (lambda p: edit(p, "--guidance", "abc"), "--guidance"),
    "seed -1": (lambda p: edit(p, "--seed", -1), "seed=-1"),
    "seed 1.5": (lambda p: edit(p, "--seed", 1.5), "--seed"),
    "seed beyond 64 bits": (lambda p: edit(p, "--seed", 2**64), "seed=18446744073709551616"),
    "device cuda": (lambda p: edit(p, "--device", "cuda:77"), "device 'cuda:77' is not here"),
    "device nonsense": (lambda p: edit(p, "--device", "toaster"), "device 'toaster' is not here"),
    "device meta": (lambda p: edit(p, "--device", "meta"), "device 'meta' is not here"),
    "device without name": (lambda p: edit(p, "--device", ""), "device '' is not here"),
    "dtype nonsense": (lambda p: edit(p, "--dtype", "float12"), "dtype 'float12' is unknown.*bfloat16"),
    "unknown command": (lambda p: ["edti"], "No such command 'edti'"),
    "unknown option": (lambda p: edit(p, "--stepz", 3), "No such option"),
    "option of another command": (lambda p: ["generate", "a circle", "--mask", p.image], "No such option"),
    "missing argument": (lambda p: ["edit", p.image], "Missing argument"),
    "argument too many": (lambda p: [*edit(p), "more"], "more"),
    "option without its value": (lambda p: [*edit(p), "--seed"], "--seed"),
    "generate nothing": (
        lambda p: ["generate", "", "-b", p.backbone, "-o", p.output],
        "instruction is empty",
    ),
    "unknown subcommand": (lambda p: ["eval", "shapes"], "No such command 'shapes'"),
}

OUTPUTS: dict[str, Case] = {
    "output below a file": (lambda p: output(p, p.image / "o.png"), "image.png/o.png cannot be written"),
    "output deep below a file": (lambda p: output(p, p.image / "a" / "b" / "o.png"), "cannot be written"),
    "output in the kernel's folder": (lambda p: output(p, "/proc/editkit/o.png"), "cannot be written"),
    "output of unknown suffix": (lambda p: output(p, p.folder / "o.tiff"), "must end in .png"),
    "output without name": (lambda p: output(p, ""), "must end in .png"),
    "output is a folder": (lambda p: output(p, made(p.folder / "o.png")), "is a directory"),
    "output of a name too long": (lambda p: output(p, p.folder / ("o" * 300 + ".png")), "name too long"),
    "output before the rest": (
        lambda p: [*output(p, p.image / "o.png"), "--device", "toaster"],
        "output .* cannot be written",
    ),
}

BACKBONES: dict[str, Case] = {
    "unknown backbone": (
        lambda p: edit(p, backbone="tiyn"),
        "no backbone 'tiyn'; there are tiny.*mean 'tiny'",
    ),
    "backbone without name": (lambda p: edit(p, backbone=""), "no backbone ''"),
    "missing folder": (lambda p: edit(p, backbone=p.folder / "none"), "none"),
    "missing folder below": (lambda p: edit(p, backbone="./none"), "./none"),
    "empty folder": (lambda p: edit(p, backbone=made(p.folder / "empty")), "no model_index.json"),
    "file as backbone": (lambda p: edit(p, backbone=p.image), "image.png"),
    "bad hub id": (lambda p: edit(p, backbone="some body/some thing"), "some body/some thing"),
    "schnell has no kontext": (lambda p: edit(p, backbone="flux1-schnell"), "flux1-schnell.*'kontext'.*text"),
    "index is not json": (rewritten("model_index.json", halved), "model_index.json"),
    "index is a list": (rewritten("model_index.json", lambda _: b"[1]"), "nameless pipeline"),
    "index of another pipeline": (reconfigured("model_index.json", _class_name="WanPipeline"), "WanPipeline"),
    "no transformer config": (without("transformer/config.json"), "transformer"),
    "transformer config is not json": (rewritten("transformer/config.json", halved), "transformer"),
    "transformer config is empty": (rewritten("transformer/config.json", lambda _: b"{}"), "transformer"),
    "no transformer": (without(f"transformer/{WEIGHTS}"), "transformer .* cannot be loaded"),
    "truncated transformer": (rewritten(f"transformer/{WEIGHTS}", halved), "transformer .* cannot be loaded"),
    "transformer of zeros": (
        rewritten(f"transformer/{WEIGHTS}", lambda c: bytes(len(c))),
        "transformer .* cannot",
    ),
    "huge transformer header": (
        rewritten(f"transformer/{WEIGHTS}", huge_header),
        "transformer .* cannot be loaded",
    ),
    "empty transformer": (
        rewritten(f"transformer/{WEIGHTS}", lambda _: b""),
        "transformer .* cannot be loaded",
    ),
    "wider transformer config": (
        reconfigured("transformer/config.json", in_channels=128),
        "transformer .* cannot",
    ),
    "longer transformer config": (
        reconfigured("transformer/config.json", num_layers=2),
        "transformer .* cannot",
    ),
    "shorter transformer config": (
        reconfigured("transformer/config.json", num_single_layers=0),
        "transformer .* cannot",
    ),
    "transformer without a tensor": (
        retensored(f"transformer/{WEIGHTS}", lambda tensors: tensors.pop("x_embedder.bias")),
        "transformer .* cannot be loaded",
    ),
    "no vae": (without(f"vae/{WEIGHTS}"), "vae .* cannot be loaded"),
    "truncated vae": (rewritten(f"vae/{WEIGHTS}", halved), "vae .* cannot be loaded"),
    "wider vae config": (reconfigured("vae/config.json", latent_channels=8), "vae .* cannot be loaded"),
    "vae without a tensor": (
        retensored(f"vae/{WEIGHTS}", lambda tensors: tensors.pop("decoder.conv_out.bias")),
        "vae .* cannot be loaded",
    ),
    "truncated text encoder": (rewritten("text_encoder/model.safetensors", halved), "text_encoder .* cannot"),
    "truncated second text encoder": (
        rewritten("text_encoder_2/model.safetensors", halved),
        "text_encoder_2 .* cannot",
    ),
    "wider text encoder config": (
        reconfigured("text_encoder/config.json", hidden_size=64),
        "text_encoder .* cannot",
    ),
    "longer text encoder config": (
        reconfigured("text_encoder_2/config.json", num_layers=2),
        "text_encoder_2 .* cannot",
    ),
    "no tokenizer": (without("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"), "tokenizer"),
    "truncated tokenizer": (rewritten("tokenizer_2/tokenizer.json", halved), "tokenizer_2"),
    "nan in the transformer": (retensored(f"transformer/{WEIGHTS}", with_nan("proj_out.bias")), "not finite"),
    "nan in the decoder": (retensored(f"vae/{WEIGHTS}", with_nan("decoder.conv_out.bias")), "not finite"),
    "nan in the encoder": (retensored(f"vae/{WEIGHTS}", with_nan("encoder.conv_in.bias")), "not finite"),
    "nan in the text encoder": (
        retensored("text_encoder_2/model.safetensors", with_nan("encoder.final_layer_norm.weight")),
        "not finite",
    ),
}

AUTOENCODER = "recipe: autoencoder\nfit: {steps: 1, batch: 1, device: cpu, precision: 'no'}\n"

COMMANDS: dict[str, Case] = {
    "missing config": (lambda p: ["train", "none.yaml"], "none.yaml cannot be read"),
    "folder as config": (lambda p: ["train", p.folder], "cannot be read"),
    "config that is not yaml": (lambda p: trained(p, "fit: [1"), "not YAML"),
    "config of bytes": (lambda p: ["train", p.file("c.yaml", b"\xff\xfe\xfa\x00")], "not YAML"),
    "config that is a list": (lambda p: trained(p, "- 1\n- 2\n"), "mapping"),
    "config that is a word": (lambda p: trained(p, "word"), "Unknown key 'word'"),
    "interpolation to nowhere": (lambda p: trained(p, "method: ${nowhere}"), "nowhere"),
    "misspelt key": (lambda p: trained(p, "fit: {setps: 3}"), "'fit.setps'.*did you mean 'fit.steps'"),
    "key that is a number": (lambda p: trained(p, "1: 2"), "1"),
    "value of the wrong type": (lambda p: trained(p, "fit: {steps: many}"), "many"),
    "value for a mapping": (lambda p: trained(p, "fit: 3"), "fit"),
    "value outside its range": (lambda p: trained(p, "fit: {steps: 0}"), "fit.steps must be at least 1"),
    "unknown recipe": (lambda p: trained(p, "recipe: edti"), "no training recipe 'edti'.*edit"),
    "recipe that is a list": (lambda p: trained(p, "recipe: [edit]"), "recipe"),
    "override without equals sign": (lambda p: trained(p, AUTOENCODER, "fit.steps"), "'fit.steps' must read"),
    "override of an unknown key": (
        lambda p: trained(p, AUTOENCODER, "fit.step=1"),
        "did you mean 'fit.steps'",
    ),
    "override of the wrong type": (lambda p: trained(p, AUTOENCODER, "fit.steps=1.5"), "1.5"),
    "override that is not yaml": (lambda p: trained(p, AUTOENCODER, "model=[1"), "model"),
    "unknown method in a config": (lambda p: trained(p, "method: nope"), "no method 'nope'"),
    "unknown backbone in a config": (lambda p: trained(p, "backbone: nope"), "no backbone 'nope'"),
    "unknown trainable": (lambda p: trained(p, "trainable: half"), "trainable must be lora or full"),
    "unknown optimizer": (lambda p: trained(p, "fit: {optim: {name: adma}}"), "'adma' is not one of adamw"),
    "held-out seeds": (lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{start: 5}}"), "held-out"),
    "unknown kind": (lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{kinds: {{mvoe: 1}}}}"), "mvoe"),
    "kinds of no weight": (
        lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{kinds: {{move: 0}}}}"),
        "kinds",
    ),
    "fresh without autoencoder": (lambda p: trained(p, "fresh: {vae: none}"), "none/config.json is missing"),
    "misspelt key of a fresh backbone": (lambda p: trained(p, "fresh: {wrods: none}"), "'wrods'"),
    "adapter that fits nowhere": (
        lambda p: trained(
            p, f"backbone: {p.backbone}\nlora: {{targets: [to_nowhere]}}\nfit: {{device: cpu}}"
        ),
        "adapter cannot be attached",
    ),
    "training device that is not here": (lambda p: trained(p, AUTOENCODER, "fit.device=toaster"), "toaster"),
    "resume from nowhere": (
        lambda p: trained(p, AUTOENCODER, "fit.resume=none"),
        "resume=none is not a checkpoint",
    ),
    "training output below a file": (
        lambda p: trained(p, AUTOENCODER, f"fit.output={p.image}/out"),
        "image.png/out cannot be written",
    ),
    "bad axes": (lambda p: ["weights", "convert", p.image, "out", "--axes", "a,b"], "--axes a,b"),
    "axes that do not fit": (lambda p: convert(p, "--axes", "8,12,14"), "axes"),
    "axes that are needed": (lambda p: convert(p), "--axes"),
    "convert nothing": (
        lambda p: ["weights", "convert", "none.safetensors", "out"],
        "none.safetensors does not exist",
    ),
    "convert a pickle": (
        lambda p: ["weights", "convert", p.file("a.ckpt", b"\x80\x04."), "out"],
        "a pickle, never opened",
    ),
    "convert a picture": (lambda p: ["weights", "convert", p.image, "out"], "of another kind"),
    "convert damaged weights": (
        lambda p: ["weights", "convert", p.file("a.safetensors", b"hello"), "out"],
        "cannot be converted",
    ),
    "convert onto something": (
        lambda p: ["weights", "convert", p.backbone / "transformer", p.file("there.safetensors", "x")],
        "there.safetensors exists",
    ),
    "convert below a file": (
        lambda p: ["weights", "convert", p.backbone / "transformer", p.image / "a.safetensors"],
        "cannot be written",
    ),
    "eval of nothing": (lambda p: evaluated(p, "--n", 0), "n=0"),
    "eval of too many": (lambda p: evaluated(p, "--n", 10_001), "n=10001"),
    "eval of fewer than no sessions": (lambda p: evaluated(p, "--n", 1, "--sessions", -1), "sessions=-1"),
    "eval in empty batches": (lambda p: evaluated(p, "--n", 1, "--batch-size", 0), "batch_size=0"),
    "eval with an unknown method": (lambda p: evaluated(p, "--n", 1, "-m", "nope"), "no method 'nope'"),
    "eval in no steps": (lambda p: evaluated(p, "--n", 1, "--steps", 0), "steps=0"),
    "eval output is a file": (
        lambda p: evaluated(p, "--n", 10_001, "-o", p.image),
        "image.png cannot be written",
    ),
    "eval output below a file": (
        lambda p: evaluated(p, "--n", 10_001, "-o", p.image / "report"),
        "image.png/report cannot be written",
    ),
}

CASES = {**PICTURES, **REQUESTS, **OUTPUTS, **BACKBONES, **COMMANDS}


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def cmyk(place: Place) -> Path:
    path = place.folder / "m.jpg"
    Image.new("CMYK", (40, 24)).save(path)
    return path


def native(place: Place) -> Path:
    """The backbone's transformer in the native naming."""
    from backbones.convert import convert

    return convert(place.backbone / "transformer", place.folder / "native.safetensors")


def convert(place: Place, *more: str) -> Arguments:
    return ["weights", "convert", native(place), place.folder / "out", *more]


def evaluated(place: Place, *more: object) -> Arguments:
    return ["eval", "shapesworld", "-b", place.backbone, "-o", place.folder / "report", *more]


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, cli: Cli, place: Place) -> None:
    make, words = CASES[case]
    arguments = make(place)
    before = files(place.folder)
    refused(cli(*arguments), words)
    assert files(place.folder) == before


def test_refused_by_a_process_of_its_own(place: Place) -> None:
    """What the tests in this process cannot see: remarks at import, the exit status itself."""
    damaged = with_nan("proj_out.bias")
    arguments = retensored(f"transformer/{WEIGHTS}", damaged)(place)
    before = files(place.folder)
    refused(command(*arguments, cwd=place.folder), "not finite")
    assert files(place.folder) == before


def test_refused_training_by_a_process_of_its_own(place: Place) -> None:
    arguments = trained(place, "fresh: {vae: none}")
    refused(command(*arguments, cwd=place.folder), "none/config.json is missing")
    assert list(place.folder.iterdir()) == arguments[1:]


def limited(size: int, *arguments: object, cwd: Path) -> Run:
    """A command under a limit on file sizes, which stands for the full disk: the kernel refuses a write half way."""
    script = (
        "import resource, sys; from editkit.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "main()\n"
    )
    return python("-c", script, *arguments, cwd=cwd, env={"PYTHONDONTWRITEBYTECODE": "1"})


def test_full_disk_keeps_the_old_picture(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = edit(place)
    before = files(place.folder)
    run = limited(512, *arguments, cwd=place.folder)
    refused(run, "output.png cannot be written .*free some space")
    assert files(place.folder) == before


SMALL_AUTOENCODER = {
    "recipe": "autoencoder",
    "model": AUTOENCODER_MODEL,
    "fit": {"steps": 4, "batch": 1, "save_every": 2, "log_every": 1, "device": "cpu", "precision": "no"},
}


def test_full_disk_keeps_the_old_checkpoint(cli: Cli, place: Place) -> None:
    pytest.importorskip("resource")
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    assert cli("train", config, "fit.steps=2").status == 0
    checkpoint = place.folder / "out" / "train" / "checkpoint-0000002"
    before = files(checkpoint)
    run = limited(50_000, "train", config, "fit.resume=latest", cwd=place.folder)
    assert run.status == 2
    assert re.search(r"\Aeditkit: .*checkpoint-0000004 cannot be written .*free some space and resume\.\n\Z", run.err)
    assert files(checkpoint) == before
    assert not list(checkpoint.parent.glob(".*"))


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
    from editkit.train.fit import fit

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
    refused(run, "checkpoint-0000001 does not fit .*other weights")


def test_interrupted_training_is_one_sentence(place: Place) -> None:
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    arguments = [sys.executable, "-m", "editkit", "train", str(config), "fit.steps=100000", "fit.save_every=100000"]
    log = place.folder / "out" / "train" / "log.jsonl"
    with subprocess.Popen(
        arguments,
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "editkit: Stopped.\n")


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights on this machine, no proxy."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """An address whose queue is full, so that connecting hangs as behind a firewall."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


HUB = {
    "a hub id": ("nobody/nothing", "nobody/nothing"),
    "a known hub id": ("black-forest-labs/FLUX.1-Kontext-dev", "black-forest-labs/FLUX.1-Kontext-dev"),
    "a known name": ("flux1-dev", r"black-forest-labs/FLUX.1-[A-Za-z-]+"),
}


@pytest.mark.parametrize("network", [refusing, silent])
@pytest.mark.parametrize("case", HUB)
@pytest.mark.usefixtures("no_cache")
def test_absent_weights_are_told_within_two_seconds(
    case: str,
    network: Callable[[], Any],
    cli: Cli,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    import backbones.flux  # noqa: F401  (imports take seconds of their own)

    name, repository = HUB[case]
    arguments = edit(place, backbone=name)
    before = files(place.folder)
    with network() as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        started = time.perf_counter()
        run = cli(*arguments)
        seconds = time.perf_counter() - started
    refused(run, f"The weights of ({repository}) .* https://huggingface.co/\\1 .*: hf download \\1$")
    assert ("Non-Commercial" in run.err) == (name != "nobody/nothing")
    assert seconds < 2
    assert files(place.folder) == before


@pytest.mark.usefixtures("no_cache")
def test_hub_behind_a_proxy_is_tried(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine reaches nothing itself; a proxy does, and says that it has no such thing."""
    from huggingface_hub import constants

    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Keep stderr clean."""

    with refusing() as endpoint, ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "")
        run = cli(*edit(place, backbone="nobody/nothing"))
        server.shutdown()
    refused(run, "nobody/nothing could not be downloaded .*hf download nobody/nothing$")
    assert any("nobody/nothing" in path for path in asked)


def test_offline_switch_of_the_hub(place: Place) -> None:
    env = {"HF_HUB_OFFLINE": "true", "HF_HOME": str(place.folder / "hub")}
    run = command(*edit(place, backbone="flux1-schnell"), "-m", "kontext", cwd=place.folder, env=env)
    refused(run, "flux1-schnell.*'kontext'")
    run = command("generate", "a circle", "-b", "flux1-schnell", cwd=place.folder, env=env)
    refused(run, "FLUX.1-schnell are not on this machine .* \\(Apache-2.0\\) .*hf download")
