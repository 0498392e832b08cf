"""What every method promises, asked of each of them: a new folder below `methods` is tested unasked."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLIP, LETTERS, ROOT, T5, difference, image, photo, transformer_config
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import editkit
from backbones.flux import Flux
from backbones.specs import FAMILIES
from editkit import adapters, config, flow
from editkit.imaging import canvas, images
from editkit.method import Conditioner, Method, Sampler, Trainer
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from editkit.types import EditInputs, EditRequest, Plan

FILES = {"__init__.py", "config.py", "conditioner.py", "sampler.py", "trainer.py", "README.md"}
WORDS = ("make the red circle blue", "remove the green square")


OTHER_WAYS: dict[str, list[dict[str, Any]]] = {
    "kontext": [{"layout": "offset"}, {"layout": "stitch", "sizes": "exact"}],
    "icedit": [
        {"template": "paper", "loss": "right", "encoding": "mode"},
        {"moe": {"experts": 2, "rank": 2, "balance": 0.1}},
    ],
    "aceplus": [{"layout": "sequence"}, {"model": "full"}, {"model": "full", "layout": "sequence"}],
}
"""Options under which a method conditions otherwise than by default, and has to keep the contract too."""
CASES = [(record, way) for record in editkit.methods() for way in ({}, *OTHER_WAYS.get(record.name, ()))]


@pytest.fixture(params=CASES, ids=lambda case: " ".join((case[0].name, *case[1])))
def case(request: pytest.FixtureRequest) -> tuple[Method, dict[str, Any]]:
    return request.param


@pytest.fixture
def method(case: tuple[Method, dict[str, Any]]) -> Method:
    return case[0]


@pytest.fixture
def options(case: tuple[Method, dict[str, Any]]) -> dict[str, Any]:
    return case[1]


@pytest.fixture
def parts(method: Method, options: dict[str, Any], random_flux: Flux) -> tuple[Conditioner, Sampler, Trainer]:
    built = config.build(method.config, options)
    return tuple(part(random_flux, built) for part in (method.conditioner, method.sampler, method.trainer))


@pytest.fixture
def role(method: Method, options: dict[str, Any], random_flux: Flux) -> str:
    return method.role_under(config.build(method.config, options))


@pytest.fixture
def editor(method: Method, options: dict[str, Any], random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux, {method.name: options})


def inputs(width: int = 128, height: int = 128, count: int = 2) -> EditInputs:
    return EditInputs(
        prompts=WORDS[:count], source_BCHW=torch.cat([photo(width, height, seed) for seed in range(count)])
    )


def test_the_core_names_no_method() -> None:
    """But for the one that is taken where none is named, and in docstrings, which cite papers."""
    names = re.compile(rf"\b({'|'.join(record.name for record in editkit.methods())})\b")
    found = set()
    for path in sorted((ROOT / "editkit").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        told = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                found |= {node.value} if names.search(node.value) else set()
            if isinstance(node, ast.Name | ast.Attribute | ast.arg):
                word = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
                assert not names.search(str(word)), f"{path} has {word}"
    assert found == {"kontext"}


def test_there_are_methods() -> None:
    assert "kontext" in {record.name for record in editkit.methods()}


def test_record(method: Method) -> None:
    folder = ROOT / "methods" / method.name
    assert folder.is_dir()
    assert importlib.import_module(f"methods.{method.name}").METHOD is method
    for line in (method.summary, method.paper):
        assert line.strip() == line != ""
        assert "\n" not in line
    assert any(method.role in family.roles for family in editkit.backbones())
    assert issubclass(method.conditioner, Conditioner)
    assert issubclass(method.sampler, Sampler)
    assert issubclass(method.trainer, Trainer)
    if method.defaults is not None:
        assert method.defaults.keys() <= {"steps", "guidance"}


def test_folder(method: Method) -> None:
    folder = ROOT / "methods" / method.name
    assert {path.name for path in folder.iterdir()} >= FILES
    for part in ("config", "conditioner", "sampler", "trainer"):
        assert getattr(method, part).__module__ == f"methods.{method.name}.{part}"
    assert len((folder / "README.md").read_text().split()) > 50


def test_config(method: Method) -> None:
    built = config.build(method.config, {})
    assert isinstance(built, method.config)
    assert type(built).__dataclass_params__.frozen
    for field in dataclasses.fields(built):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(built, field.name, None)
    with pytest.raises(editkit.EditkitError, match="Unknown key"):
        config.build(method.config, {"no such option": 1})


@torch.no_grad()
@pytest.mark.parametrize(("width", "height"), [(128, 128), (96, 61), (300, 70)])
def test_plan(
    role: str, parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux, width: int, height: int
) -> None:
    conditioner, sampler, _ = parts
    plan = conditioner.plan(inputs(width, height))
    assert plan.role == role
    planned, slots = plan.canvas, plan.conditioning
    assert planned.original == (width, height)
    assert planned.width % 16 == planned.height % 16 == 0
    assert planned.answer.left + planned.answer.width <= planned.width
    assert planned.answer.top + planned.answer.height <= planned.height
    assert planned.content.left + planned.content.width <= planned.answer.width
    assert planned.content.top + planned.content.height <= planned.answer.height

    tokens = planned.width * planned.height // 256
    in_channels = random_flux.transformer(plan.role).config.in_channels
    assert slots.text is not None
    assert len(slots.text.tokens_BTD) == len(slots.text.pooled_BD) == 2
    if slots.channel_BLC is not None:
        assert slots.channel_BLC.shape == (2, tokens, in_channels - 64)
    else:
        assert in_channels == 64
    assert (slots.sequence_BSC is None) == (slots.sequence_ids_S3 is None)
    if slots.sequence_BSC is not None:
        batch, count, channels = slots.sequence_BSC.shape
        assert (batch, channels) == (2, 64)
        assert slots.sequence_ids_S3.shape == (count, 3)
        own = random_flux.grid_ids(planned.width, planned.height)
        taken = {tuple(row) for row in own.tolist()}
        places = [tuple(row) for row in slots.sequence_ids_S3.tolist()]
        assert not taken & set(places)
        assert len(set(places)) == len(places)

    noise_BLC = random_flux.noise(planned, [torch.Generator().manual_seed(seed) for seed in range(2)])
    assert noise_BLC.shape == (2, tokens, 64)
    for t in (0.4, torch.tensor([0.4, 0.4])):
        velocity_BLC = random_flux.velocity(noise_BLC, t, plan, 2.0)
        assert velocity_BLC.shape == noise_BLC.shape
        assert torch.isfinite(velocity_BLC).all()
    steps = list(sampler.walk(plan, noise_BLC, flow.schedule(3, tokens), 2.0))
    assert len(steps) == 3
    assert all(step.shape == noise_BLC.shape for step in steps)


@torch.no_grad()
def test_source_and_instruction_matter(
    parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux
) -> None:
    conditioner, sampler, _ = parts

    def end(words: str, seed: int) -> Tensor:
        plan = conditioner.plan(EditInputs(prompts=(words,), source_BCHW=photo(128, 128, seed)))
        noise_BLC = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)])
        *_, last = sampler.walk(plan, noise_BLC, flow.schedule(2, noise_BLC.shape[1]), 2.0)
        return last

    assert not torch.allclose(end(WORDS[0], 0), end(WORDS[1], 0), atol=0.02)
    assert not torch.allclose(end(WORDS[0], 0), end(WORDS[0], 1), atol=0.02)


@torch.no_grad()
def test_a_batch_is_planned_as_its_members_are(parts: tuple[Conditioner, Sampler, Trainer]) -> None:
    conditioner, _, _ = parts
    together = conditioner.plan(inputs(100, 60))
    for place, words in enumerate(WORDS):
        single = conditioner.plan(EditInputs(prompts=(words,), source_BCHW=photo(100, 60, place)))
        assert single.canvas == together.canvas
        for mine, other in zip(_tensors(single), _tensors(together), strict=True):
            assert torch.allclose(mine[0], other[place], atol=1e-4)
        ids = [each.conditioning.sequence_ids_S3 for each in (single, together)]
        assert ids[0] is ids[1] is None or torch.equal(*ids)


def _tensors(plan: Plan) -> list[Tensor]:
    """What has a row for each member."""
    slots = plan.conditioning
    every = (slots.text.tokens_BTD, slots.text.pooled_BD, slots.channel_BLC, slots.sequence_BSC)
    return [tensor for tensor in every if tensor is not None]


@torch.no_grad()
def test_target_fills_the_canvas(parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux) -> None:
    conditioner, _, _ = parts
    given, answer_BCHW = inputs(96, 61), torch.cat([photo(96, 61, seed) for seed in (5, 6)])
    plan = conditioner.arrange(given)
    assert plan.conditioning.text is None
    target_BCHW = conditioner.target(given, answer_BCHW)
    assert target_BCHW.shape == (2, 3, plan.canvas.height, plan.canvas.width)
    assert target_BCHW.min() >= 0
    assert target_BCHW.max() <= 1
    tokens = plan.canvas.width * plan.canvas.height // 256
    assert random_flux.encode(target_BCHW).shape == (2, tokens, 64)
    # The answer lies where the sampler will look for it.
    restored_BCHW = canvas.restore(target_BCHW, plan.canvas)
    assert restored_BCHW.shape == answer_BCHW.shape
    assert float((restored_BCHW - answer_BCHW).abs().mean()) < 0.06


@torch.no_grad()
def test_trainer(parts: tuple[Conditioner, Sampler, Trainer]) -> None:
    conditioner, _, trainer = parts
    given = inputs()
    plan = conditioner.arrange(given)
    weights_BL = trainer.weights(plan, given)
    if weights_BL is not None:
        assert weights_BL.shape == (2, plan.canvas.width * plan.canvas.height // 256)
        assert weights_BL.min() >= 0
        assert (weights_BL.sum(1) > 0.99).all()
    worded = [[trainer.reword(WORDS[0], random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert worded[0] == worded[1]
    assert WORDS[0] in worded[0]
    assert len(conditioner.prompts(worded[0])) == 50
    assert all(isinstance(prompt, str) for prompt in conditioner.prompts(worded[0]))


@pytest.mark.parametrize("size", [(128, 128), (97, 61), (1, 1), (300, 20)])
def test_edit_keeps_the_size(method: Method, editor: editkit.Editor, size: tuple[int, int]) -> None:
    result = editor.edit(image(*size), WORDS[0], method.name, steps=2)
    assert result.image.size == size
    assert result.image.mode == "RGB"
    assert result.method == result.recipe["method"] == method.name


def test_edit_is_repeatable(method: Method, editor: editkit.Editor) -> None:
    picture = image(97, 61)
    first, again, other = (
        editor.edit(picture, WORDS[0], method.name, steps=2, seed=seed) for seed in (1, 1, 2)
    )
    assert difference(first.image, again.image) == 0
    assert first.recipe == again.recipe
    assert difference(first.image, other.image) > 10


def test_what_lies_outside_the_mask_stays(method: Method, editor: editkit.Editor) -> None:
    picture, mask = image(97, 61), Image.new("L", (97, 61))
    mask.paste(255, (20, 10, 70, 50))
    result = editor.edit(picture, WORDS[0], method.name, steps=2, mask=mask).image
    black = Image.new("RGB", picture.size)
    outside = [Image.composite(black, each, mask) for each in (result, picture)]
    assert difference(*outside) == 0
    assert difference(result, picture) > 10
    free = editor.edit(picture, WORDS[0], method.name, steps=2, mask=mask, preserve=False).image
    assert difference(Image.composite(black, free, mask), outside[1]) > 10


def test_preserve_without_a_mask_keeps_what_did_not_change(method: Method, editor: editkit.Editor) -> None:
    # A random network repaints everything; what it painted before, it paints much the same again.
    picture = editor.edit(image(97, 61), WORDS[0], method.name, steps=2, seed=2).image
    picture.paste(image(97, 61).crop((0, 0, 40, 61)))
    free = editor.edit(picture, WORDS[0], method.name, steps=2, seed=2).image
    kept = editor.edit(picture, WORDS[0], method.name, steps=2, seed=2, preserve=True).image
    source, edited, result = (images.tensor(images.load(each)) for each in (picture, free, kept))
    # Looser than the edit itself by more than a level, which is what pictures are rounded to.
    same = (canvas.change(source, edited, threshold=0.09, grow=3) == 0).expand_as(source)
    assert same.any()
    assert torch.equal(result[same], source[same])
    assert not torch.equal(edited[same], source[same])
    assert difference(kept, picture) > 10


def test_alpha_stays(method: Method, editor: editkit.Editor) -> None:
    picture = image(50, 40)
    picture.putalpha(Image.linear_gradient("L").resize((50, 40)))
    result = editor.edit(picture, WORDS[0], method.name, steps=1).image
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


@pytest.fixture(scope="module")
def vae(random_flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    random_flux.vae.save_pretrained(folder)
    return folder


def settings(
    case: tuple[Method, dict[str, Any]], role: str, vae: Path, folder: Path, *overrides: str
) -> EditTrainConfig:
    """A LoRA of a few steps on a new backbone of random weights, always the same ones."""
    method, options = case
    channels = FAMILIES["tiny"].roles[role].in_channels
    values = {
        "method": method.name,
        "options": options,
        "fresh": {
            "vae": str(vae),
            "words": str(ROOT / "configs" / "tiny" / "words.txt"),
            "letters": LETTERS,
            "transformer": transformer_config(channels),
            "clip": CLIP,
            "t5": T5,
        },
        "lora": {"rank": 2},
        "cache": str(folder.parent / "latents"),
        "data": {"count": 8, "kinds": {"recolour": 1.0}},
        "fit": {
            "output": str(folder),
            "steps": 2,
            "batch": 4,
            "precision": "fp32",
            "device": "cpu",
            "save_every": 1,
            "optim": {"lr": 0.01},
        },
    }
    return config.build(EditTrainConfig, values, overrides)


def test_trained_saved_resumed_loaded(
    case: tuple[Method, dict[str, Any]], role: str, vae: Path, tmp_path: Path
) -> None:
    method, options = case
    straight = settings(case, role, vae, tmp_path / "straight")
    fit(EditJob(straight), straight.fit)
    for overrides in (("fit.steps=1",), ("fit.steps=2", "fit.resume=latest")):
        stopped = settings(case, role, vae, tmp_path / "stopped", *overrides)
        fit(EditJob(stopped), stopped.fit)
    files = [tmp_path / name / "export" / adapters.FILE for name in ("straight", "stopped")]
    states = [load_file(path) for path in files]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(tensor.abs().sum() > 0 for key, tensor in states[0].items() if ".lora_B" in key)

    editor = editkit.Editor(EditJob(straight).backbone, {method.name: options})
    editor.use_adapters([], method=method.name)  # whatever a method wears is not for random weights

    def edited() -> Image.Image:
        return editor.edit(image(64, 64), WORDS[0], method.name, steps=2).image

    transformer = editor.backbone.transformer(role)
    base = edited()
    name = editor.load_adapter(files[0], method.name)
    worn = edited()
    assert difference(worn, base) > 0
    editor.use_adapters([], method=method.name)
    assert difference(edited(), base) == 0
    adapters.eject(transformer, name)
    assert difference(edited(), base) == 0


def test_switching_loads_nothing_twice() -> None:
    editor = editkit.load("tiny", "cpu")

    def held() -> set[int]:
        for record in editkit.methods():
            editor.edit(image(64, 64), WORDS[0], record.name, steps=1)
        return {id(p) for each in editor.backbone.transformers.values() for p in each.parameters()}

    first = held()
    assert len(editor.backbone.transformers) <= len({record.role for record in editkit.methods()})
    assert held() == first


@pytest.mark.parametrize("given", [{}, {"mask": True}, {"references": True}], ids=" ".join)
def test_a_batch_gives_what_single_edits_give(
    method: Method, editor: editkit.Editor, given: dict[str, bool]
) -> None:
    asked = [
        EditRequest(
            image=image(40, 30, place),
            instruction=words,
            method=method.name,
            seed=place,
            steps=2,
            mask=Image.new("L", (40, 30), 255) if given.get("mask") else None,
            references=[image(30, 30, 9 + place)] if given.get("references") else [],
        )
        for place, words in enumerate(WORDS)
    ]
    together = editor.edit_many(asked)
    for one, result in zip(asked, together, strict=True):
        (alone,) = editor.edit_many([one])
        assert (result.error is None) == (alone.error is None)
        if result.image is not None:
            assert difference(result.image, alone.image) <= 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"image": "absent.png"}, r"absent\.png"),
        ({"mask": "absent.png"}, r"absent\.png"),
        ({"steps": 0}, "steps=0"),
        ({"task": "no such task"}, "no such task|no tasks"),
        ({"references": "abc"}, "list of pictures"),
    ],
)
def test_bad_requests_fail_alone(
    method: Method, editor: editkit.Editor, asked: dict[str, object], words: str
) -> None:
    good = {"image": image(40, 30), "instruction": WORDS[0], "method": method.name, "steps": 1}
    requests = [EditRequest(**(good | asked)), EditRequest(**good)]
    bad, fine = editor.edit_many(requests)
    assert bad.image is None
    assert re.search(words, bad.error)
    assert bad.error.endswith(".")
    assert fine.image.size == (40, 30)


def test_negative_prompts_push_away(
    method: Method, options: dict[str, Any], editor: editkit.Editor, random_flux: Flux
) -> None:
    """With the scale 1 they are without effect; a method without that option refuses them."""
    asked = {"image": image(64, 64), "instruction": WORDS[0], "method": method.name, "steps": 2}

    def edited(scale: float, **more: str) -> Image.Image:
        guided = editkit.Editor(random_flux, {method.name: options | {"true_cfg": scale}})
        return guided.edit(**asked, **more).image

    if "true_cfg" not in {field.name for field in dataclasses.fields(method.config)}:
        with pytest.raises(editkit.EditkitError, match="no negative prompt"):
            editor.edit(**asked, negative="")
        return
    plain = editor.edit(**asked).image
    for negative in ("", WORDS[1]):
        assert difference(edited(1.0, negative=negative), plain) <= 1
        assert difference(edited(6.0, negative=negative), plain) > 1
    assert edited(6.0).tobytes() == plain.tobytes()
    with pytest.raises(editkit.EditkitError, match="true_cfg must be a finite number"):
        edited(float("nan"))


BLOCK = re.compile(r'^```\w+ title="methods/compact/(\S+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_a_fourth_method_is_one_folder(tmp_path: Path) -> None:
    """A copy of the tree with the method that docs/add-a-method.md writes: everything finds it."""
    for name in ("editkit", "methods", "backbones", "configs", "tests", "demos"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = dict(BLOCK.findall((ROOT / "docs" / "add-a-method.md").read_text()))
    assert written.keys() == FILES
    folder = tmp_path / "methods" / "compact"
    folder.mkdir()
    for name, text in written.items():
        (folder / name).write_text(text)
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=surroundings, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "compact" in run("-m", "editkit", "methods")
    words = ("demos/samples/red_circle.png", WORDS[0], "-m", "compact", "--steps", "1", "-o", "out.png")
    run("-m", "editkit", "edit", *words)
    assert (tmp_path / "out.png").is_file()
    code = "import editkit; print([record.name for record in editkit.methods()])"
    assert "compact" in run("-c", code)
    run("-m", "ruff", "check", "methods/compact")
    run("-m", "ruff", "format", "--check", "methods/compact")
    told = run("-m", "pytest", "tests/test_contract.py", "-k", "compact", "-p", "no:cacheprovider")
    assert int(re.search(r"(\d+) passed", told)[1]) > 15


def test_without_a_picture(method: Method, editor: editkit.Editor) -> None:
    """Text to image, or one sentence that says why not."""
    request = EditRequest(image=None, instruction=WORDS[0], method=method.name, steps=1, size=(64, 96))
    (result,) = editor.edit_many([request])
    if result.image is None:
        assert result.error.endswith(".")
    else:
        assert result.image.size == (64, 96)
