"""Trainings, conversions and evaluations that are refused by one sentence and status 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.cases import WEIGHTS, Arguments, Case, Place, assert_refused, halved, native, trained
from tests.command_line import Cli
from tests.random_weights import CLIP, T5

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


def convert(place: Place, *more: str) -> Arguments:
    return ["weights", "convert", native(place), place.folder / "out", *more]


def evaluated(place: Place, *more: object) -> Arguments:
    return ["eval", "shapesworld", "-b", place.backbone, "-o", place.folder / "report", *more]


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
    "override without equals sign": (
        lambda p: trained(p, AUTOENCODER, "fit.steps"),
        "'fit.steps' must have the form",
    ),
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
    "adapter that leaves out no expression": (
        lambda p: trained(p, f"backbone: {p.backbone}\nlora: {{exclude: (}}\nfit: {{device: cpu}}"),
        "adapter cannot be attached: missing \\)",
    ),
    "evaluation of no items": (
        lambda p: trained(p, "evaluation: {limit: 0}"),
        "evaluation does not fit: limit must be at least 1",
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
    "eval of nothing": (lambda p: evaluated(p, "--n", 0), "^editkit: n=0 .*give 1 to 10000"),
    "eval of too many": (lambda p: evaluated(p, "--n", 10_001), "^editkit: n=10001 .*give 1 to 10000"),
    "eval of fewer than no sessions": (
        lambda p: evaluated(p, "--n", 1, "--sessions", -1),
        "^editkit: sessions=-1 .*give 0 to 5000",
    ),
    "eval masked of a method without tasks": (
        lambda p: ["eval", "masked", "-m", "kontext", "-b", p.backbone, "-o", p.folder / "report", "--n", 1],
        "kontext has no tasks; choose aceplus",
    ),
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


@pytest.mark.parametrize("case", COMMANDS)
def test_refused(case: str, cli: Cli, place: Place) -> None:
    assert_refused(COMMANDS[case], cli, place)
