"""Every bad input gives one sentence and status 2, and loses nothing."""

from __future__ import annotations

import pytest

from tests.cases import (
    AUTOENCODER,
    WEIGHTS,
    Case,
    Place,
    cmyk,
    convert,
    damaged_vae,
    edit,
    evaluated,
    fresh,
    halved,
    header,
    huge_header,
    instructed,
    made,
    output,
    reconfigured,
    retensored,
    rewritten,
    trained,
    with_nan,
    without,
)
from tests.command_line import Cli, files, picture, refused
from tests.random_weights import T5

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


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, cli: Cli, place: Place) -> None:
    make, words = CASES[case]
    arguments = make(place)
    before = files(place.folder)
    refused(cli(*arguments), words)
    assert files(place.folder) == before
