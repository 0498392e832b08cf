"""Edits that are refused by one sentence and status 2: pictures, requests, outputs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.cases import Case, Place, assert_refused, edit, halved, instructed, made, output
from tests.command_line import Cli, picture


def header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    claims = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", claims) + chunk(b"IDAT", zlib.compress(b""))


def cmyk(place: Place) -> Path:
    path = place.folder / "m.jpg"
    Image.new("CMYK", (40, 24)).save(path)
    return path


PICTURES: dict[str, Case] = {
    "missing image": (lambda p: edit(p, image="none.png"), "image none.png cannot be read"),
    "empty image": (lambda p: edit(p, image=p.file("a.png", "")), "empty file"),
    "truncated image": (lambda p: edit(p, image=p.file("a.png", halved(p.image.read_bytes()))), "damaged"),
    "huge image": (
        lambda p: edit(p, image=p.file("a.png", header(60_000, 60_000))),
        "over 100,000,000 pixels",
    ),
    "text as image": (lambda p: edit(p, image=p.file("a.png", "hello")), "no known picture format"),
    "folder as image": (lambda p: edit(p, image=p.folder), "output.png is one picture; .* need a folder"),
    "empty name of image": (lambda p: edit(p, image=""), "picture's name is empty"),
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
    "option without equals sign": (
        lambda p: edit(p, "--option", "layout"),
        "layout must have the form key=value",
    ),
    "option of the wrong type": (lambda p: edit(p, "--option", "area=wide"), "wide"),
    "option outside its range": (lambda p: edit(p, "--option", "layout=heap"), "layout must be one of"),
    "negative area": (lambda p: edit(p, "--option", "sizes=exact", "--option", "area=-5"), "area"),
    "option that is not yaml": (lambda p: edit(p, "--option", "layout=[index"), r"layout=\[index"),
    "unknown option of the backbone": (
        lambda p: edit(p, "--load", "ofload=block"),
        "'ofload'.*did you mean 'offload'",
    ),
    "two presets": (
        lambda p: edit(p, "--low-memory", "24g", "--load", "low_memory=16g"),
        "choose two presets; leave one",
    ),
    "unknown preset": (lambda p: edit(p, "--low-memory", "8g"), "low_memory must be 16g"),
    "argument of another option": (lambda p: edit(p, "--load", "device=cpu"), "Unknown key 'device'"),
    "backbone's option without equals sign": (
        lambda p: edit(p, "--load", "offload"),
        "--load offload must have the form",
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
    "seed 1.0": (lambda p: edit(p, "--seed", "1.0"), "--seed.*1.0 is no whole number"),
    "steps 2.0": (lambda p: edit(p, "--steps", "2.0"), "--steps.*2.0 is no whole number"),
    "search over 2.0": (lambda p: edit(p, "--search", "2.0"), "--search.*2.0 is no whole number"),
    "seed beyond 64 bits": (lambda p: edit(p, "--seed", 2**64), "seed=18446744073709551616"),
    "device cuda": (lambda p: edit(p, "--device", "cuda:77"), "device 'cuda:77' is not here"),
    "device nonsense": (lambda p: edit(p, "--device", "toaster"), "device 'toaster' is not here"),
    "device meta": (lambda p: edit(p, "--device", "meta"), "device 'meta' is not here"),
    "device to plan for": (lambda p: edit(p, "--device", "rtx4090-24g"), "rtx4090-24g is a GPU to plan for"),
    "device without name": (lambda p: edit(p, "--device", ""), "device '' is not here"),
    "dtype nonsense": (lambda p: edit(p, "--dtype", "float12"), "dtype 'float12' is unknown.*bfloat16"),
    "unknown command": (lambda p: ["edti"], "No such command 'edti'"),
    "unknown option": (lambda p: edit(p, "--stepz", 3), "No such option"),
    "option of another command": (lambda p: ["generate", "a circle", "--mask", p.image], "No such option"),
    "missing argument": (lambda p: ["edit", p.image], "Missing argument"),
    "argument too many": (lambda p: [*edit(p), "more"], "make it blue cannot be read"),
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
    "output of too small a format": (
        lambda p: ["edit", p.file("a.png", header(1, 16_384)), "x", "-o", "o.webp", "--device", "toaster"],
        "o.webp holds up to 16,383 pixels a side, and the picture has 1x16384; name it .png",
    ),
    "output before the rest": (
        lambda p: [*output(p, p.image / "o.png"), "--device", "toaster"],
        "output .* cannot be written",
    ),
}

CASES = {**PICTURES, **REQUESTS, **OUTPUTS}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, cli: Cli, place: Place) -> None:
    assert_refused(CASES[case], cli, place)
