"""What people build on: names, signatures, commands, options, recipes, what loads what, loading options."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from conftest import ROOT, difference
from conftest import image as colourful
from PIL import Image
from surface_fixtures import Cli, in_process, one_sentence, picture, python

import editkit
from backbones.loading import LoadOptions
from backbones.specs import FAMILIES
from editkit import atomic_files, config, packages, registry
from editkit.cli import app
from editkit.errors import EditkitError
from editkit.inference import provenance

METHODS = {path.parent.name for path in (ROOT / "methods").glob("*/__init__.py")}


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


# --- Imports ---

HEAVY = ("accelerate", "diffusers", "numpy", "peft", "torch", "transformers")


def loaded(script: str) -> tuple[list[str], str]:
    """The heavy ones that a script imports, and what it printed before."""
    run = python("-c", f"{script}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert (run.status, run.err) == (0, "")
    *printed, last = run.out.splitlines()
    return ast.literal_eval(last), "\n".join(printed)


@pytest.mark.parametrize(
    "script", ["import editkit; dir(editkit)", "from editkit import EditRequest", "import editkit.cli"]
)
def test_light_imports(script: str) -> None:
    assert loaded(script) == ([], "")


@pytest.mark.parametrize(
    "arguments", ["--help", "edit --help", "train --help", "eval shapesworld --help", "backbones"]
)
def test_light_commands(arguments: str) -> None:
    script = (
        f"import runpy, sys; sys.argv = ['editkit', *{arguments.split()}]\n"
        "try: runpy.run_module('editkit', run_name='__main__')\n"
        "except SystemExit as stopped: assert not stopped.code"
    )
    heavy, printed = loaded(script)
    assert heavy == []
    assert ("Usage:" in printed) == ("--help" in arguments)


def test_heavy_imports_are_seen() -> None:
    heavy, _ = loaded("import editkit.inference.pipeline")
    assert {"numpy", "torch"} <= set(heavy)


@pytest.mark.parametrize("name", ["methods", "backbones"])
def test_a_foreign_package_is_told(name: str, tmp_path: Path) -> None:
    """Else the registry would be empty without a word."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from editkit import packages\n"
        f"try: packages.own_package({name!r})\n"
        "except ImportError as error: print(error)\n"
    )
    run = python("-c", script)
    assert (run.status, run.err) == (0, "")
    assert str(tmp_path / name) in run.out
    assert str(ROOT / name) in run.out
    one_sentence(run.out)


def test_own_packages_are_found() -> None:
    assert Path(packages.own_package("methods").__path__[0]) == ROOT / "methods"


# --- Names ---


def test_public_names() -> None:
    assert set(editkit.__all__) == {
        "EditRequest",
        "EditResult",
        "EditkitError",
        "Editor",
        "Replay",
        "SeedSearch",
        "Session",
        "backbones",
        "load",
        "load_session",
        "methods",
        "replay",
    }
    for name in editkit.__all__:
        assert getattr(editkit, name).__module__.startswith("editkit.")
    with pytest.raises(AttributeError, match="nothing"):
        editkit.nothing  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+\.\d+", editkit.__version__)


