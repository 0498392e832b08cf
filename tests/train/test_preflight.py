"""Sentences before a run begins."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError, config, notes
from editkit.data.records import DataConfig
from editkit.train.finetune import EditJob
from editkit.train.preflight import check_run, check_settings
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.command_line import one_sentence
from tests.pictures import image

SHIPPED = sorted((ROOT / "configs" / "flux1-dev").glob("*.yaml"))


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
        check_run(settings("run", override).fit)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_need_ones_own_pairs_and_nothing_else(path: Path, tmp_path: Path) -> None:
    """As the guide says: data.path is enough, until the run validates."""
    (tmp_path / "pairs").mkdir()
    values = config.read_yaml(path)
    datasets = ("data", *(f"mixture.{name}.data" for name in values.get("mixture", {})))
    own = [f"{name}={{name: folders, path: {tmp_path / 'pairs'}}}" for name in datasets]
    settings = config.build(EditTrainConfig, values, [*own, f"fit.output={tmp_path / 'run'}"])
    check_settings(settings)
    missing = dataclasses.replace(settings, data=dataclasses.replace(settings.data, path="nowhere"))
    with pytest.raises(EditkitError, match=r"nowhere do not exist; check data\.path"):
        check_settings(missing)
    rows = dataclasses.replace(settings, data=dataclasses.replace(settings.data, name="jsonl"))
    with pytest.raises(EditkitError, match=r"reads a file; give data\.name=folders, or the file"):
        check_settings(rows)


def test_held_out_pairs_that_no_run_looks_at_are_told(tmp_path: Path) -> None:
    held_out = (f"validation.data={{name: folders, path: {tmp_path}}}", f"fit.output={tmp_path / 'run'}")
    for more, told in (((), 1), (("fit.validate_every=5",), 0)):
        with notes.collected() as collected:
            check_settings(config.build(EditTrainConfig, {}, (*held_out, *more)))
        assert len(collected) == told


@pytest.mark.parametrize(
    ("optim", "told"),
    [
        ("name=prodigy", "a factor on the rate that prodigy finds"),
        ("name=adamw8bit,lr=1.0", "very high for adamw8bit"),
        ("name=prodigy,lr=1.0", None),
        ("lr=3e-3", None),
    ],
)
def test_a_rate_for_another_optimizer_is_told(optim: str, told: str | None, tmp_path: Path) -> None:
    overrides = [f"fit.optim.{each}" for each in optim.split(",")]
    with notes.collected() as collected:
        check_settings(config.build(EditTrainConfig, {}, (f"fit.output={tmp_path / 'run'}", *overrides)))
    assert len(collected) == (told is not None)
    assert told is None or told in collected[0]


def test_a_held_out_path_is_told_by_its_own_name(tmp_path: Path) -> None:
    held_out = "validation.data={name: folders, path: nowhere}"
    with pytest.raises(EditkitError, match=r"check validation\.data\.path"):
        check_settings(config.build(EditTrainConfig, {}, (held_out, f"fit.output={tmp_path / 'run'}")))
    validating = ("validation.data={name: folders}", "fit.validate_every=5", f"fit.output={tmp_path / 'run'}")
    with pytest.raises(EditkitError, match=r"needs validation\.data\.path"):
        check_settings(config.build(EditTrainConfig, {}, validating))


PAIRS = {"name": "jsonl", "path": "pairs.jsonl"}


@pytest.mark.parametrize(
    ("overrides", "data", "problem"),
    [
        (
            ("method=icedit",),
            {"name": "shapesworld masked", "kinds": {"local reference": 1}},
            "no references",
        ),
        (("method=icedit",), {"kinds": {"caption": 1}}, "edits a picture and none was given"),
        (("method=icedit", "options={framework: text}"), {}, "cannot be trained"),
        (("method=aceplus",), PAIRS, "needs references for the task subject"),
        (("mixture.more.data={kinds: {repaint: 1}}",), {}, "has no kind 'repaint'; it has"),
        (("fit.validate_every=2", "validation.data={kinds: {repaint: 1}}"), {}, "has no kind 'repaint'"),
    ],
)
def test_data_that_do_not_suit_are_told_before_weights_are_loaded(
    settings: Any,
    overrides: tuple[str, ...],
    data: dict[str, Any],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"source": "a.png", "answer": "a.png", "instruction": "the same cat in snow", "task": "subject"}
    image(32, 32).save("a.png")
    Path("pairs.jsonl").write_text(json.dumps(row))
    chosen = settings("run", *overrides)
    chosen = dataclasses.replace(
        chosen, data=DataConfig(**data), backbone="nothing of the kind", fresh={}, cache=str(tmp_path)
    )
    with pytest.raises(EditkitError, match=problem) as refusal:
        EditJob(chosen)
    one_sentence(str(refusal.value))
