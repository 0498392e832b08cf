"""Training: it learns, it resumes to the bit, and what it writes can be used."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLIP, LETTERS, ROOT, T5, difference, image, quantize, transformer_config
from diffusers import FluxFillPipeline, FluxKontextPipeline, FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import editkit
from backbones import hub
from backbones.flux import Flux
from backbones.inpaint import InpaintJob
from backbones.text import Encoders
from editkit import EditkitError, adapters, config
from editkit.data.buckets import Bucket
from editkit.data.records import DataConfig, MixedConfig
from editkit.data.samplers import Stream
from editkit.errors import EditkitWarning
from editkit.imaging import canvas
from editkit.shapesworld.datasets import ShapesWorld, ShapesWorldHoles
from editkit.train import checkpoints
from editkit.train.config import OptimConfig
from editkit.train.finetune import EditJob
from editkit.train.loop import StoppedError, fit
from editkit.train.optim import Ema, optimizers, rate
from editkit.train.preflight import check
from editkit.train.settings import EditTrainConfig
from editkit.types import Conditioning, Plan
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear

RECOLOUR = {"recolour": 1.0, "background": 1.0}


@pytest.fixture(scope="module")
def vae(random_flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    random_flux.vae.save_pretrained(folder)
    return folder


@pytest.fixture
def settings(vae: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function that gives a small run's config: fresh backbone, 24 pictures, fp32, no prompt dropout."""
    cache = tmp_path_factory.getbasetemp() / "latents"  # shared by all tests, as runs share it

    def make(output: str = "run", *overrides: str, trainable: str = "full") -> EditTrainConfig:
        values = {
            "options": {"prompt_dropout": 0.0},
            "trainable": trainable,
            "fresh": {
                "vae": str(vae),
                "words": str(ROOT / "configs" / "tiny" / "words.txt"),
                "letters": LETTERS,
                "transformer": transformer_config() | {"num_single_layers": 1},
                "clip": CLIP,
                "t5": T5,
            },
            "lora": {"rank": 4},
            "cache": str(cache),
            "data": {"count": 24, "kinds": RECOLOUR},
            "fit": {
                "output": str(tmp_path / output),
                "steps": 4,
                "batch": 4,
                "precision": "fp32",
                "device": "cpu",
                "log_every": 1,
                "save_every": 4,
                "keep": 3,
                "optim": {"lr": 3e-3},
            },
        }
        return config.build(EditTrainConfig, values, overrides)

    return make


def train(chosen: EditTrainConfig) -> tuple[EditJob, Path]:
    job = EditJob(chosen)
    fit(job, chosen.fit)
    return job, Path(chosen.fit.output)


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines}
    assert len(found) == len(lines), "a step was logged twice"
    return found


