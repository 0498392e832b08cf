"""Surface: every shipped run is planned for flux1-dev, and runs from end to end on a sample with tiny."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit import api, config
from editkit.errors import EditkitError
from editkit.evaluation import runner
from editkit.evaluation.report import files, frame
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig, Variant
from editkit.inference import provenance
from tests import ROOT
from tests.command_line import Cli
from tests.evaluation import samples
from tests.evaluation.finished import quiet
from tests.judges.rubric_endpoint import options, serving

SHIPPED = sorted((ROOT / "configs" / "evaluation").glob("*.yaml"))
PLANNED = [
    pytest.param(path, marks=[] if path.stem == "icedit-table-3" else pytest.mark.slow) for path in SHIPPED
]


def named(path: Path) -> str:
    return path.stem


def answer(text: str, number: int) -> str:
    """A reply that every shipped rubric can read."""
    return '{"reason": "fine", "success": 1, "restraint": 4, "naturalness": 9, "cleanness": 9}'


@pytest.fixture(scope="module")
def tiny() -> Any:
    return api.load("tiny", "cpu")


def sampled(path: Path, folder: Path) -> RunConfig:
    """A shipped run on a sample of its data."""
    settings = config.build(RunConfig, config.read_yaml(path))
    data = samples.PUBLISHED[settings.benchmark](folder / "data")
    return replace(settings, data=str(data), out=str(folder / "run"))


def trained(variant: Variant) -> Variant:
    """A variant whose adapter is to be trained by its reader, with the embedded one instead."""
    adapter = variant.options.get("adapter") or ""
    return replace(variant, options={**variant.options, "adapter": "moe"}) if "/" in adapter else variant


@pytest.mark.parametrize("path", PLANNED, ids=named)
def test_planned_for_flux(path: Path, tmp_path: Path, cli: Cli) -> None:
    settings = sampled(path, tmp_path)
    told = cli("eval", "run", path, "--data", settings.data, "--dry-run", "--on", "h100-80g")
    assert told.status == 0
    lines = {line.split()[0]: line.split()[1:] for line in told.out.splitlines()[1:] if line.strip()}
    for method in settings.methods:
        items, passes, operations, hours = lines[method]
        assert int(passes) == 28 * int(items)
        assert float(operations) > 1e13
        assert float(hours) > 0
    questions = int(items) * len(settings.methods) * (2 if settings.judge.get("rubric") == "viescore" else 1)
    assert (f"judge: at most {questions} questions" in told.out) == bool(settings.judge)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_runs_on_a_sample_with_tiny(path: Path, tmp_path: Path, tiny: Any) -> None:
    """About six edits each, with a judge at an endpoint of this machine."""
    settings = sampled(path, tmp_path)
    settings = replace(settings, limit=max(1, 6 // len(settings.methods)))
    variants = {name: trained(variant) for name, variant in settings.variants.items()}
    settings = replace(settings, backbone="tiny", steps=1, variants=variants)
    with serving(answer) as served:
        if settings.judge:
            settings = replace(settings, judge={**settings.judge, "options": options(served)})
        folder = runner.run(runner.prepare(settings), lambda: tiny, quiet)
    found = frame.read_frame(folder)
    assert found.methods == settings.methods
    assert all(row.error is None and row.values["steps"] == 1 for row in found.rows)
    judged = {"success": "judge_success", "viescore": "overall"}
    if settings.judge:
        assert all(judged[settings.judge["rubric"]] in row.values for row in found.rows)
    assert (tmp_path / "run" / "report.html") in files.write(folder.path)


def test_rows_of_an_ablation_differ(tmp_path: Path, tiny: Any) -> None:
    """Each row of ICEdit's Table 3 has the adapter and the prompt that it is called by."""
    settings = sampled(ROOT / "configs" / "evaluation" / "icedit-table-3.yaml", tmp_path)
    rows = ["free-bare", "free", "lora", "moe-bare", "moe"]
    settings = replace(settings, backbone="tiny", steps=1, methods=rows, judge={}, metrics=["cost"], limit=1)
    folder = runner.run(runner.prepare(settings), lambda: tiny, quiet)
    recipes = {}
    for (row, _), edit in folder.edits().items():
        recipes[row] = provenance.read_recipe(folder.path / edit.picture)["options"]
    assert {row: (made["adapter"], made["template"]) for row, made in recipes.items()} == {
        "free-bare": (None, "none"),
        "free": (None, "released"),
        "lora": ("lora", "released"),
        "moe-bare": ("moe", "none"),
        "moe": ("moe", "released"),
    }
    pictures = [np.asarray(Image.open(folder.path / edit.picture)) for edit in folder.edits().values()]
    assert len({picture.tobytes() for picture in pictures}) == len(rows)


def test_a_missing_adapter_ends_a_run_before_its_first_edit(tmp_path: Path, tiny: Any) -> None:
    settings = sampled(ROOT / "configs" / "evaluation" / "icedit-table-3.yaml", tmp_path)
    settings = replace(settings, backbone="tiny", judge={}, metrics=["cost"])
    with pytest.raises(EditkitError, match="out/flux1-dev/icedit-only-moe/export is neither"):
        runner.run(runner.prepare(settings), lambda: tiny, quiet)
    assert not RunFolder(tmp_path / "run").edits()


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (Variant(method="icedt"), "did you mean 'icedit'"),
        (Variant(method="icedit", options={"adaptr": None}), "did you mean 'adapter'"),
    ],
)
def test_a_wrong_variant_is_refused(variant: Variant, words: str, tmp_path: Path) -> None:
    settings = RunConfig(
        benchmark="shapesworld", methods=["mine"], variants={"mine": variant}, out=str(tmp_path / "run")
    )
    with pytest.raises(EditkitError, match=words):
        runner.prepare(settings)
