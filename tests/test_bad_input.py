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
from conftest import AUTOENCODER as AUTOENCODER_MODEL
from conftest import CLIP, ROOT, T5
from conftest import image as colourful
from PIL import Image
from safetensors.torch import load_file, save_file
from surface_fixtures import (
    Cli,
    Run,
    command,
    copied,
    files,
    in_process,
    one_sentence,
    picture,
    python,
    refused,
)

import editkit
from editkit.errors import EditkitError
from editkit.inference import provenance
from editkit.types import EditRequest

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
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


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
    "huge image": (
        lambda p: edit(p, image=p.file("a.png", header(60_000, 60_000))),
        "over 100,000,000 pixels",
    ),
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
    "unknown option of the backbone": (
        lambda p: edit(p, "--load", "ofload=block"),
        "'ofload'.*did you mean 'offload'",
    ),
    "argument of another option": (lambda p: edit(p, "--load", "device=cpu"), "Unknown key 'device'"),
    "backbone's option without equals sign": (
        lambda p: edit(p, "--load", "offload"),
        "--load offload must read",
    ),
    "backbone's option that is not yaml": (lambda p: edit(p, "--load", "axes=[1"), r"--load axes=\[1"),
    "backbone's option of the wrong type": (lambda p: edit(p, "--load", "axes=wide"), "at axes: "),
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
    "search mode without a search": (lambda p: edit(p, "--search-mode", "restart"), "need --search with"),
    "preview steps without a search": (lambda p: edit(p, "--preview-steps", 0), "need --search with"),
    "preview steps of a made picture": (
        lambda p: ["generate", "a circle", "-b", p.backbone, "-o", p.output, "--preview-steps", 0],
        "need --search with",
    ),
    "judge without a search": (lambda p: edit(p, "--judge", "tiny"), "need --search with"),
    "judge's option without a search": (
        lambda p: edit(p, "--judge-option", "margin=1"),
        "need --search with",
    ),
    "unknown search mode": (
        lambda p: edit(p, "--search", 2, "--search-mode", "sideways"),
        "mode must be continue or restart, not 'sideways'",
    ),
    "no preview steps": (lambda p: edit(p, "--search", 2, "--preview-steps", 0), "must be at least 1"),
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

AUTOENCODER = "recipe: autoencoder\nfit: {steps: 1, batch: 1, device: cpu, precision: fp32}\n"

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
    "unknown trainable": (lambda p: trained(p, "trainable: half"), "trainable must be lora, full or input"),
    "unknown optimizer": (lambda p: trained(p, "fit: {optim: {name: adma}}"), "'adma' is not one of adamw"),
    "held-out seeds": (lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{start: 5}}"), "held.out"),
    "unknown kind": (lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{kinds: {{mvoe: 1}}}}"), "mvoe"),
    "kinds of no weight": (
        lambda p: trained(p, f"backbone: {p.backbone}\ndata: {{kinds: {{move: 0}}}}"),
        "kinds",
    ),
    "fresh without autoencoder": (lambda p: trained(p, "fresh: {vae: none}"), "none/config.json is missing"),
    "misspelt key of an autoencoder": (
        lambda p: trained(p, AUTOENCODER, "model.latent_chanels=4"),
        "'latent_chanels'.*did you mean 'latent_channels'",
    ),
    "autoencoder of odd sizes": (
        lambda p: trained(p, AUTOENCODER, "model.norm_num_groups=5"),
        "model does not fit",
    ),
    "autoencoder of words": (
        lambda p: trained(p, AUTOENCODER, "model.latent_channels=few"),
        "model does not fit",
    ),
    "start without autoencoder": (
        lambda p: trained(p, AUTOENCODER, "start=none"),
        "start=none holds no auto",
    ),
    "start from damaged weights": (
        lambda p: trained(p, AUTOENCODER, f"start={damaged_vae(p)}"),
        "AutoencoderKL in .*damaged/vae cannot be loaded",
    ),
    "fresh in an unknown family": (lambda p: fresh(p, family="tiyn"), "did you mean 'tiny'"),
    "fresh with a misspelt key": (lambda p: fresh(p, transformer={"num_layer": 1}), "mean 'num_layers'"),
    "fresh CLIP with a misspelt key": (
        lambda p: fresh(p, clip={"hidden_size_": 8}),
        "key of fresh.clip called 'hidden_size_'.*mean 'hidden_size'",
    ),
    "fresh T5 with a misspelt key": (lambda p: fresh(p, t5={**T5, "num_layer": 1}), "mean 'num_layers'"),
    "fresh with odd sizes": (
        lambda p: fresh(p, transformer={"num_layers": "few"}),
        "transformer does not fit",
    ),
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
    """Under a limit on file sizes, which stands for the full disk: the kernel stops a write half way."""
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
    "fit": {"steps": 4, "batch": 1, "save_every": 2, "log_every": 1, "device": "cpu", "precision": "fp32"},
}