def assert_same(one: Path, other: Path) -> None:
    """Two checkpoints agree in every bit."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if name.endswith(".json"):
            assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
            continue
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert first
        for key in first:
            assert torch.equal(first[key], second[key]), f"{name}: {key}"


# --- Runs ---


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_loss_falls(settings: Any, trainable: str) -> None:
    lr = "fit.optim.lr=0.01" if trainable == "lora" else "fit.optim.lr=0.003"
    _, output = train(
        settings(
            "run",
            "fit.steps=30",
            "fit.batch=6",
            "data.count=6",
            "fit.save_every=30",
            lr,
            trainable=trainable,
        )
    )
    found = list(losses(output).values())
    assert len(found) == 30
    # Six pictures with new noise each time: what falls is no accident of one batch.
    assert sum(found[-5:]) < (0.85 if trainable == "full" else 0.97) * sum(found[:5])


RESUMES = {
    "full": ("full", "fit.ema=0.9", "fit.accumulate=2"),
    "muon": (
        "full",
        "fit.ema=0.9",
        "text_encoders=true",
        "fit.optim.name=muon",
        "options.prompt_dropout=0.3",
    ),
    "lora": ("lora", "lora.dropout=0.2", "fit.optim.warmup=6", "data.kinds.caption=1.0"),
    "prodigy": ("lora", "fit.optim.name=prodigy", "fit.optim.lr=1.0", "fit.optim.weight_decay=0.01"),
    "8 bits": ("full", "fit.optim.name=adamw8bit", "fit.optim.weight_decay=0.01"),
    "free": ("lora", "fit.optim.name=schedulefree", "fit.optim.warmup=3"),
    "directions": ("lora", "lora.dora=true", "lora.rslora=true"),
    "experts": (
        "lora",
        "method=icedit",
        "fresh.transformer.in_channels=384",
        "options.moe.rank=3",
        "options.moe.noise=0.5",
        "options.moe.balance=0.01",
    ),
}


@pytest.mark.parametrize("kind", RESUMES)
def test_a_resumed_run_is_the_uninterrupted_one(settings: Any, kind: str) -> None:
    trainable, *overrides = RESUMES[kind]
    _, whole = train(settings("whole", "fit.steps=8", *overrides, trainable=trainable))
    _, halves = train(settings("halves", "fit.steps=4", *overrides, trainable=trainable))
    assert [path.name for path in checkpoints.everything(halves)] == ["checkpoint-0000004"]
    assert_same(whole / "checkpoint-0000004", halves / "checkpoint-0000004")
    train(settings("halves", "fit.steps=8", "fit.resume=latest", *overrides, trainable=trainable))
    assert_same(whole / "checkpoint-0000008", halves / "checkpoint-0000008")
    assert losses(whole) == losses(halves)
    assert len(losses(whole)) == 8


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(settings: Any, tmp_path: Path) -> None:
    """The schedule and the log are those of the whole run, though it died between two checkpoints."""
    overrides = ("fit.steps=6", "fit.save_every=2", "fit.optim.schedule=linear", "fit.log_every=3")
    _, whole = train(settings("whole", *overrides))
    killed = tmp_path / "killed"
    shutil.copytree(whole / "checkpoint-0000002", killed / "checkpoint-0000002")
    # It had logged step 3, died while it wrote a checkpoint, and left one that was cut short by hand.
    shutil.copy(whole / "log.jsonl", killed)
    shutil.copytree(whole / "checkpoint-0000004", killed / ".checkpoint-0000004.partial")
    shutil.copytree(whole / "checkpoint-0000006", killed / "checkpoint-0000006")
    (killed / "checkpoint-0000006" / "state.json").unlink()
    train(settings("killed", "fit.resume=latest", *overrides))
    assert_same(whole / "checkpoint-0000006", killed / "checkpoint-0000006")
    assert losses(killed).keys() == {3, 6}
    assert losses(killed)[6] == losses(whole)[6]
    assert not list(killed.glob(".*partial"))


def test_what_counts_as_a_checkpoint(tmp_path: Path) -> None:
    for name, complete in (
        ("checkpoint-0000002", True),
        ("checkpoint-0000010", True),
        ("checkpoint-0000020", False),
    ):
        (tmp_path / name).mkdir()
        if complete:
            (tmp_path / name / "state.json").write_text('{"files": {}}')
    (tmp_path / ".checkpoint-0000030.partial").mkdir()
    (tmp_path / ".checkpoint-0000030.partial" / "state.json").write_text("{}")
    assert checkpoints.find(tmp_path, "latest") == tmp_path / "checkpoint-0000010"
    assert checkpoints.find(tmp_path, None) is None
    assert checkpoints.find(tmp_path / "nothing", "latest") is None
    assert checkpoints.find(tmp_path, str(tmp_path / "checkpoint-0000002")) == tmp_path / "checkpoint-0000002"
    with pytest.raises(EditkitError, match="resume"):
        checkpoints.find(tmp_path, str(tmp_path / "checkpoint-0000020"))


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer-0.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(settings: Any, name: str) -> None:
    overrides = ("fit.steps=6", "fit.save_every=2", "fit.optim.schedule=linear")
    _, whole = train(settings("whole", *overrides))
    _, broken = train(settings("broken", *overrides))
    last = broken / "checkpoint-0000006"
    good = (last / name).read_bytes()
    (last / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.warns(UserWarning, match=r"checkpoint-0000006 is damaged .* passed over"):
        train(settings("broken", "fit.resume=latest", *overrides))
    assert_same(whole / "checkpoint-0000006", last)


def test_told_to_stop_it_saves_first(settings: Any) -> None:
    """SIGTERM, as schedulers send it, in the middle of a run; the rest is what it would have been."""
    overrides = ("fit.steps=6", "fit.save_every=6", "fit.log_every=1", "fit.optim.schedule=linear")
    _, whole = train(settings("whole", *overrides))
    stopped = settings("stopped", *overrides)
    job = EditJob(stopped)
    draw = job.batch

    def batch(indices: Any) -> Any:
        if indices[0] >= 8:
            signal.raise_signal(signal.SIGTERM)
        return draw(indices)

    job.batch = batch
    with pytest.raises(StoppedError, match=r"after step 3 .* fit\.resume=latest"):
        fit(job, stopped.fit)
    output = Path(stopped.fit.output)
    assert [path.name for path in checkpoints.everything(output)] == ["checkpoint-0000003"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(settings("stopped", "fit.resume=latest", *overrides))
    assert_same(whole / "checkpoint-0000006", output / "checkpoint-0000006")
    assert losses(whole) == losses(output)


def test_checkpoints_beyond_keep_are_dropped(settings: Any) -> None:
    _, output = train(settings("run", "fit.steps=5", "fit.save_every=1", "fit.keep=2", trainable="lora"))
    assert [path.name for path in checkpoints.everything(output)] == [
        "checkpoint-0000004",
        "checkpoint-0000005",
    ]


def test_a_checkpoint_of_other_weights_is_refused(settings: Any) -> None:
    train(settings("run", "fit.steps=1", trainable="lora"))
    for name, value in (("trainable", "full"), ("lora.rank", 2)):
        allowed = ("fit.resume=latest", f"fit.allow_changes=[{name}]")
        with pytest.raises(EditkitError, match="other weights"), pytest.warns(UserWarning, match=name):
            train(settings("run", "fit.steps=2", *allowed, f"{name}={value}", trainable="lora"))


@pytest.mark.parametrize("override", ["fit.ema=0.9", "fit.optim.name=muon"])
def test_a_checkpoint_of_another_optimizer_is_refused(settings: Any, override: str) -> None:
    train(settings("run", "fit.steps=1"))
    with pytest.raises(EditkitError, match="checkpoint"):
        train(settings("run", "fit.steps=2", "fit.resume=latest", override))


def test_accumulation_is_a_larger_batch(settings: Any) -> None:
    whole = settings("whole", "fit.steps=1", "fit.batch=16", "data.count=16")
    halves = settings("halves", "fit.steps=1", "fit.batch=8", "fit.accumulate=2", "data.count=16")
    # A sample's noise hangs on its place in the stream; take a seed that deals both streams alike.
    for seed in range(20):
        orders = [Stream([_bucket(16)], batch, seed) for batch in (16, 8)]
        if orders[0](0)[0][1] == orders[1](0)[0][1] + orders[1](1)[0][1]:
            break
    whole, halves = (
        config.build(EditTrainConfig, dataclasses.asdict(each), [f"fit.seed={seed}"])
        for each in (whole, halves)
    )
    (_, one), (_, other) = train(whole), train(halves)
    assert losses(one)[1] == pytest.approx(losses(other)[1], rel=1e-4)
    first, second = (
        load_file(each / "checkpoint-0000001" / "optimizer-0.safetensors") for each in (one, other)
    )
    gradients = [key for key in first if key.endswith("exp_avg")]
    assert gradients
    for key in gradients:
        assert torch.allclose(first[key], second[key], atol=1e-3 * float(first[key].abs().max()) + 1e-9), key


def test_a_loss_that_is_not_finite_stops(settings: Any) -> None:
    with pytest.raises(EditkitError, match="lower the learning rate"):
        train(settings("run", "fit.steps=12", "fit.optim.lr=1e9", "fit.save_every=1", "fit.log_every=4"))
    output = Path(settings("run").fit.output)
    for folder in checkpoints.everything(output):
        for name, tensor in load_file(folder / "weights.safetensors").items():
            assert torch.isfinite(tensor).all(), f"{folder.name} cannot be resumed from: {name}"


def test_two_precisions_in_one_process(settings: Any) -> None:
    for precision in ("fp32", "bf16"):
        _, output = train(settings(f"run-{precision}", "fit.steps=1", f"fit.precision={precision}"))
        assert math.isfinite(losses(output)[1])


# --- What comes out ---


def test_export_of_full_training(settings: Any) -> None:
    job, output = train(settings("run", "fit.ema=0.5", "text_encoders=true"))
    folder = output / "export" / "kontext"
    average = load_file(output / "checkpoint-0000004" / "ema.safetensors")
    weights = load_file(output / "checkpoint-0000004" / "weights.safetensors")
    exported = FluxTransformer2DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    for name, tensor in exported.items():
        assert torch.equal(tensor.float(), average[f"transformer.{name}"].bfloat16().float()), name
    assert any(not torch.equal(average[name], weights[name]) for name in weights)
    # Training could go on: the job has its own weights back.
    now = dict(job.objective.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in weights.items())

    picture, instruction = image(128, 128), "make the red circle blue"
    result = editkit.load(str(folder), "cpu").edit(picture, instruction, seed=1, steps=2, guidance=1.0)
    pipeline = FluxKontextPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    (other,) = pipeline(
        image=picture,
        prompt=instruction,
        width=128,
        height=128,
        max_area=128 * 128,
        _auto_resize=False,
        num_inference_steps=2,
        guidance_scale=1.0,
        max_sequence_length=48,
        generator=torch.Generator().manual_seed(1),
    ).images
    assert difference(result.image, other) <= 1


@pytest.mark.parametrize("adapter", ["lora", "moe"])
def test_export_of_icedit(settings: Any, adapter: str) -> None:
    """Its file is the released layout, and gives what the trained network gives."""
    overrides = ["method=icedit", "fresh.transformer.in_channels=384", "options.loss=right"]
    overrides += ["options.moe.rank=3"] if adapter == "moe" else []
    job, output = train(settings("run", *overrides, trainable="lora"))
    editor = editkit.Editor(job.backbone, {"icedit": {"adapter": None}})
    editor.use_adapters(["icedit" if adapter == "moe" else "default"], method="icedit")
    picture = image(128, 128)

    def edit() -> Any:
        return editor.edit(picture, "make the red circle blue", "icedit", seed=1, steps=2).image

    trained = edit()
    transformer = job.backbone.transformer("fill")
    layers = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, MoELinear)}
    if adapter == "moe":
        Experts(transformer, layers, "icedit", plain=True).eject()
    else:
        adapters.eject(transformer, "default")
    assert bool(layers) == (adapter == "moe")
    editor.use_adapters([], method="icedit")
    assert difference(edit(), trained) > 0
    editor.load_adapter(output / "export" / adapters.FILE, "icedit")
    assert difference(edit(), trained) == 0


@pytest.mark.parametrize("let_go", [False, True])
def test_inpainting_starts_as_text_to_image(tmp_path: Path, let_go: bool) -> None:
    values = config.read(ROOT / "configs" / "tiny" / "fill.yaml")
    changes = ("load.compile=false", "data.count=8", f"cache={tmp_path}", f"fit.output={tmp_path / 'run'}")
    small = ("fit.steps=2", "fit.batch=2", "fit.optim.warmup=0", "fit.precision=fp32", "fit.device=cpu")
    # Muon multiplies in bf16, for which many CPUs have no instructions.
    few = ("fit.optim.name=adamw", f"cache_texts={let_go}")
    chosen = config.build(EditTrainConfig, values, (*changes, *small, *few))
    job = InpaintJob(chosen)
    assert (job.backbone._vae is None) == let_go
    assert not let_go or job.backbone._encoders is None
    batch = job.batch(range(2))
    plan = job.conditioner.worded(*batch.worded[0])
    drawn = dataclasses.replace(plan, conditioning=Conditioning(text=plan.conditioning.text), role="text")
    with torch.no_grad():
        mine, text = (job.backbone.velocity(batch.x0_BLC, 0.5, each, 1.0) for each in (plan, drawn))
    assert torch.allclose(mine, text, atol=1e-5)
    assert math.isfinite(fit(job, chosen.fit))
    built = FluxFillPipeline.from_pretrained(tmp_path / "run" / "export" / "fill")
    assert built.transformer.config.in_channels == 384


def test_the_input_layer_alone(tmp_path: Path) -> None:
    values = config.read(ROOT / "configs" / "tiny" / "fill.yaml") | {"trainable": "input"}
    changes = ("load.compile=false", "data.count=8", f"cache={tmp_path}", f"fit.output={tmp_path / 'run'}")
    small = (
        "fit.steps=2",
        "fit.batch=2",
        "fit.optim.warmup=0",
        "dtype=bfloat16",
        "fit.device=cpu",
        "fit.ema=0",
    )
    job = InpaintJob(config.build(EditTrainConfig, values, (*changes, *small)))
    transformer = job.backbone.transformer("fill")
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    fit(job, job.config.fit)
    built = FluxFillPipeline.from_pretrained(tmp_path / "run" / "export" / "fill").transformer.state_dict()
    after = transformer.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"x_embedder.weight", "x_embedder.bias"}
    for name in before:
        assert torch.equal(built[name].bfloat16(), after[name].bfloat16()), name
    with pytest.raises(EditkitError, match="start is not for a fresh backbone"):
        config.build(EditTrainConfig, values | {"fresh": {"vae": "x"}})


@pytest.mark.parametrize("start", [None, "text"])
@pytest.mark.parametrize("shards", [False, True])
def test_in_shards_no_device_holds_the_whole_transformer(
    start: str | None, shards: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "device", lambda name: torch.device("meta"))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(shards).lower())
    job = object.__new__(EditJob)
    job.config = replace(settings("run"), fresh={}, start=start)
    job.role = "fill" if start else "kontext"
    transformer = job._backbone().transformer(job.role)
    assert transformer.device.type == ("cpu" if shards else "meta")


def test_holes() -> None:
    pictures = [ShapesWorldHoles(DataConfig(name="shapesworld holes", count=90))[n] for n in range(90)]
    widths = Counter(record.answer.shape[1] for record in pictures)
    assert widths.keys() == {128, 256}
    assert 15 < widths[128] < widths[256]
    for record in pictures:
        assert record.mask is not None
        assert record.mask.shape == record.answer.shape[:2]
        assert set(record.mask.flat) <= {0, 255}
        assert record.mask.any()
        assert record.source is record.answer
    pairs = [record for record in pictures if record.answer.shape[1] == 256]
    assert not any(record.mask[:, :128].any() for record in pairs)
    repeated = [record for record in pairs if record.instruction == ShapesWorldHoles.REPEATED]
    varied = [record for record in pairs if record.instruction.startswith(ShapesWorldHoles.VARIED)]
    assert 0 < len(repeated) < len(varied) < len(pairs) - len(repeated)
    assert all((record.answer[:, :128] == record.answer[:, 128:]).all() for record in repeated)
    assert not any((record.answer[:, :128] == record.answer[:, 128:]).all() for record in varied)


@pytest.mark.parametrize("more", [[], ["lora.dora=true", "lora.rslora=true", "lora.alpha=4"]])
def test_export_of_a_lora(settings: Any, more: list[str]) -> None:
    job, output = train(settings("run", "fit.optim.lr=0.1", *more, trainable="lora"))
    trained = job.backbone.transformer("kontext").eval()
    fresh = EditJob(settings("other")).backbone.transformer("kontext").eval()
    batch = job.batch(range(4))
    plan = job.conditioner.worded(*batch.worded[0])

    @torch.no_grad()
    def velocity(transformer: Any) -> Tensor:
        job.backbone.transformers[job.backbone.role("kontext").key] = transformer
        return job.backbone.velocity(batch.x0_BLC, 0.5, plan, 1.0)

    expected, before = velocity(trained), velocity(fresh)
    adapters.load(fresh, output / "export", "mine")
    adapters.enable(fresh, ["mine"])
    assert torch.allclose(velocity(fresh), expected, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-2)


# --- What goes in ---


@pytest.mark.parametrize("overrides", [[], ["text_encoders=true"], ["trainable=lora"]])
def test_what_trains(settings: Any, overrides: list[str]) -> None:
    job = EditJob(settings("run", *overrides))
    transformer, encoders = job.backbone.transformer("kontext"), job.backbone.encoders
    for name, parameter in transformer.named_parameters():
        assert parameter.requires_grad == ("lora_" in name or overrides != ["trainable=lora"]), name
    for model in (encoders.clip, encoders.t5):
        assert all(p.requires_grad == (overrides == ["text_encoders=true"]) for p in model.parameters())
    assert not any(parameter.requires_grad for parameter in job.backbone.vae.parameters())
    ours = {id(p) for p in job.objective.parameters() if p.requires_grad}
    assert ours == {
        id(p)
        for model in (transformer, encoders.clip, encoders.t5)
        for p in model.parameters()
        if p.requires_grad
    }


def test_batches_pair_source_answer_and_instruction(settings: Any) -> None:
    kinds = ("data.kinds.recolour=0", "data.kinds.background=0", "data.kinds.move=1")
    chosen = settings("run", *kinds)
    job, data = EditJob(chosen), ShapesWorld(chosen.data)
    records = {record.instruction: record for record in (data[index] for index in range(len(data)))}
    assert len(records) == 24, "two samples share an instruction: take another data.start"
    seen = []
    for number in range(6):
        batch = job.batch(range(4 * number, 4 * number + 4))
        assert len(set(batch.seeds)) == 4
        for place, instruction in enumerate(batch.worded[0][1]):
            record = records[instruction]
            seen.append(instruction)
            answer, source = (
                job.backbone.encode(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0]
                for picture in (record.answer, record.source)
            )
            apart = float((answer - source).abs().mean())
            # The cache is computed and kept in bf16, so it is near and not equal.
            assert float((batch.x0_BLC[place] - answer).abs().mean()) < min(0.03, apart / 3)
            given = batch.plan.conditioning.sequence_BSC[place]
            assert float((given - source).abs().mean()) < min(0.03, apart / 3)
    assert Counter(seen) == Counter(list(records))


def test_latents_are_kept_and_told_apart(settings: Any) -> None:
    first, again = EditJob(settings()), EditJob(settings())
    folders = set(Path(settings().cache).glob("latents-*"))
    one, other = first.batch(range(4)), again.batch(range(4))
    assert torch.equal(one.x0_BLC, other.x0_BLC)
    assert one.worded[0][1] == other.worded[0][1]
    assert one.seeds == other.seeds
    EditJob(settings("run", "data.start=2000000"))
    assert len(set(Path(settings().cache).glob("latents-*")) - folders) == 1


def test_texts_are_kept_and_encoders_let_go(
    settings: Any, random_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, **changed: Any) -> EditJob:
        chosen = settings(name, "data.count=12", "options.prompt_dropout=0.5", trainable="lora")
        return train(replace(chosen, backbone=str(random_pipeline), fresh={}, **changed))[0]

    run("plain")
    cache = str(tmp_path / "cache")
    job = run("kept", cache=cache, cache_texts=True)
    assert job.backbone._encoders is None
    assert job.backbone._vae is None
    kept = set((tmp_path / "cache").glob("texts-*/*"))
    filled = job.stream.streams[0].buckets
    assert len(kept) == len({"", *(words for bucket in filled for words in bucket.instructions)})
    assert losses(tmp_path / "kept") == losses(tmp_path / "plain")
    monkeypatch.setattr(Encoders, "__call__", None)  # so that encoding again would fail
    run("again", cache=cache, cache_texts=True)
    assert losses(tmp_path / "again") == losses(tmp_path / "plain")
    assert set((tmp_path / "cache").glob("texts-*/*")) == kept
    for path in kept:
        path.write_bytes(b"half")
    with pytest.raises(EditkitError, match=r"Encoded prompts in .* cannot be read .*delete this folder"):
        run("damaged", cache=cache, cache_texts=True)


def test_mixtures(settings: Any) -> None:
    more = "mixture.more.weight=0.5", "mixture.more.data.count=8", "mixture.more.data.kinds.letter=1.0"
    job = EditJob(settings("run", "data.count=12", *more))
    drawn = [job.batch(range(number * 4, number * 4 + 4)).worded[0][1] for number in range(30)]
    letters = [all("letter" in words for words in batch) for batch in drawn]
    assert sum(letters) == 10
    assert all(abs(sum(letters[:number]) - number / 3) < 1 for number in range(30))
    assert len({tuple(batch) for batch in drawn}) > 10


@pytest.fixture
def prior(settings: Any) -> Any:
    """A function that gives a LoRA run on known weights, every other batch of which keeps what they say."""

    def make(output: str, *overrides: str) -> EditTrainConfig:
        chosen = settings(output, "data.count=8", *overrides, trainable="lora")
        known = {"known": MixedConfig(data=chosen.data, prior=True)}
        return replace(chosen, fresh={}, backbone="tiny", mixture=known)

    return make


def test_a_prior_is_what_the_model_said_before(prior: Any) -> None:
    job = EditJob(prior("run"))
    job.placed()
    batches = [job.batch(range(number * 4, number * 4 + 4)) for number in range(2)]
    assert [batch.mixed.prior for batch in batches] == [False, True]
    with torch.no_grad():
        assert job.objective(batches[0]) > 0 == job.objective(batches[1])
        trained = [p for p in job.objective.parameters() if p.requires_grad]
        for parameter in trained:
            parameter += 0.01
        moved = [parameter.clone() for parameter in trained]
        assert job.objective(batches[1]) > 0
        with torch.autocast("cpu", torch.bfloat16):
            assert job.objective(batches[1]) > 0
    with torch.autocast("cpu", torch.bfloat16):
        job.objective(batches[1]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in trained)
    assert all(torch.equal(p, as_moved) for p, as_moved in zip(trained, moved, strict=True))


def test_a_mixtures_loss_has_a_weight(settings: Any) -> None:
    heavy, plain = (
        EditJob(settings("run", "mixture.more.data.count=8", f"mixture.more.loss_weight={weight}"))
        for weight in (3.0, 1.0)
    )
    heavy.objective.load_state_dict(plain.objective.state_dict())
    with torch.no_grad():
        for start, factor in ((0, 1), (4, 3)):  # the run's own data first, then the mixture's
            places = range(start, start + 4)
            expected = factor * plain.objective(plain.batch(places))
            assert torch.allclose(heavy.objective(heavy.batch(places)), expected)
    with pytest.raises(EditkitError, match="loss_weight must be positive"):
        settings("run", "mixture.more.loss_weight=0")


def test_a_prior_outlives_a_stop(prior: Any, tmp_path: Path) -> None:
    train(prior("whole"))
    train(prior("parts", "fit.steps=2", "fit.save_every=2"))
    train(prior("parts", "fit.resume=latest"))
    assert_same(tmp_path / "whole" / "checkpoint-0000004", tmp_path / "parts" / "checkpoint-0000004")


def test_a_card_names_every_dataset(prior: Any) -> None:
    _, output = train(prior("run"))
    card = (output / "export" / "README.md").read_text()
    assert "Data: shapesworld; kinds: " in card
    known = next(line for line in card.splitlines() if line.startswith("known: shapesworld; kinds: "))
    assert "learnt as the model saw it before training" in known


def test_a_prior_wants_words_that_stay_as_they_are(settings: Any) -> None:
    with pytest.raises(EditkitError, match="prior needs text encoders that stay as they are"):
        settings("run", "mixture.known.prior=true", "text_encoders=true")


def test_a_sample_depends_on_its_place_alone(settings: Any) -> None:
    job = EditJob(settings())
    one = job.batch(range(8, 12))
    job.batch(range(40, 44))
    again = job.batch(range(8, 12))
    assert torch.equal(one.x0_BLC, again.x0_BLC)
    with torch.no_grad():
        torch.manual_seed(1)
        loss = job.objective(one)
        torch.manual_seed(2)
        assert torch.equal(job.objective(again), loss)


def test_objective_is_the_flow_loss(settings: Any) -> None:
    """Against the definition, written out for one sample."""
    job = EditJob(settings("run", "time_mean=0.3", "time_std=0.5", "guidance=2.5"))
    batch = job.batch(range(4))
    with torch.no_grad():
        loss = job.objective(batch)
        plan = job.conditioner.worded(*batch.worded[0])
        terms = []
        for place, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(batch.x0_BLC.shape[1:], generator=generator)
            t = torch.sigmoid(torch.randn(1, generator=generator) * 0.5 + 0.3)
            x0_BLC = batch.x0_BLC.clone()
            x0_BLC[place] = (1 - t) * x0_BLC[place] + t * noise
            predicted = job.backbone.velocity(x0_BLC, t.expand(4), plan, 2.5)[place]
            terms.append(((predicted - (noise - batch.x0_BLC[place])) ** 2).mean())
    assert torch.allclose(loss, torch.stack(terms).mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["start=0", "start=9999", "kinds={nothing: 1.0}"])
def test_data_that_must_not_be_trained_on(name: str) -> None:
    chosen = config.build(DataConfig, {}, [name])
    with pytest.raises(EditkitError):
        ShapesWorld(chosen)


def _bucket(count: int) -> Bucket:
    planned = canvas.fit((16, 16))
    plan = Plan(canvas=planned, conditioning=Conditioning(), role="kontext")
    tensors = {"x0_BLC": torch.arange(count).float()[:, None, None]}
    return Bucket(plan=plan, tensors=tensors, instructions=[str(n) for n in range(count)])


def places(batches: list[tuple[Bucket, list[int]]]) -> list[list[int]]:
    return [chosen for _, chosen in batches]


def test_the_stream_shows_every_sample_once_an_epoch() -> None:
    filled = [_bucket(12), _bucket(8), _bucket(2)]
    stream = Stream(filled, batch=4, seed=0)
    assert stream.per_epoch == 3 + 2 + 1
    epochs = [[stream(epoch * 6 + n)[0] for n in range(6)] for epoch in range(3)]
    for epoch in epochs:
        counts = [
            Counter(place for bucket, chosen in epoch if bucket is each for place in chosen)
            for each in filled
        ]
        assert counts[0] == Counter(range(12))
        assert counts[1] == Counter(range(8))
        assert counts[2] == Counter({0: 2, 1: 2})  # smaller than a batch: shown twice
    assert places(epochs[0]) != places(epochs[1])
    # Any batch can be asked for at once, as a resumed run does.
    ((bucket, chosen),) = Stream(filled, batch=4, seed=0)(14)
    assert bucket is epochs[2][2][0]
    assert chosen == epochs[2][2][1]
    other = Stream(filled, batch=4, seed=1)
    assert places([other(n)[0] for n in range(6)]) != places(epochs[0])


def test_a_mixed_stream_puts_sizes_together() -> None:
    filled = [_bucket(12), _bucket(8), _bucket(2)]
    stream = Stream(filled, batch=4, seed=0, mixed=True)
    assert stream.per_epoch == 22 // 4
    batches = [stream(n) for n in range(5)]
    assert all(sum(len(chosen) for _, chosen in batch) == 4 for batch in batches)
    assert any(len(batch) > 1 for batch in batches)
    shown = [(id(bucket), place) for batch in batches for bucket, chosen in batch for place in chosen]
    assert len(set(shown)) == 20
    assert [stream(n) for n in range(5)] == batches


def test_it_looks_at_held_out_edits_on_the_way(settings: Any) -> None:
    overrides = (
        "fit.validate_every=2",
        "validation.examples=3",
        "validation.success=4",
        "validation.steps=1",
    )
    job, output = train(settings("run", *overrides, trainable="lora"))
    told = [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told] == [2, 4]
    assert all(line["held-out loss"] > 0 and 0 <= line["success"] <= 1 for line in told)
    assert {path.name for path in (output / "validation").iterdir()} == {
        "step-0000002.png",
        "step-0000004.png",
    }
    assert (output / "best" / adapters.FILE).is_file()
    # It changes nothing of the run, nor of what the transformer wears.
    _, plain = train(settings("plain", trainable="lora"))
    assert_same(output / "checkpoint-0000004", plain / "checkpoint-0000004")
    assert list(adapters.active(job.backbone.transformer("kontext"))) == ["default"]
    assert list((output / "tracked").glob("events.out.tfevents*"))


def pairs(folder: Path, *records: dict[str, str]) -> str:
    """A file of these records, whose pictures are there."""
    image(128, 128).save(folder / "picture.png")
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


RECORD = {"source": "picture.png", "answer": "picture.png", "instruction": "make it red"}


def looking(settings: Any, path: str, *overrides: str) -> EditTrainConfig:
    """A run of one step that looks at these records."""
    held = ("validation.data.name=jsonl", f"validation.data.path={path}", "validation.steps=1")
    return settings("run", "fit.steps=1", "fit.validate_every=1", *held, *overrides, trainable="lora")


def test_a_held_out_record_may_have_a_task_that_the_method_lacks(settings: Any, tmp_path: Path) -> None:
    record = RECORD | {"data_type": "local editing", "mask": "picture.png"}
    path = pairs(tmp_path, record)
    tasks = (
        "validation.data.columns={kind: data_type}",
        "validation.data.tasks={local editing: local editing}",
    )
    job, output = train(looking(settings, path, *tasks))
    assert job._validation.records[0].task == "local editing"
    assert (output / "validation" / "step-0000001.png").is_file()


def test_held_out_records_that_cannot_be_edited_are_told_before(settings: Any, tmp_path: Path) -> None:
    cache = f"cache={tmp_path / 'unused'}"
    chosen = looking(settings, pairs(tmp_path, RECORD | {"instruction": " "}), cache)
    with pytest.raises(EditkitError, match="None of the validation's records"):
        EditJob(chosen)
    assert not (tmp_path / "unused").exists(), "the training data were encoded first"
    with pytest.warns(EditkitWarning, match="validation is left out"):
        job = EditJob(looking(settings, pairs(tmp_path, RECORD, RECORD | {"source": "none.png"})))
    assert len(job._validation.records) == 1


def test_a_cache_that_cannot_be_written_is_told_before(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = dataclasses.replace(settings("run"), backbone="nothing of the kind", fresh={})
    with pytest.raises(EditkitError, match=r"file is a file"):
        EditJob(dataclasses.replace(chosen, cache=str(tmp_path / "file" / "cache")))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("fit.trackers=[nothing]", "no tracker 'nothing'"),
        ("fit.optim.name=prodigy", r"needs a package: pip install 'editkit\[train\]'"),
    ],
)
def test_what_is_not_installed_is_told_before(
    settings: Any, override: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(EditkitError, match=problem):
        check(settings("run", override).fit)


def test_a_log_that_cannot_be_written_ends_the_run_with_a_checkpoint(settings: Any) -> None:
    chosen = settings("run", "fit.trackers=[]")
    job, output = EditJob(chosen), Path(chosen.fit.output)
    draw = job.batch

    def batch(indices: Any) -> Any:
        if indices[0] == 2 * 4:
            (output / "log.jsonl").unlink()
            (output / "log.jsonl").mkdir()
        return draw(indices)

    job.batch = batch
    with pytest.raises(EditkitError, match=r"log\.jsonl cannot be written .*resume"):
        fit(job, chosen.fit)
    assert [path.name for path in checkpoints.everything(output)] == ["checkpoint-0000003"]


def test_a_card_lies_beside_the_weights(settings: Any) -> None:
    chosen = settings(
        "run", "fit.validate_every=4", "validation.examples=2", "validation.steps=1", trainable="lora"
    )
    _, output = train(chosen)
    card = (output / "export" / "README.md").read_text()
    assert card.startswith("---\nbase_model: random weights\nlibrary_name: diffusers\nlicense: apache-2.0\n")
    assert "| loss |" in card
    assert "| held-out loss |" in card
    assert (output / "export" / "samples.png").is_file()
    versions = json.loads((output / "export" / "environment.json").read_text())
    assert torch.__version__.startswith(versions["torch"].split("+")[0])
    again = config.build(EditTrainConfig, config.read(output / "export" / "config.yaml"))
    assert again == chosen


def test_the_best_is_the_best(settings: Any) -> None:
    """Figures that rise again leave what was best where it is, also after a break."""

    def run(*overrides: str) -> Path:
        chosen = settings("run", "fit.validate_every=1", *overrides, trainable="lora")
        job = EditJob(chosen)
        job.validate = lambda step, folder: {"held-out loss": {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.5}[step]}
        fit(job, chosen.fit)
        return Path(chosen.fit.output)

    output = run("fit.steps=2", "fit.save_every=2")
    best, last = (load_file(output / name / adapters.FILE) for name in ("best", "export"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    run("fit.steps=4", "fit.resume=latest")
    again, last = (load_file(output / name / adapters.FILE) for name in ("best", "export"))
    assert all(torch.equal(best[name], again[name]) for name in best)
    assert not all(torch.equal(best[name], last[name]) for name in last)


@pytest.mark.parametrize("factor", [math.nan, 1e4])
def test_a_bad_batch_stops_the_run_and_is_kept(settings: Any, factor: float) -> None:
    chosen = settings("run", "fit.steps=8", "fit.log_every=2", "fit.save_every=2")
    job = EditJob(chosen)
    draw = job.batch

    def batch(indices: Any) -> Any:
        drawn = draw(indices)
        return dataclasses.replace(drawn, x0_BLC=drawn.x0_BLC * factor) if indices[0] == 4 * 4 else drawn

    job.batch = batch
    with pytest.raises(EditkitError, match=r"The loss is .* at step 5, .*the batch is in .*batch-0000005"):
        fit(job, chosen.fit)
    folder = Path(chosen.fit.output) / "batch-0000005"
    kept = json.loads((folder / "batch.json").read_text())
    assert kept["instructions"] == draw(range(16, 20)).worded[0][1]
    assert load_file(folder / "batch.safetensors")["x0_BLC"].shape[0] == 4
    assert [path.name for path in checkpoints.everything(Path(chosen.fit.output))][-1] == "checkpoint-0000004"


def test_gradient_checkpointing_changes_nothing(settings: Any, tmp_path: Path) -> None:
    ways = {
        "off": "gradient_checkpointing=false",
        "on": "gradient_checkpointing=true",
        "selective": "selective_checkpointing=true",
    }
    jobs, operations = {}, {}
    for name, way in ways.items():
        jobs[name] = EditJob(settings(name, "fit.steps=3", "gradient_checkpointing=true", way))
        with FlopCounterMode(display=False) as counter:
            jobs[name].objective(jobs[name].batch(range(4))).backward()
        operations[name] = counter.get_total_flops()
        fit(jobs[name], jobs[name].config.fit)
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)
    assert losses(tmp_path / "selective") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)
    assert operations["off"] == operations["selective"] < 0.8 * operations["on"]


def test_a_lora_over_a_quantized_base(settings: Any, random_pipeline: Path) -> None:
    pytest.importorskip("torchao", reason="an extra that prints about GPUs wherever there is none")
    quantization = {"type": "TorchAoConfig", "quant_type": "Int8WeightOnlyConfig"}
    chosen = settings("run", "data.count=8", "fit.precision=bf16", "lora.rank=2", trainable="lora")
    job, output = train(
        dataclasses.replace(
            chosen,
            backbone=str(random_pipeline),
            fresh={},
            dtype="bfloat16",
            load={"quantization": quantization},
        )
    )
    layer = job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q
    assert type(layer.base_layer.weight.data) is not Tensor
    assert layer.lora_B["default"].weight.abs().max() > 0
    assert {t.dtype for t in load_file(output / "export" / adapters.FILE).values()} == {torch.float32}


class OverFourBits(EditJob):
    """A job whose backbone is in 4 bits, which diffusers' own loading refuses to make without a GPU."""

    def _backbone(self) -> Any:
        loaded = super()._backbone()
        quantize(loaded.transformer(self.role), 4)
        return loaded


