"""Training of the embedded judge."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import editkit
from editkit import config, judges, shapesworld
from editkit.judges import Case
from editkit.judges.vlm.local import VisionLanguageJudge
from editkit.shapesworld.judge_accuracy import attempts_accuracy, held_out
from editkit.shapesworld.recipes import judge as judge_recipe
from editkit.shapesworld.recipes import judge_attempts, judge_conversations, judge_model, judge_pairs
from editkit.train.loop import fit
from tests import ROOT
from tests.judges.small import SMALL, case
from tests.pictures import image


def test_pairs_are_fair() -> None:
    made = held_out(200, graded=False) + held_out(200, graded=True)
    assert {pair.task.kind for pair in made} == set(judge_pairs.KINDS)
    first = sum(pair.better == "first" for pair in made)
    assert 150 < first < 250
    assert all(0 <= attempt.quality <= 1 for pair in made for attempt in (pair.first, pair.second))
    for pair in made[:100]:
        assert not torch.equal(pair.first.picture(64), pair.second.picture(64))
    again = judge_pairs.pair(judge_pairs.task(7), 7, graded=True)
    assert torch.equal(
        again.first.picture(64), judge_pairs.pair(judge_pairs.task(7), 7, graded=True).first.picture(64)
    )


def test_open_instructions_have_several_right_answers() -> None:
    tasks = [judge_pairs.task(seed) for seed in range(300)]
    opened = [task for task in tasks if task.kind == judge_pairs.OPEN]
    assert opened
    for task in opened:
        right = {outcome.scene for outcome in task.outcomes if outcome.quality == judge_pairs.RIGHT}
        assert len(right) == 2
        assert not right & {outcome.scene for outcome in task.outcomes if outcome.quality < judge_pairs.RIGHT}


@pytest.fixture
def job() -> judge_recipe.JudgeJob:
    values = {"model": SMALL, "words": str(ROOT / "configs/tiny/words.txt")}
    return judge_recipe.JudgeJob(config.build(judge_recipe.JudgeTrainConfig, values))


def test_pictures_hold_whole_cells() -> None:
    with pytest.raises(editkit.EditkitError, match="multiple of ShapesWorld's 32 cells"):
        config.build(judge_recipe.JudgeTrainConfig, {"model": {"picture": 48}})


def test_training_asks_as_the_judge_does(job: judge_recipe.JudgeJob) -> None:
    """Tokens and pixels of a training sample are those that the processor makes of the same case."""
    index = next(index for index in range(50) if job._pair(index).task.source is not None)
    pair = job._pair(index)
    batch = job.batch([index])
    scenes = [pair.task.source, pair.first, pair.second]
    size = job.config.model.picture
    shown = [
        s.picture(size) if isinstance(s, judge_pairs.Attempt) else judge_pairs.drawn(s, size) for s in scenes
    ]
    content: list[dict[str, Any]] = [
        {"type": "image", "image": editkit.imaging.images.picture(pixels)} for pixels in shown
    ]
    content.append({"type": "text", "text": pair.task.instruction})
    inputs = job.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    assert torch.equal(batch.ids_BL[:, :length], inputs["input_ids"])
    assert (batch.pixels_NCHW - inputs["pixel_values"][0]).abs().max() < 0.01
    supervised = batch.reply_BL[0] != judge_recipe.SKIPPED
    assert job.processor.tokenizer.decode(batch.reply_BL[0][supervised]) == (
        f"{judge_conversations.drawn(pair, size).reply} {judge_model.END}"
    )
    assert supervised.nonzero()[0] == length - 1, "the answer follows the question at once"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> judge_attempts.Attempts:
    """What Kontext makes of eight held-out edits in a step, kept and read again."""
    chosen = judge_attempts.AttemptsConfig(
        method="kontext", edits=8, seeds=3, steps=(1,), cache=str(tmp_path_factory.mktemp("cache"))
    )
    first = judge_attempts.recorded(chosen, 64, start=0)
    (file,) = Path(chosen.cache).iterdir()
    written = file.stat().st_mtime_ns
    again = judge_attempts.recorded(chosen, 64, start=0)
    assert file.stat().st_mtime_ns == written
    assert torch.equal(first.pixels_ENCHW, again.pixels_ENCHW)
    return again


def test_attempts_are_measured() -> None:
    for seed in range(6):
        edit = judge_attempts.sampled(seed)
        assert edit.open == (seed % 2 == 0)
        for answer in edit.answers:
            marks, miss = judge_attempts.measured(edit, shapesworld.render(answer) / np.float32(255))
            assert (marks, miss) == ([9] * 6, 0)
        marks, miss = judge_attempts.measured(edit, shapesworld.render(edit.source) / np.float32(255))
        assert miss > 1
        assert min(marks) < 9 or "letter" in edit.instruction  # a few cells, too small a share of a slot


def test_an_example_of_attempts(made: judge_attempts.Attempts) -> None:
    assert made.pixels_ENCHW.shape == (8, 3, 3, 64, 64)
    assert not torch.equal(made.pixels_ENCHW[0, 0], made.pixels_ENCHW[0, 1])
    named = set()
    for number in range(40):
        example = made.example(number, random.Random(number))
        edit = judge_attempts.sampled(number % 8)
        assert example.instruction == edit.instruction
        assert torch.equal(example.pictures[0], judge_pairs.drawn(edit.source, 64))
        misses = []
        for picture in example.pictures[1:]:
            levels = (picture * 255).round().byte()
            seed = next(n for n in range(3) if torch.equal(levels, made.pixels_ENCHW[number % 8, n]))
            misses.append(float(made.misses_EN[number % 8, seed]))
        preferred = judge_attempts.better(*misses)
        assert example.reply.endswith(judge_model.BETTER[preferred])
        named.add(preferred)
    assert {"first", "second"} <= named


def test_attempts_are_judged(made: judge_attempts.Attempts) -> None:
    class Knowing(judges.Judge):
        """Knows the truth."""

        def compare(self, case: Case, first: Image.Image, second: Image.Image) -> judges.Verdict:
            edit = next(e for e in map(judge_attempts.sampled, range(8)) if e.instruction == case.instruction)
            misses = [
                judge_attempts.measured(edit, np.asarray(each.resize((128, 128)), np.float32) / 255)[1]
                for each in (first, second)
            ]
            return judges.Verdict(better="first" if misses[0] < misses[1] else "second", reply="", seconds=0)

    # The best and the worst attempt at each edit come first, since those two are compared.
    order_EN = made.misses_EN.argsort()[:, [0, -1]]
    edits_E1 = torch.arange(len(order_EN))[:, None]
    apart = replace(
        made, pixels_ENCHW=made.pixels_ENCHW[edits_E1, order_EN], misses_EN=made.misses_EN[edits_E1, order_EN]
    )
    found = attempts_accuracy(Knowing(), apart)
    assert found.steady == 1
    assert found.overall >= 0.75, "the pictures are judged at another size than they were measured at"


def test_training_takes_attempts_in(tmp_path: Path) -> None:
    values = {
        "model": SMALL,
        "words": str(ROOT / "configs/tiny/words.txt"),
        "attempts": {"method": "kontext", "edits": 2, "seeds": 2, "steps": [1], "cache": str(tmp_path)},
    }
    job = judge_recipe.JudgeJob(config.build(judge_recipe.JudgeTrainConfig, values))
    words = [job._example(index).instruction for index in range(30)]
    own = {judge_attempts.sampled(shapesworld.TRAINING_START + number).instruction for number in range(2)}
    assert 5 < sum(each in own for each in words) < 25
    assert job.batch(range(4)).pixels_NCHW.shape[1:] == (3, 64, 64)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 1}, "at least one edit and two seeds"),
        ({"steps": [0]}, "positive numbers"),
        ({"share": 0}, r"\(0, 1\]"),
    ],
)
def test_attempts_that_make_no_sense(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(editkit.EditkitError, match=said):
        config.build(judge_recipe.JudgeTrainConfig, {"attempts": wrong})


def test_recipe(tmp_path: Path) -> None:
    values = config.read_yaml(ROOT / "configs/tiny/judge.yaml") | {
        "model": SMALL,
        "compile": False,
        "attempts": {},
        "words": str(ROOT / "configs/tiny/words.txt"),
        "fit": {"output": str(tmp_path / "run"), "steps": 2, "batch": 3, "device": "cpu"},
    }
    settings = config.build(judge_recipe.CONFIG, values)
    made = judge_recipe.JOB(settings)
    before = {name: p.clone() for name, p in made.objective.named_parameters()}
    fit(made, settings.fit)
    assert all(not torch.equal(before[name], p) for name, p in made.objective.named_parameters())
    export = tmp_path / "run" / "export"
    for file in export.glob("*.json"):
        assert str(tmp_path) not in file.read_text()
    reloaded = judges.load_judge("tiny", {"model": str(export), "device": "cpu"})
    assert isinstance(reloaded, VisionLanguageJudge)
    for name, weight in reloaded._model.state_dict().items():
        assert torch.equal(weight, made.model.state_dict()[name].bfloat16().float()), name
    assert reloaded.compare(case(), image(64, 64, 1), image(64, 64, 2)).seconds > 0

    # From there on.
    again = judge_recipe.JOB(config.build(judge_recipe.CONFIG, values | {"start": str(export)}))
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, reloaded._model.state_dict()[name].float()), name
    (tmp_path / "more.txt").write_text((ROOT / "configs/tiny/words.txt").read_text() + "unicorn\n")
    for changed, said in (
        ({"start": str(tmp_path)}, "holds no judge"),
        ({"model": SMALL | {"layers": 2}}, "other words or layers"),
        ({"model": SMALL | {"width": 64}}, "no judge of these sizes"),
        ({"words": str(tmp_path / "more.txt")}, "no judge of these sizes|other words"),
    ):
        with pytest.raises(editkit.EditkitError, match=said):
            judge_recipe.JOB(config.build(judge_recipe.CONFIG, values | {"start": str(export)} | changed))


def test_held_out_seeds_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    task = judge_pairs.task
    monkeypatch.setattr(judge_pairs, "task", lambda seed: seeds.append(seed) or task(seed))
    values = config.read_yaml(ROOT / "configs/tiny/judge.yaml") | {
        "attempts": {},
        "compile": False,
        "model": SMALL,
    }
    values["words"] = str(ROOT / "configs/tiny/words.txt")
    judge_recipe.JOB(config.build(judge_recipe.CONFIG, values)).batch(range(24))
    assert len(seeds) == 24
    assert not set(seeds) & set(shapesworld.HELD_OUT)
    with pytest.raises(ValueError, match="n must lie in"):
        held_out(len(shapesworld.HELD_OUT), graded=True)