def test_full_disk_keeps_the_old_checkpoint(cli: Cli, place: Place) -> None:
    pytest.importorskip("resource")
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    assert cli("train", config, "fit.steps=2").status == 0
    checkpoint = place.folder / "out" / "train" / "checkpoint-0000002"
    before = files(checkpoint)
    run = limited(50_000, "train", config, "fit.resume=latest", cwd=place.folder)
    assert run.status == 2
    assert re.search(
        r"\Aeditkit: .*checkpoint-0000004 cannot be written .*free some space and resume\.\n\Z", run.err
    )
    assert files(checkpoint) == before
    assert not list(checkpoint.parent.glob(".*"))


def test_full_disk_keeps_no_half_of_the_latents(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = trained(place, json.dumps({"data": {"count": 4}, "fit": {"steps": 1, "device": "cpu"}}))
    run = limited(4000, *arguments, cwd=place.folder)
    assert run.status == 2
    assert re.search(
        r"editkit: Latents cannot be kept in .*free some space or give another cache\.\n\Z", run.err
    )
    assert not list((place.folder / "out").glob("cache/*"))
    assert not list((place.folder / "out").glob("cache/.*"))


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
    refused(run, "checkpoint-0000001 does not fit .*other weights")


def test_interrupted_training_is_one_sentence(place: Place) -> None:
    config = place.file("config.yaml", json.dumps(SMALL_AUTOENCODER))
    arguments = [
        sys.executable,
        "-m",
        "editkit",
        "train",
        str(config),
        "fit.steps=100000",
        "fit.save_every=100000",
    ]
    log = place.folder / "out" / "train" / "log.jsonl"
    with subprocess.Popen(
        arguments,
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
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


@pytest.mark.parametrize(("case", "network"), [*((case, refusing) for case in HUB), ("a known name", silent)])
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
        for _ in range(3):  # a busy machine may be slow once
            started = time.perf_counter()
            run = cli(*arguments)
            seconds = time.perf_counter() - started
            if seconds < 2:
                break
    refused(run, f"The weights of ({repository}) .* https://huggingface.co/\\1 .*: hf download \\1$")
    assert ("Non-Commercial" in run.err) == (name != "nobody/nothing")
    assert seconds < 2
    assert files(place.folder) == before


@pytest.mark.usefixtures("no_cache")
def test_hub_behind_a_proxy_is_tried(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine reaches nothing itself; a proxy does, and says that it has no such thing."""
    from huggingface_hub import close_session, constants

    close_session()  # an open one keeps the proxy that it began with
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
    run = command("generate", "a circle", "-b", "flux1-schnell", cwd=place.folder, env=env)
    refused(run, r"FLUX.1-schnell are not on this machine .* \(Apache-2.0\) .*hf download")


# --- Too little memory ---


def test_too_little_memory_is_one_sentence(place: Place) -> None:
    pytest.importorskip("resource")
    arguments = edit(place, "--size", "2048x2048")
    before = files(place.folder)
    script = (
        "import logging, os, resource, torch; logging.getLogger('bitsandbytes').setLevel(logging.ERROR)\n"
        "import backbones.flux; from editkit.cli import main\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * os.sysconf('SC_PAGE_SIZE') + (400 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "main()\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    refused(
        python("-c", script, *arguments, cwd=place.folder, env={"OMP_NUM_THREADS": "1"}), "too little memory"
    )
    assert files(place.folder) == before


# --- Odd but good ---


def with_mode(mode: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        path = place.folder / ("odd.jpg" if mode == "CMYK" else "odd.png")
        colourful(40, 24).convert(mode).save(path)
        return path

    return make


def sixteen_bit(place: Place) -> Path:
    path = place.folder / "odd.png"
    Image.fromarray(np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)).save(path)
    return path


def animated(place: Place) -> Path:
    path = place.folder / "odd.gif"
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def turned(place: Place) -> Path:
    path, exif = place.folder / "odd.jpg", Image.Exif()
    exif[0x0112] = 6
    colourful(24, 40).save(path, exif=exif)
    return path


def sized(width: int, height: int) -> Callable[[Place], Path]:
    return lambda place: picture(place.folder / "odd.png", (width, height))


ODD_PICTURES: dict[str, tuple[Callable[[Place], Path], tuple[int, int], str]] = {
    "1x1": (sized(1, 1), (1, 1), ""),
    "1x4000": (sized(1, 4000), (1, 4000), ""),
    "4000x1": (sized(4000, 1), (4000, 1), ""),
    "16-bit": (sixteen_bit, (40, 24), ""),
    "gray": (with_mode("L"), (40, 24), ""),
    "one bit": (with_mode("1"), (40, 24), ""),
    "cmyk": (with_mode("CMYK"), (40, 24), ""),
    "palette": (with_mode("P"), (40, 24), ""),
    "animated": (animated, (40, 24), "note: only the first of 3 frames is used\n"),
    "turned by exif": (turned, (40, 24), ""),
}


@pytest.mark.parametrize("case", ODD_PICTURES)
def test_odd_pictures_are_edited(case: str, cli: Cli, place: Place) -> None:
    make, size, notes = ODD_PICTURES[case]
    run = cli(*edit(place, image=make(place)))
    assert (run.status, run.err) == (0, notes)
    assert run.out.startswith(f"{place.output} ({size[0]}x{size[1]}, ")
    with Image.open(place.output) as result:
        assert (result.size, result.mode) == (size, "RGB")
        result.load()


def test_alpha_is_kept(cli: Cli, place: Place) -> None:
    alpha = Image.linear_gradient("L").resize((40, 24))
    source = colourful(40, 24)
    source.putalpha(alpha)
    source.save(place.folder / "odd.png")
    assert cli(*edit(place, image=place.folder / "odd.png")).status == 0
    with Image.open(place.output) as result:
        assert result.mode == "RGBA"
        assert result.getchannel("A").tobytes() == alpha.tobytes()


ODD_REQUESTS: dict[str, tuple[Callable[[Place], Arguments], str]] = {
    "ten thousand words": (
        lambda p: instructed(p, "circle " * 10_000),
        r"note: The instruction is longer than 48 tokens; its end is not read\.\n",
    ),
    "non-latin instruction": (
        lambda p: instructed(p, "把圆变成蓝色 синий"),
        r"note: The backbone .* does not know the words 把圆变成蓝色, синий; .*'flux1-dev'\.\n",
    ),
    "emoji as instruction": (lambda p: instructed(p, "🙂"), ""),
    "punctuation as instruction": (lambda p: instructed(p, "?!"), ""),
    "lines in an instruction": (lambda p: instructed(p, "make it blue\nand green\t"), ""),
    "guidance 0": (lambda p: edit(p, "--guidance", 0), ""),
    "largest seed": (lambda p: edit(p, "--seed", 2**63 - 1), ""),
    "size 1x1": (lambda p: edit(p, "--size", "1x1"), ""),
    "size off the grid": (lambda p: edit(p, "--size", "33X17"), ""),
    "bfloat16": (lambda p: edit(p, "--dtype", "bfloat16"), ""),
    "empty negative prompt": (lambda p: edit(p, "--negative", ""), ""),
    "references of other sizes": (
        lambda p: edit(p, "--ref", picture(p.folder / "r.png", (3, 90)), "--ref", p.image),
        "",
    ),
    "preserve without mask": (lambda p: edit(p, "--preserve"), ""),
    "mask of one bit": (lambda p: edit(p, "--mask", mask(p)), ""),
    "option": (lambda p: edit(p, "--option", "layout=stitch", "--option", "sizes=exact"), ""),
    "option of the backbone": (lambda p: edit(p, "--load", "attention=native"), ""),
    "known device": (lambda p: edit(p, "--device", "cpu"), ""),
}


def mask(place: Place) -> Path:
    """White on the left."""
    path = place.folder / "mask.png"
    halves = Image.new("1", (40, 24))
    halves.paste(1, (0, 0, 20, 24))
    halves.save(path)
    return path


@pytest.mark.parametrize("case", ODD_REQUESTS)
def test_odd_requests_are_carried_out(case: str, cli: Cli, place: Place) -> None:
    make, notes = ODD_REQUESTS[case]
    run = cli(*make(place))
    assert run.status == 0, run
    assert re.fullmatch(notes, run.err), run.err
    with Image.open(place.output) as result:
        assert result.size == (40, 24)
        result.load()


@pytest.mark.parametrize("name", ["o.jpg", "o.JPEG", "o.webp", "new/folder/o.png", "ö 🙂.png"])
def test_outputs_are_written_whole(name: str, cli: Cli, place: Place) -> None:
    path = place.folder / name
    run = cli(*output(place, path))
    assert (run.status, run.err) == (0, "")
    with Image.open(path) as result:
        assert result.size == (40, 24)
        result.load()
    assert not list(path.parent.glob("*.part"))


def test_output_over_the_input(cli: Cli, place: Place) -> None:
    """Replaced whole on success, and as it was where the edit fails."""
    path = place.image
    old = path.read_bytes()
    refused(cli(*edit(place, "--guidance", "nan", "-o", path)), "guidance")
    assert path.read_bytes() == old
    assert cli(*edit(place, "-o", path)).status == 0
    assert provenance.read(path)["instruction"] == "make it blue"


def test_generate_needs_no_picture(cli: Cli, place: Place) -> None:
    arguments = ["-b", place.backbone, "-o", place.output, "--steps", 1, "--size", "48x32"]
    run = cli("generate", "a red circle", *arguments)
    assert run.status == 0, run
    with Image.open(place.output) as result:
        assert result.size == (48, 32)


def test_generate_searches(cli: Cli, place: Place) -> None:
    sheet = place.folder / "sheet.png"
    arguments = ["-b", place.backbone, "-o", place.output, "--steps", 2, "--size", "48x32", "--json"]
    search = ["--search", 2, "--judge", "tiny", "--judge-option", "device=cpu", "--contact-sheet", sheet]
    run = cli("generate", "a red circle", *arguments, *search, "--seed", 3)
    assert run.status == 0, run
    searched = json.loads(run.out)["search"]
    assert searched["seeds"] == [3, 4]
    assert sorted(searched["steps_by_seed"].values()) == [1, 2]
    with Image.open(sheet) as previews:
        assert previews.width > 2 * 48
    once = cli("generate", "a red circle", *arguments, *search, "--seed", 3, "--one-order")
    asked = [json.loads(each.out)["search"]["comparisons"][0]["replies"] for each in (run, once)]
    assert [len(replies) for replies in asked] == [2, 1]
    refused(cli("generate", "a red circle", *arguments, "--search", 2), "needs a source picture")
    twice = ["--search", 2, "--judge", "tiny", "--contact-sheet", place.output]
    refused(cli("generate", "a red circle", *arguments, *twice), "give two files")


@pytest.mark.parametrize("arguments", [[], ["eval"], ["weights"]], ids=str)
def test_a_bare_command_shows_its_help(arguments: list[str], cli: Cli) -> None:
    run = cli(*arguments)
    assert (run.status, run.err) == (0, "")
    assert "Usage:" in run.out


# --- The API ---


@pytest.fixture(scope="module")
def editor(random_pipeline: Path) -> editkit.Editor:
    return editkit.load(str(random_pipeline), "cpu")


SOURCE = colourful(40, 24)

BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "mask without image": ({"image": None, "mask": SOURCE}, "mask needs an image"),
    "array as image": ({"image": np.zeros((4, 4, 3))}, "image is of type ndarray"),
    "bytes as image": ({"image": b"png"}, "image is of type bytes"),
    "null byte in path": ({"image": "a\0b.png"}, "null"),
    "array as mask": ({"mask": np.ones((24, 40))}, "mask is of type ndarray"),
    "array as reference": ({"references": [np.ones((24, 40))]}, "reference is of type ndarray"),
    "path as references": ({"references": "reference.png"}, "references"),
    "mask of another size": ({"mask": Image.new("L", (24, 40), 255)}, "24x40 pixels, the image 40x24"),
    "no instruction": ({"instruction": None}, "instruction is empty"),
    "number as instruction": ({"instruction": 5}, "instruction"),
    "number as negative": ({"negative": 5}, "negative"),
    "text as steps": ({"steps": "4"}, "steps=4"),
    "fraction of steps": ({"steps": 1.5}, "steps=1.5"),
    "text as guidance": ({"guidance": "3"}, "guidance=3"),
    "infinite guidance": ({"guidance": float("inf")}, "guidance=inf"),
    "no seed": ({"seed": None}, "seed=None"),
    "fractional seed": ({"seed": 0.5}, "seed=0.5"),
    "text as size": ({"size": "64x64"}, "size=64x64"),
    "number as size": ({"size": 64}, "size=64"),
    "three sides": ({"size": (64, 64, 64)}, "size="),
    "fractional size": ({"size": (64.0, 64)}, "size="),
    "empty size": ({"size": (0, 64)}, "size="),
    "huge size": ({"size": (64, 8193)}, "too large"),
    "no method": ({"method": None}, "no method None"),
    "unknown method": ({"method": "kontekst"}, "did you mean 'kontext'"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests(case: str, editor: editkit.Editor) -> None:
    values, words = BAD_REQUESTS[case]
    given = {"image": SOURCE, "instruction": "make it blue", "steps": 1} | values
    with pytest.raises(EditkitError, match=words) as caught:
        editor.edit(**given)
    one_sentence(str(caught.value))


def test_bad_requests_fail_alone(editor: editkit.Editor) -> None:
    """Among good ones, each where it was; nothing is raised."""
    good = {"image": SOURCE, "instruction": "make it blue", "steps": 1}
    cases = list(BAD_REQUESTS.values())
    requests = [
        EditRequest(**good),
        *(EditRequest(**(good | values)) for values, _ in cases),
        EditRequest(**good),
    ]
    first, *failed, last = editor.edit_many(requests)
    assert first.image is not None
    assert last.image is not None
    for result, (_, words) in zip(failed, cases, strict=True):
        assert result.image is None
        assert re.search(words, str(result.error))


LOADING: dict[str, tuple[Callable[[Place], dict[str, Any]], str]] = {
    "missing path": (lambda p: {"backbone": p.folder / "none"}, "no backbone"),
    "unknown option": (lambda p: {"ofload": "block"}, "'ofload'.*did you mean 'offload'"),
    "unknown offload": (lambda p: {"offload": "disk"}, "offload must be none, block or leaf"),
    "transformers in a list": (lambda p: {"transformer": [1]}, "a path, or paths by role"),
    "options of an unknown method": (lambda p: {"options": {"kontekst": {}}}, "did you mean 'kontext'"),
    "unknown option of a method": (
        lambda p: {"options": {"kontext": {"layuot": 1}}},
        "did you mean 'layout'",
    ),
    "dtype of another kind": (lambda p: {"dtype": torch.int8}, "dtype torch.int8"),
}


@pytest.mark.parametrize("case", LOADING)
def test_bad_loading(case: str, place: Place) -> None:
    make, words = LOADING[case]
    with pytest.raises(EditkitError, match=words) as caught:
        editkit.load(**({"backbone": str(place.backbone), "device": "cpu"} | make(place)))
    one_sentence(str(caught.value))


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def trap(place: Place, name: str) -> Path:
    return place.file(name, pickle.dumps(Trap(place.folder / "sprung")))


def trapped_folder(place: Place, weights: str = WEIGHTS) -> Path:
    """A transformer folder with a pickle under the weights' name."""
    folder = copied(place.backbone / "transformer", place.folder / "transformer")
    (folder / WEIGHTS).unlink()
    trap(place, f"transformer/{weights}")
    return folder


TRANSFORMERS: dict[str, tuple[Callable[[Place], dict[str, Any]], str]] = {
    **{
        f"pickle {suffix}": (
            lambda p, suffix=suffix: {"transformer": trap(p, f"a{suffix}")},
            "pickles are never",
        )
        for suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", "")
    },
    "pickle for one role": (lambda p: {"transformer": {"kontext": trap(p, "a.pt")}}, "pickles are never"),
    "pickle by another name": (lambda p: {"transformer": trap(p, "a.safetensors")}, "a.safetensors"),
    "pickle in a folder": (
        lambda p: {"transformer": trapped_folder(p, "diffusion_pytorch_model.bin")},
        "transformer .* cannot be loaded",
    ),
    "pickle in a folder by another name": (
        lambda p: {"transformer": trapped_folder(p)},
        "transformer .* cannot be loaded",
    ),
    "missing file": (lambda p: {"transformer": "none.safetensors"}, "none.safetensors cannot be loaded"),
    "missing folder": (lambda p: {"transformer": "some/where"}, "some/where cannot be loaded"),
    "whole pipeline": (lambda p: {"transformer": p.backbone}, "cannot be loaded"),
    "an autoencoder": (lambda p: {"transformer": p.backbone / "vae"}, "cannot be loaded"),
    "native file without axes": (lambda p: {"transformer": native(p)}, "axes"),
    "native file with wrong axes": (lambda p: {"transformer": native(p), "axes": (8, 8, 8)}, "axes"),
    "file quantized with a wrong argument": (
        lambda p: {"transformer": native(p), "quantization": {"type": "QuantoConfig", "weights": 4}},
        "QuantoConfig refuses its arguments",
    ),
    "unknown attention": (lambda p: {"attention": "none"}, "options do not fit"),
    "attention that is not here": (lambda p: {"attention": "flash"}, "options do not fit"),
    "unknown cache": (lambda p: {"cache": {"type": "LastBlockCacheConfig"}}, "FirstBlockCacheConfig"),
    "cache without type": (lambda p: {"cache": {"threshold": 1.0}}, "FirstBlockCacheConfig"),
    "cache of wrong arguments": (
        lambda p: {"cache": {"type": "FirstBlockCacheConfig", "thershold": 1.0}},
        "refuses its arguments",
    ),
    "class that is no cache": (lambda p: {"cache": {"type": "FluxPipeline"}}, "type='FluxPipeline'"),
    "unknown quantization": (lambda p: {"quantization": {"type": "HalfBitConfig"}}, "BitsAndBytesConfig"),
}


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_bad_transformers(case: str, place: Place) -> None:
    make, words = TRANSFORMERS[case]
    options = make(place)
    editor = editkit.load(str(place.backbone), "cpu", **options)
    with pytest.raises(EditkitError, match=words) as caught:
        editor.edit(SOURCE, "make it blue", steps=1)
    one_sentence(str(caught.value))
    assert not (place.folder / "sprung").exists()


def test_the_trap_works(place: Place) -> None:
    pickle.loads(trap(place, "a.pt").read_bytes())
    assert (place.folder / "sprung").exists()


def test_adapters_by_wrong_names(place: Place) -> None:
    from editkit import adapters

    options = adapters.LoraOptions(rank=2)
    trained_on = editkit.load(str(place.backbone), "cpu").backbone.transformer("kontext")
    adapters.attach(trained_on, options)
    file = adapters.save(trained_on, place.folder).rename(place.folder / "style v1.0.safetensors")
    editor = editkit.load(str(place.backbone), "cpu")
    with pytest.raises(EditkitError, match="'style' is not among those loaded") as caught:
        editor.use_adapters(["style"])
    one_sentence(str(caught.value))
    name = editor.load_adapter(file)
    assert name == "style v1_0"
    for names, scales, words in (
        (["style"], None, "'style' is not among those loaded .*style v1_0"),
        ([name], [0.5, 0.5], "1 adapters cannot take 2 scales"),
    ):
        with pytest.raises(EditkitError, match=words) as caught:
            editor.use_adapters(names, scales)
        one_sentence(str(caught.value))
    again = editor.load_adapter(file)
    assert again.startswith("style v1_0-")
    assert editor.load_adapter(file) == again
    with pytest.raises(EditkitError, match="does not fit") as caught:
        editor.load_adapter(file, name=again)
    one_sentence(str(caught.value))
    assert editor.edit(SOURCE, "make it blue", steps=1).image is not None


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.safetensors"])
def test_pickled_adapters_are_refused(name: str, editor: editkit.Editor, place: Place) -> None:
    from editkit import adapters

    with pytest.raises(EditkitError, match=name) as caught:
        adapters.load(editor.backbone.transformer("kontext"), trap(place, name), "one")
    one_sentence(str(caught.value))
    assert not (place.folder / "sprung").exists()


EXPERTS = ROOT / "methods" / "icedit" / "tiny" / "moe" / "pytorch_lora_weights.safetensors"


def _uneven(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if ".ff.net.2.lora_" in key and ".expert_1." in key]:
        state[key] = (state[key][:4] if "lora_A" in key else state[key][:, :4]).contiguous()


def _not_finite(state: dict[str, torch.Tensor]) -> None:
    next(tensor for key, tensor in state.items() if "lora_route" in key).fill_(float("nan"))


def _a_block_less(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if "single_transformer_blocks.2.proj_out" in key]:
        del state[key]


def _no_router(state: dict[str, torch.Tensor]) -> None:
    del state[next(key for key in state if "lora_route" in key)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_uneven, "differ in rank"),
        (_not_finite, "not finite"),
        (_a_block_less, "experts on 5 of 6 modules called proj_out"),
        (_no_router, "experts or a router but not both"),
    ],
)
def test_damaged_experts(cli: Cli, place: Place, damage: Callable[..., None], words: str) -> None:
    state = load_file(EXPERTS)
    damage(state)
    save_file(state, place.folder / "moe.safetensors")
    option = f"adapter={place.folder / 'moe.safetensors'}"
    refused(cli(*edit(place, "-m", "icedit", "--option", option, backbone="tiny")), words)
    assert place.output.read_bytes() == b"old"


def test_experts_for_another_method(editor: editkit.Editor) -> None:
    with pytest.raises(
        EditkitError, match="is of a LoRA-MoE; load it for a method that has experts"
    ) as caught:
        editor.load_adapter(EXPERTS, "kontext")
    one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (["nobody"], "There is no judge 'nobody'; there are preserve, tiny, qwen-vl, openai"),
        (["openai"], "needs an address; set OPENAI_BASE_URL"),
        (["qwen-vl"], "not on this machine and the Hub cannot be reached"),
        (["qwen-vl", "--judge-option", "model=gone/folder/here"], "no folder here and no Hub id"),
        (["tiny", "--judge-option", "dtype=int3"], "int3"),
    ],
)
@pytest.mark.usefixtures("no_cache")
def test_absent_judges(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, judge: list[str], words: str
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    refused(cli(*edit(place, "--search", 2, "--judge", *judge)), words)
    assert place.output.read_bytes() == b"old"