def test_a_lora_over_a_base_of_4_bits(settings: Any) -> None:
    few = ("data.count=2", "fit.steps=1", "fit.batch=2", "fit.precision=bf16", "dtype=bfloat16")
    chosen = settings("run", *few, trainable="lora")
    job = OverFourBits(replace(chosen, fresh={}, lora=replace(chosen.lora, rank=2)))
    packed = {name: p.clone() for name, p in job.objective.named_parameters() if p.dtype == torch.uint8}
    assert packed
    fit(job, chosen.fit)
    layer = job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q
    assert layer.lora_B["default"].weight.abs().max() > 0
    after = dict(job.objective.named_parameters())
    assert all(torch.equal(packed[name], after[name]) for name in packed)
    assert all(map(math.isfinite, losses(Path(chosen.fit.output)).values()))


def test_what_trains_is_float32_over_a_bfloat16_base(settings: Any) -> None:
    plain = dataclasses.asdict(settings("low", "fit.steps=1", "fit.precision=bf16", trainable="lora"))
    plain |= {"fresh": {}, "dtype": "bfloat16", "data": {"count": 4, "kinds": RECOLOUR}}
    chosen = config.build(EditTrainConfig, plain)
    job = EditJob(chosen)
    fit(job, chosen.fit)
    kinds = {p.requires_grad: set() for p in job.objective.parameters()}
    for parameter in job.objective.parameters():
        kinds[parameter.requires_grad].add(parameter.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}
    with pytest.raises(EditkitError, match="dtype=bfloat16 needs trainable=lora or input"):
        settings("full", "dtype=bfloat16", "fit.precision=bf16")