def bare(function: Callable[..., Any]) -> str:
    """A signature without annotations, whose spelling differs between versions of Python."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


SIGNATURES = {
    "load": "(backbone='tiny', device=None, dtype=None, *, options=None, **loading)",
    "methods": "()",
    "backbones": "()",
    "Editor": "(backbone, options=None)",
    "Editor.edit": (
        "(self, image, instruction, method='kontext', *, task=None, seed=0, steps=None, guidance=None, "
        "mask=None, references=(), size=None, preserve=None, align=False, negative=None, search=None, "
        "watch=None)"
    ),
    "Editor.edit_many": "(self, requests, batch_size=32, *, watch=None)",
    "Editor.session": "(self, image, folder=None)",
    "replay": "(path, *, image=None, mask=None, references=(), device=None, editor=None)",
    "load_session": "(folder, editor=None)",
    "Session.edit": "(self, instruction, method='kontext', **asked)",
    "Session.adopt": "(self, result)",
    "Session.branch": "(self, number)",
    "Session.save": "(self, folder)",
    "Editor.load_adapter": "(self, path, method='kontext', name=None)",
    "Editor.use_adapters": "(self, names, scales=None, method='kontext')",
    "Editor.method": "(self, name)",
    "EditRequest": (
        "(*, image, instruction, method='kontext', task=None, mask=None, references=(), seed=0, steps=None, "
        "guidance=None, size=None, preserve=None, align=False, negative=None, search=None)"
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    found = editkit
    for part in name.split("."):
        found = getattr(found, part)
    assert bare(found) == SIGNATURES[name]


def test_request_and_edit_agree() -> None:
    """What a single edit takes is what a request holds."""
    taken = set(inspect.signature(editkit.Editor.edit).parameters) - {"self", "watch"}
    assert taken == {field.name for field in dataclasses.fields(editkit.EditRequest)}


def test_result_fields() -> None:
    assert [field.name for field in dataclasses.fields(editkit.EditResult)] == [
        "image",
        "method",
        "seed",
        "recipe",
        "timings",
        "notes",
        "error",
        "search",
        "change",
        "alignment",
    ]


# --- The command line ---

LOADING = {"-b", "--backbone", "--device", "--dtype"}
SCORED = {"-m", "--method", "--n", "--steps", "--negative", "--batch-size", "--option"}
SAMPLING = {"-m", "--method", "--seed", "--steps", "--guidance", "--size", "--negative", "--option", "--load"}
OUTPUT = {"-o", "--output"}
SEARCH = {"--search", "--judge", "--search-mode", "--preview-steps", "--judge-option", "--contact-sheet"}
SEARCH |= {"--both-orders", "--one-order"}

COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "edit": (
        ["image", "instruction"],
        {
            *LOADING,
            *SAMPLING,
            *OUTPUT,
            *SEARCH,
            "--json",
            "--task",
            "--mask",
            "--ref",
            "--preserve",
            "--align",
        },
    ),
    "generate": (["prompt"], {*LOADING, *SAMPLING, *OUTPUT, *SEARCH, "--json", "--task", "--ref"}),
    "compare": (
        ["image", "instruction"],
        {*LOADING, *OUTPUT, "-m", "--method", "--mask", "--seed", "--steps", "--size", "--judge"}
        | {"--ref", "--preserve", "--negative", "--option", "--load", "--json"},
    ),
    "replay": (["picture"], {*OUTPUT, "--image", "--mask", "--reference", "--device", "--json"}),
    "methods": (["name"], set()),
    "doctor": ([], {"--json"}),
    "demo": (
        [],
        {"-b", "--backbone", "--device", "--host", "--port", "--share", "--password", "--max-pixels"},
    ),
    "backbones": ([], set()),
    "train": (["config", "overrides"], {"--plan", "--device"}),
    "eval shapesworld": ([], {*LOADING, *OUTPUT, *SCORED, "--sessions"}),
    "data check": (["config", "overrides"], {"--limit", "--output", "-o", "--json"}),
    "eval masked": ([], {*LOADING, *OUTPUT, *SCORED, "--kind"}),
    "weights convert": (["source", "destination"], {"--axes"}),
    "lora inspect": (["file"], {"--json"}),
    "lora convert": (["source", "destination"], {"--to", "--rank"}),
    "lora merge": (["sources", "destination"], {"--rank"}),
    "lora collapse": (["source", "destination"], {"--way", "--rank", "--weights"}),
}


def leaves(command: Any, name: str = "") -> dict[str, Any]:
    """Commands that do something, by their full names."""
    if not hasattr(command, "commands"):
        return {name: command}
    found: dict[str, Any] = {}
    for part, child in command.commands.items():
        found |= leaves(child, f"{name} {part}".strip())
    return found


def test_commands() -> None:
    found = {}
    for name, command in leaves(typer.main.get_command(app)).items():
        arguments = [each.name for each in command.params if each.param_type_name == "argument"]
        options = {
            opt
            for each in command.params
            if each.param_type_name == "option"
            for opt in (*each.opts, *each.secondary_opts)
        }
        found[name] = (arguments, options - {"--help"})
    assert found == COMMANDS


def test_backbones_command(cli: Cli) -> None:
    run = cli("backbones")
    assert (run.status, run.err) == (0, "")
    sections = re.split(r"^(?=\S)", run.out, flags=re.M)[1:]
    assert [section.split(":")[0] for section in sections] == list(FAMILIES)
    for section, family in zip(sections, FAMILIES.values(), strict=True):
        head, *lines = section.splitlines()
        assert family.summary in head
        assert [line.split()[0] for line in lines] == list(family.roles)
        for line, role in zip(lines, family.roles.values(), strict=True):
            assert line.endswith(role.licence)
            assert f"{role.disk_gb:g} GB disk" in line
            assert ("Non-Commercial" in line) == bool(re.search(r"FLUX\.1-.*dev|ACE_Plus", line))
    assert "Non-Commercial" in run.out


def test_methods_command(cli: Cli) -> None:
    run = cli("methods")
    assert (run.status, run.err) == (0, "")
    assert METHODS
    assert {line.split()[0] for line in run.out.splitlines() if not line.startswith(" ")} == METHODS
    for method in editkit.methods():
        assert method.summary in run.out
        assert method.paper in run.out


CONFIGS = ROOT / "configs"
SHIPPED = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("accelerate", "hardware")
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs(path: Path) -> None:
    values = config.read(path)
    assert "recipe" in values, "only training configs are shipped"
    settings = config.build(registry.recipe(values["recipe"]).CONFIG, values)
    assert settings.recipe == values["recipe"]
    if values["recipe"] == "edit":
        config.build(registry.method(settings.method).config, settings.options)
        if settings.fresh:
            fresh = config.build(packages.backbones("random_init").FreshConfig, settings.fresh)
            assert (ROOT / fresh.words).is_file()


SPOKEN = ("recipe", "method", "backbone")
"""Keys that say what a config is for, also where they are the defaults."""


def leaves_of(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys of all that is set."""
    found: list[tuple[str, ...]] = []
    for key, value in values.items():
        deeper = isinstance(value, dict) and value
        found += leaves_of(value, (*above, key)) if deeper else [(*above, key)]
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs_name_only_what_differs(path: Path) -> None:
    values = config.read(path)
    cls = registry.recipe(values["recipe"]).CONFIG
    settings = config.build(cls, values)
    for leaf in leaves_of(values):
        *above, name = leaf
        without = copy.deepcopy(values)
        held = functools.reduce(operator.getitem, above, without)
        del held[name]
        try:
            same = config.build(cls, without) == settings
        except EditkitError:  # it does not go without
            same = False
        assert not same or name in SPOKEN, f"{'.'.join(leaf)} is the default"


