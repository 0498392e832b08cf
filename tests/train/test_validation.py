"""Held-out edits on the way, and the best weights."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editkit import EditkitError, adapters, config
from editkit.errors import EditkitWarning
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from editkit.train.stopping import RunStoppedError
from editkit.train.validation import error
from tests.pictures import image
from tests.train.runs import assert_same, train


def test_it_looks_at_held_out_edits_on_the_way(settings: Any) -> None:
    overrides = (
        "fit.validate_every=1",
        "validation.examples=2",
        "validation.success=3",
        "validation.steps=1",
    )
    job, output = train(settings("run", "fit.steps=2", *overrides, trainable="lora"))
    told = [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told] == [1, 2]
    assert all(line["held-out loss"] > 0 and 0 <= line["success"] <= 1 for line in told)
    assert {path.name for path in (output / "validation").iterdir()} == {
        "step-0000001.png",
        "step-0000002.png",
    }
    assert (output / "best" / adapters.FILE).is_file()
    # It changes nothing of the run, nor of the transformer's adapters.
    _, plain = train(settings("plain", "fit.steps=2", trainable="lora"))
    assert_same(output / "checkpoint-0000002", plain / "checkpoint-0000002")
    assert list(adapters.active(job.backbone.transformer("kontext"))) == ["default"]
    assert list((output / "tracked").glob("events.out.tfevents*"))


def test_a_student_of_few_steps_is_validated_by_its_edits(settings: Any) -> None:
    """In its own number of steps, by their error: the flow's loss is not what it lowers."""
    distill = ("distill.progressive={steps: 2, teacher_steps: 4}", "validation.examples=2")
    plain = asdict(settings("run", "fit.validate_every=1", trainable="lora"))
    chosen = config.build(EditTrainConfig, plain | {"fresh": {}, "backbone": "tiny"}, distill)
    validation = EditJob(chosen)._validation
    assert validation is not None
    (request, _) = (validation._request(record, 0) for record in validation.records)
    assert (request.steps, request.guidance) == (2, 1.0)
    figures = validation(1, None)
    assert list(figures) == ["error of edits"]
    answers = [Image.fromarray(record.answer) for record in validation.records]
    assert error(answers, validation.records) == 0 < figures["error of edits"]


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
    with (
        pytest.warns(EditkitWarning, match="validation is left out"),
        pytest.raises(EditkitError, match="None of the validation's records"),
    ):
        EditJob(chosen)
    assert not (tmp_path / "unused").exists(), "the training data were encoded first"
    with pytest.warns(EditkitWarning, match="validation is left out"):
        job = EditJob(looking(settings, pairs(tmp_path, RECORD, RECORD | {"source": "none.png"})))
    assert len(job._validation.records) == 1


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


def test_a_validation_that_was_cut_off_is_made_up_for(settings: Any) -> None:
    """A resumed run has the figures and the best weights of the uninterrupted one."""

    def run(*signals: int, steps: int, resume: str = "null") -> Path:
        overrides = (f"fit.steps={steps}", f"fit.resume={resume}", "fit.validate_every=2", "fit.save_every=2")
        chosen = settings("run", *overrides, "validation.examples=1", trainable="lora")
        job, left = EditJob(chosen), list(signals)

        def validate(step: int, folder: Path | None) -> dict[str, float]:
            if left:
                signal.raise_signal(left.pop())
            return {"held-out loss": float(step)}

        job.validate = validate
        fit(job, chosen.fit)
        return Path(chosen.fit.output)

    with pytest.raises(RunStoppedError, match="after step 2 and saved"):
        run(signal.SIGTERM, steps=4)
    output = run(steps=4, resume="latest")
    told = [json.loads(line)["step"] for line in (output / "validation.jsonl").read_text().splitlines()]
    assert told == [2, 4]
    best, last = (load_file(output / name / adapters.FILE) for name in ("best", "export"))
    assert not all(torch.equal(best[name], last[name]) for name in last)