@torch.no_grad()
def test_sizes_mixed_in_one_batch_count_alike(settings: Any, tmp_path: Path) -> None:
    rows = []
    for number, size in enumerate(((128, 64), (64, 128), (96, 96), (64, 64))):
        for name in ("source", "answer"):
            image(*size, seed=number).save(tmp_path / f"{number}{name}.png")
        rows.append({"source": f"{number}source.png", "answer": f"{number}answer.png", "instruction": "red"})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plain = dataclasses.asdict(settings("mixed", "options.sizes=exact"))
    plain |= {"mixed_sizes": True, "data": {"name": "jsonl", "path": str(tmp_path / "train.jsonl")}}
    job = EditJob(config.build(EditTrainConfig, plain))
    job.objective.eval()
    batch = job.batch(range(4))
    assert len(batch.worded) == 4
    whole = job.objective(batch)
    losses = []
    order = [plan.canvas.original for plan, _ in batch.worded]
    for number, (plan, words) in enumerate(batch.worded):
        place = next(
            n for n, bucket in enumerate(job.stream.streams[0].buckets) if bucket.plan.canvas == plan.canvas
        )
        alone_plan, tensors = job.stream.streams[0].buckets[place].take([0], job.backbone.device)
        alone = dataclasses.replace(
            batch,
            plan=alone_plan,
            x0_BLC=tensors["x0_BLC"],
            worded=[(alone_plan, words)],
            weights_BL=None,
            seeds=[batch.seeds[number]],
            places=None,
        )
        losses.append(float(job.objective(alone)))
    assert len(set(order)) == 4
    assert float(whole) == pytest.approx(sum(losses) / len(losses), abs=1e-4)