@pytest.mark.parametrize("path", sorted((CONFIGS / "hardware").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_hardware_lies_over_a_config(path: Path) -> None:
    below = CONFIGS / "flux1-dev" / "kontext-lora.yaml"
    values, changes = config.layered(below, [str(path), "fit.steps=3"])
    settings = config.build(registry.recipe(values["recipe"]).CONFIG, values, changes)
    assert settings.gradient_checkpointing
    assert settings.fit.steps == 3
    config.build(packages.backbones("loading").LoadOptions, settings.load)


@pytest.mark.parametrize("path", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_launcher_settings(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes == 8


def test_configs_are_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_method_in_full(method: str, cli: Cli) -> None:
    run = cli("methods", method)
    assert (run.status, run.err) == (0, "")
    record = registry.method(method)
    for name in (*(task.name for task in record.tasks), *(f.name for f in dataclasses.fields(record.config))):
        assert re.search(rf"^  {name}\b", run.out, re.M)
    for task in record.tasks:
        _, told = run.out.split(f"\n  {task.name:<16}{task.summary}\n")
        first = told.splitlines()[0]
        for key, value in dataclasses.asdict(task).items():
            if key not in ("name", "summary") and value not in (None, "", ()):
                words = " ".join(value) if isinstance(value, tuple) else str(value)
                assert f"{key} {words}" in first.replace("'", "")
    assert ("tasks" in run.out) == bool(record.tasks)


# --- Recipes ---


def test_recipe_in_the_picture(cli: Cli, random_pipeline: Path, tmp_path: Path) -> None:
    """Everything needed to make it again, and the same in `--json`."""
    source, output = picture(tmp_path / "image.png"), tmp_path / "o.png"
    arguments = ["-b", random_pipeline, "-o", output, "--seed", 7, "--steps", 2, "--guidance", 2.5]
    run = cli("edit", source, "make it blue", *arguments, "--size", "64x48", "--json")
    assert (run.status, run.err) == (0, "")
    printed, kept = json.loads(run.out), provenance.read(output)
    assert printed.pop("output") == str(output)
    assert set(printed.pop("timings")) == {"plan", "sample", "decode"}
    assert printed.pop("alignment") is None  # a plain picture shows no motion
    assert printed == kept
    expected = {
        "instruction": "make it blue",
        "method": "kontext",
        "backbone": str(random_pipeline),
        "seed": 7,
        "steps": 2,
        "guidance": 2.5,
        "size": [64, 48],
        "canvas": [64, 48],
        "tokens": 12,
        "precision": "float32",
        "device": "cpu",
        "mask": False,
        "references": 0,
        "negative": None,
    }
    assert expected.items() <= kept.items()
    weights = {
        "vae": "vae/diffusion_pytorch_model.safetensors",
        "text_encoder": "text_encoder/model.safetensors",
        "text_encoder_2": "text_encoder_2/model.safetensors",
        "transformer": "transformer/diffusion_pytorch_model.safetensors",
    }
    assert kept["weights"] == {
        part: atomic_files.sha256(random_pipeline / file) for part, file in weights.items()
    }
    assert {"python", "torch", "diffusers", "transformers"} <= set(kept["versions"])
    assert re.fullmatch("[0-9a-f]{64}", kept["source_sha256"])


def test_a_recipe_makes_the_picture_again(editor: editkit.Editor) -> None:
    first = editor.edit(SOURCE, "make it blue", seed=3, steps=2, guidance=2.0)
    made = first.recipe
    again = editor.edit(
        SOURCE,
        made["instruction"],
        made["method"],
        seed=made["seed"],
        steps=made["steps"],
        guidance=made["guidance"],
    )
    assert first.image is not None
    assert again.image is not None
    assert again.image.tobytes() == first.image.tobytes()
    assert again.recipe == made


# --- Loading options, all on a CPU ---

SOURCE = colourful(40, 24)


@pytest.fixture(scope="module")
def editor(random_pipeline: Path) -> editkit.Editor:
    return editkit.load(str(random_pipeline), "cpu")


def edited(editor: editkit.Editor, source: Image.Image = SOURCE, **values: Any) -> Image.Image:
    result = editor.edit(source, "make it blue", **({"steps": 4} | values)).image
    assert result is not None
    return result


@pytest.fixture(scope="module")
def plain(editor: editkit.Editor) -> Image.Image:
    """The edit that no option may change much."""
    return edited(editor)


def test_options_that_are_off_where_nothing_is_asked_for() -> None:
    assert dataclasses.asdict(LoadOptions()) == {
        "transformer": None,
        "text_encoder": None,
        "text_encoder_2": None,
        "vae": None,
        "axes": None,
        "quantization": {},
        "offload": "none",
        "attention": None,
        "cache": {},
        "compile": False,
    }


def test_a_plain_transformer_is_untouched(editor: editkit.Editor, plain: Image.Image) -> None:
    transformer = editor.backbone.transformer("kontext")
    assert not transformer.is_cache_enabled
    assert not any(parameter.requires_grad for parameter in transformer.parameters())
    assert not any(hasattr(module, "_orig_mod") for module in transformer.modules())
    assert transformer.dtype == torch.float32
    assert plain.size == SOURCE.size


def test_native_attention(random_pipeline: Path, plain: Image.Image) -> None:
    editor = editkit.load(str(random_pipeline), "cpu", attention="native")
    assert difference(edited(editor), plain) <= 1


def test_a_cache_that_never_holds_changes_nothing(random_pipeline: Path, plain: Image.Image) -> None:
    cache = {"type": "FirstBlockCacheConfig", "threshold": 0.0}
    editor = editkit.load(str(random_pipeline), "cpu", cache=cache)
    assert edited(editor).tobytes() == plain.tobytes()
    assert editor.backbone.transformer("kontext").is_cache_enabled


CACHES = [{"type": "FirstBlockCacheConfig", "threshold": 1e6}, {"type": "TaylorSeerCacheConfig"}]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache["type"])
def test_a_cache_is_used_and_forgotten(
    cache: dict[str, Any], random_pipeline: Path, editor: editkit.Editor
) -> None:
    """An edit takes nothing over from the one before, whatever its size."""
    cached = editkit.load(str(random_pipeline), "cpu", cache=cache)
    first = edited(cached, steps=8)
    assert difference(first, edited(editor, steps=8)) > 0
    wide = edited(cached, colourful(64, 32), size=(64, 32), steps=8)
    assert wide.size == (64, 32)
    assert edited(cached, steps=8).tobytes() == first.tobytes()
    assert edited(cached, steps=1).tobytes() == edited(editor, steps=1).tobytes()


def test_a_cache_keeps_two_prompts_apart(random_pipeline: Path, editor: editkit.Editor) -> None:
    """One step computes everything, so that a cache which mixed them up would show."""
    cached = editkit.load(str(random_pipeline), "cpu", cache=CACHES[0])
    wanted = edited(editor, steps=1, negative="a red circle")
    assert difference(wanted, edited(editor, steps=1)) > 0
    assert edited(cached, steps=1, negative="a red circle").tobytes() == wanted.tobytes()


def attempt(editor: editkit.Editor) -> tuple[Image.Image | None, str]:
    """An edit, or why it was refused."""
    try:
        return edited(editor), ""
    except EditkitError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", ["block", "leaf"])
def test_offload_works_or_is_refused(kind: str, random_pipeline: Path, plain: Image.Image) -> None:
    """Without an accelerator there is nowhere to load to and no pinned memory."""
    result, refusal = attempt(editkit.load(str(random_pipeline), "cpu", offload=kind))
    if result is None:
        assert not torch.accelerator.is_available()
        one_sentence(refusal)
    else:
        assert difference(result, plain) <= 1


QUANTIZERS = [
    {"type": "BitsAndBytesConfig", "load_in_8bit": True},
    {"type": "TorchAoConfig", "quant_type": "int8wo"},
    {"type": "QuantoConfig", "weights_dtype": "int8"},
]


@pytest.mark.parametrize("quantization", QUANTIZERS, ids=lambda values: values["type"])
def test_quantization_works_or_is_refused(
    quantization: dict[str, Any], random_pipeline: Path, plain: Image.Image
) -> None:
    result, refusal = attempt(editkit.load(str(random_pipeline), "cpu", quantization=quantization))
    if result is None:
        one_sentence(refusal)
        assert re.search("transformer|Config", refusal)
    else:
        assert 0 < difference(result, plain) < 128


@pytest.mark.parametrize("as_path", [True, False])
def test_a_native_file_gives_the_same_edit(
    as_path: bool, random_pipeline: Path, plain: Image.Image, tmp_path: Path
) -> None:
    from backbones.conversion.checkpoints import convert

    file = convert(random_pipeline / "transformer", tmp_path / "native.safetensors")
    chosen = file if as_path else str(file)
    editor = editkit.load(str(random_pipeline), "cpu", transformer=chosen, axes=(8, 12, 12))
    result = editor.edit(SOURCE, "make it blue", steps=4)
    assert result.image is not None
    assert result.image.tobytes() == plain.tobytes()
    assert result.recipe["weights"]["transformer"] == atomic_files.sha256(file)


def test_a_transformer_folder_is_used(random_pipeline: Path, plain: Image.Image, tmp_path: Path) -> None:
    """Other weights give another edit, and their hash is in the recipe."""
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel.from_pretrained(random_pipeline / "transformer")
    with torch.no_grad():
        transformer.proj_out.bias.add_(0.5)
    transformer.save_pretrained(tmp_path / "other")
    editor = editkit.load(random_pipeline, "cpu", transformer=str(tmp_path / "other"))
    result = editor.edit(SOURCE, "make it blue", steps=4)
    assert result.image is not None
    assert difference(result.image, plain) > 0
    (file,) = (tmp_path / "other").glob("*.safetensors")
    assert result.recipe["weights"]["transformer"] == atomic_files.sha256(file)