# --- Optimizers, rates, averages ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1, 50: 1, 99: 1}),
        ({"warmup": 4}, {0: 0.25, 3: 1, 99: 1}),
        ({"schedule": "linear"}, {0: 1, 50: 0.5, 99: 0.01}),
        ({"schedule": "linear", "decay": 0.4}, {0: 1, 60: 1, 80: 0.5, 99: 0.025}),
        ({"schedule": "cosine"}, {0: 1, 50: 0.5, 75: 0.5 - 0.5 * math.cos(math.pi / 4)}),
        ({"schedule": "onecycle"}, {0: 0.04, 30: 1, 65: 0.5}),
    ],
)
def test_learning_rates(options: dict[str, Any], expected: dict[int, float]) -> None:
    chosen = OptimConfig(**options)
    for step, factor in expected.items():
        assert rate(step, 100, chosen) == pytest.approx(factor), step
    assert all(0 < rate(step, 100, chosen) <= 1 for step in range(100))


def test_muon_moves_matrices_of_blocks_alone(random_flux: Flux) -> None:
    parameters = dict(random_flux.transformer("kontext").named_parameters())
    for parameter in parameters.values():
        assert not parameter.requires_grad
    free = {name: nn.Parameter(parameter.detach()) for name, parameter in parameters.items()}
    muon, adamw = optimizers(free.items(), OptimConfig(name="muon", lr=1e-3, muon_lr=0.02))
    names = {id(parameter): name for name, parameter in free.items()}
    chosen = [
        {names[id(p)] for group in each.param_groups for p in group["params"]} for each in (muon, adamw)
    ]
    assert chosen[0] | chosen[1] == set(free)
    assert not chosen[0] & chosen[1]
    assert "transformer_blocks.0.attn.to_q.weight" in chosen[0]
    assert {"x_embedder.weight", "proj_out.weight", "transformer_blocks.0.attn.to_q.bias"} <= chosen[1]
    assert [each.param_groups[0]["peak"] for each in (muon, adamw)] == [0.02, 1e-3]
    assert len(optimizers(parameters.items(), OptimConfig())) == 0


def test_rates_by_name() -> None:
    free = {name: nn.Parameter(torch.zeros(2)) for name in ("t5.shared.weight", "t5.block", "clip", "x")}
    (adamw,) = optimizers(free.items(), OptimConfig(lr=1.0, lr_of={"t5": 0.1, "t5.shared": 0.5}))
    found = {id(p): group["peak"] for group in adamw.param_groups for p in group["params"]}
    assert [found[id(free[name])] for name in free] == [0.5, 0.1, 1.0, 1.0]


def test_moving_average() -> None:
    weight = nn.Parameter(torch.zeros(3))
    ema = Ema({"weight": weight}, 0.9)
    with torch.no_grad():
        weight.fill_(1)
    for step in range(200):
        ema.update(step)
        if step == 0:
            assert ema.shadow["weight"].tolist() == pytest.approx([0.9] * 3)  # the memory starts short
    assert ema.shadow["weight"].tolist() == pytest.approx([1.0] * 3)
    with torch.no_grad():
        weight.fill_(5)
    ema.update(200)
    assert ema.shadow["weight"].tolist() == pytest.approx([1.4] * 3)
    ema.swap()
    assert weight.tolist() == pytest.approx([1.4] * 3)
    ema.swap()
    assert weight.tolist() == [5.0] * 3


def test_a_second_run_does_not_write_over_the_first(settings: Any) -> None:
    _, output = train(settings("run", "fit.steps=1"))
    before = losses(output)
    with pytest.raises(EditkitError, match=r"holds an earlier run; give fit\.resume=latest"):
        train(settings("run", "fit.steps=2"))
    assert losses(output) == before
