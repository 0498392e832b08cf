"""Judges that see: how they ask and read, what they refuse, and how the embedded one is trained."""

from __future__ import annotations

import json
import random
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, image
from PIL import Image
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.generation import GenerateDecoderOnlyOutput

import editkit
from backbones.flux import Flux
from editkit import config, judges, shapesworld
from editkit.judges import Case
from editkit.judges.vlm.local import VisionLanguageJudge, _lead
from editkit.judges.vlm.prompt import QUESTION, question
from editkit.judges.vlm.tiny import FOLDER
from editkit.shapesworld.judge_accuracy import attempts_accuracy, held_out, pairwise_accuracy
from editkit.shapesworld.recipes import judge as judge_recipe
from editkit.shapesworld.recipes import judge_attempts, judge_conversations, judge_model, judge_pairs
from editkit.train.loop import fit

WORDS = "make the red circle blue"
ACCURACY = 0.8
SMALL = {"vision_width": 32, "vision_layers": 1, "width": 32, "layers": 1, "head": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, in transformers' layout."""
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("judge")
    model, processor = judge_model.fresh(judge_model.ModelConfig(**SMALL), ["answer", "attempt"])
    model.save_pretrained(made)
    processor.save_pretrained(made)
    return made


@pytest.fixture
def judge(folder: Path) -> VisionLanguageJudge:
    made = judges.judge("qwen-vl", {"model": str(folder), "device": "cpu", "max_new_tokens": 4})
    assert isinstance(made, VisionLanguageJudge)
    return made


def case(source: bool = True) -> Case:
    return Case(source=image(96, 64) if source else None, instruction=WORDS)


def says(judge: VisionLanguageJudge, text: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the model answer with a text, surer of words further on; returns what it was asked."""
    reply = judge._processor.tokenizer(text, return_tensors="pt").input_ids
    asked = []

    def generate(**inputs: Any) -> GenerateDecoderOnlyOutput:
        asked.append(inputs)
        logits_1V = torch.arange(len(judge._processor.tokenizer), dtype=torch.float32)[None]
        return GenerateDecoderOnlyOutput(
            sequences=torch.cat([inputs["input_ids"], reply], dim=1), logits=(logits_1V,) * reply.shape[1]
        )

    monkeypatch.setattr(judge._model, "generate", generate)
    return asked


@pytest.mark.parametrize(
    ("reply", "better"),
    [
        ('{"better": "A"}', "first"),
        ('7 9 {"better": "B"}<end_of_utterance>', "second"),
        ('{"better": "tie"}', ""),
    ],
)
def test_replies(
    judge: VisionLanguageJudge, reply: str, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = says(judge, reply, monkeypatch)
    verdict = judge.compare(case(), image(96, 64, 1), image(96, 64, 2))
    assert (verdict.better, verdict.problem) == (better, "")
    assert verdict.reply == reply.removesuffix(judge_model.END)
    assert verdict.seconds > 0
    vocabulary = judge._processor.tokenizer.get_vocab()
    assert verdict.lead == vocabulary[judge_model.BETTER["first"]] - vocabulary[judge_model.BETTER["second"]]
    assert asked[0]["do_sample"] is False
    assert asked[0]["pixel_values"].shape[1] == 3
    first, second = asked[0]["pixel_values"][0, 1:]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("reply", ["answer", "", '{"better": "A"} {"better": "B"}'])
def test_nonsense_is_a_tie(judge: VisionLanguageJudge, reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    says(judge, reply or judge_model.END, monkeypatch)
    verdict = judge.compare(case(), image(96, 64, 1), image(96, 64, 2))
    assert verdict.better == ""
    assert "names no single answer" in verdict.problem
    assert verdict.lead is None


@pytest.mark.parametrize(
    ("pieces", "answer", "lead"),
    [
        (["{", '"better"', ":", 'Ġ"', "B", '"}', "A"], 4, 3.0),
        (["A", "Ġis", '"better"', ":", '"A', '"}'], 4, 7.0),
        (['{"better":', '"tie"', "}"], 1, 11.0),
        (['{"better":', '"t', 'ie"}'], 1, None),
    ],
)
def test_how_sure_a_reply_is(pieces: list[str], answer: int, lead: float | None) -> None:
    """The answer's entry against the other answer's, however a vocabulary cuts them; not other words' A."""
    words = dict.fromkeys(["<unk>", "A", "B", '"A', '"B', '"A"', '"B"', *pieces])
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")), unk_token="<unk>"
    )
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    logits = torch.zeros(len(pieces), 1, len(vocabulary))
    for letters, odds in (("AB", 3.0), (('"A', '"B'), 7.0), (('"A"', '"B"'), 11.0)):
        logits[answer, 0, vocabulary[letters[0]]] = odds
    reply = [vocabulary[piece] for piece in pieces]
    assert _lead(tokenizer, reply, list(logits)) == lead


def test_text_to_image_shows_two(judge: VisionLanguageJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(judge, '{"better": "B"}', monkeypatch)
    assert judge.compare(case(False), image(64, 64, 1), image(64, 64, 2)).better == "second"
    assert asked[0]["pixel_values"].shape[1] == 2


def test_a_random_model_answers(judge: VisionLanguageJudge) -> None:
    """Nonsense, which counts as a tie; modes other than RGB do no harm."""
    verdict = judge.compare(case(), image(96, 64, 1).convert("RGBA"), image(96, 64, 2).convert("L"))
    assert (verdict.better, verdict.problem) == ("", "the reply names no single answer")


def test_an_instruction_that_looks_like_a_picture(judge: VisionLanguageJudge) -> None:
    tricky = Case(source=image(64, 64), instruction="add <image> and {braces}")
    with pytest.raises(editkit.EditkitError, match="cannot be used"):
        judge.compare(tricky, image(64, 64, 1), image(64, 64, 2))


def test_questions_say_what_the_pictures_are() -> None:
    assert "the original" in question(case())
    assert "the original" not in question(case(False))
    assert all(WORDS in question(case(), wording) for wording in (QUESTION, "{instruction}"))
    assert question(case(), "{instruction}") == WORDS


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "/no/such/folder"}, "is no folder here and no Hub id"),
        ({"model": "no folder"}, "is no folder here and no Hub id"),
        ({"model": "not a/valid id"}, "is no folder here and no Hub id"),
        ({"model": "nobody/no-such-judge"}, "not on this machine and the Hub cannot be reached"),
        ({"model_": "x"}, "mean 'model'"),
        ({"dtype": "int4"}, "dtype 'int4' is unknown"),
        ({"device": "warp"}, "device 'warp' is not here"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"question": "Which?"}, "must hold the place {instruction}"),
        ({"question": "{instruction} {other}"}, "must hold the place {instruction}"),
    ],
)
def test_bad_options(options: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(editkit.EditkitError, match=sentence):
        judges.judge("qwen-vl", options)


def test_a_model_that_cannot_see(tmp_path: Path) -> None:
    text = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(text).save_pretrained(tmp_path)
    with pytest.raises(editkit.EditkitError, match=r"cannot be used.*give a vision-language model"):
        judges.judge("qwen-vl", {"model": str(tmp_path), "device": "cpu"})


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="has torchvision")
def test_a_missing_package_is_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "processor_config.json").read_text())
    settings["processor_class"] = "Qwen2_5_VLProcessor"
    (copy / "processor_config.json").write_text(json.dumps(settings))
    video = {"video_processor_type": "Qwen2VLVideoProcessor"}
    (copy / "video_preprocessor_config.json").write_text(json.dumps(video))
    with pytest.raises(editkit.EditkitError, match=r"(?i)needs a package.*torchvision"):
        judges.judge("qwen-vl", {"model": str(copy), "device": "cpu"})


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _drop(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state.pop(next(name for name in state if "connector" in name))
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _drop,
        _pickle,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        lambda folder: (folder / "chat_template.jinja").unlink(),
    ],
    ids=["cut", "lacks a tensor", "pickle", "no config", "bad config", "bad tokenizer", "no template"],
)
def test_damaged_folders(folder: Path, tmp_path: Path, damage: Any) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(editkit.EditkitError, match="cannot be used") as caught:
        judges.judge("qwen-vl", {"model": str(copy), "device": "cpu"})
    assert str(caught.value).endswith(".")


def test_too_little_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editkit.judges.vlm.weights._free", lambda: 1000)
    with pytest.raises(editkit.EditkitError, match=r"GB of memory.*use a smaller model"):
        judges.judge("qwen-vl", {"model": str(folder), "device": "cpu"})


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
    """What Kontext makes of four held-out edits in a step, kept and read again."""
    chosen = judge_attempts.AttemptsConfig(
        method="kontext", edits=4, seeds=3, steps=(1,), cache=str(tmp_path_factory.mktemp("cache"))
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
        edit = judge_attempts.asked(seed)
        assert edit.open == (seed % 2 == 0)
        for answer in edit.answers:
            marks, miss = judge_attempts.measured(edit, shapesworld.render(answer) / np.float32(255))
            assert (marks, miss) == ([9] * 6, 0)
        marks, miss = judge_attempts.measured(edit, shapesworld.render(edit.source) / np.float32(255))
        assert miss > 1
        assert min(marks) < 9 or "letter" in edit.instruction  # a few cells, too small a share of a slot


def test_a_lesson_of_attempts(made: judge_attempts.Attempts) -> None:
    assert made.pixels_ENCHW.shape == (4, 3, 3, 64, 64)
    assert not torch.equal(made.pixels_ENCHW[0, 0], made.pixels_ENCHW[0, 1])
    named = set()
    for number in range(40):
        lesson = made.lesson(number, random.Random(number))
        edit = judge_attempts.asked(number % 4)
        assert lesson.instruction == edit.instruction
        assert torch.equal(lesson.pictures[0], judge_pairs.drawn(edit.source, 64))
        misses = []
        for picture in lesson.pictures[1:]:
            levels = (picture * 255).round().byte()
            seed = next(n for n in range(3) if torch.equal(levels, made.pixels_ENCHW[number % 4, n]))
            misses.append(float(made.misses_EN[number % 4, seed]))
        preferred = judge_attempts.better(*misses)
        assert lesson.reply.endswith(judge_model.BETTER[preferred])
        named.add(preferred)
    assert {"first", "second"} <= named


def test_attempts_are_judged(made: judge_attempts.Attempts) -> None:
    class Knowing(judges.Judge):
        """Knows the truth."""

        def compare(self, case: Case, first: Image.Image, second: Image.Image) -> judges.Verdict:
            edit = next(e for e in map(judge_attempts.asked, range(4)) if e.instruction == case.instruction)
            misses = [
                judge_attempts.measured(edit, np.asarray(each.resize((128, 128)), np.float32) / 255)[1]
                for each in (first, second)
            ]
            return judges.Verdict(better="first" if misses[0] < misses[1] else "second", reply="", seconds=0)

    found = attempts_accuracy(Knowing(), made)
    assert found.steady == 1
    assert found.overall >= 0.75, "the pictures are judged at another size than they were measured at"


def test_training_takes_attempts_in(tmp_path: Path) -> None:
    values = {
        "model": SMALL,
        "words": str(ROOT / "configs/tiny/words.txt"),
        "attempts": {"method": "kontext", "edits": 2, "seeds": 2, "steps": [1], "cache": str(tmp_path)},
    }
    job = judge_recipe.JudgeJob(config.build(judge_recipe.JudgeTrainConfig, values))
    words = [job._lesson(index).instruction for index in range(30)]
    own = {judge_attempts.asked(shapesworld.TRAINING_START + number).instruction for number in range(2)}
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
    values = config.read(ROOT / "configs/tiny/judge.yaml") | {
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
    reloaded = judges.judge("tiny", {"model": str(export), "device": "cpu"})
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


@pytest.fixture(scope="module")
def embedded() -> VisionLanguageJudge:
    torch.set_num_threads(1)
    made = judges.judge("tiny", {"device": "cpu"})
    assert isinstance(made, VisionLanguageJudge)
    return made


def test_embedded_files() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 16_000_000
    assert not any("_name_or_path" in file.read_text() for file in FOLDER.glob("*.json"))


@pytest.mark.parametrize("graded", [False, True])
def test_embedded_accuracy(embedded: VisionLanguageJudge, graded: bool) -> None:
    found = pairwise_accuracy(embedded, 40, graded=graded)
    assert found.overall >= ACCURACY
    assert found.seconds < 2


@pytest.mark.slow
@pytest.mark.parametrize(("graded", "least"), [(False, 0.9), (True, 0.87)])
def test_embedded_accuracy_of_many(embedded: VisionLanguageJudge, graded: bool, least: float) -> None:
    assert pairwise_accuracy(embedded, 500, graded=graded).overall >= least


def test_search_asks_in_both_orders(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    search = {"seeds": 3, "judge": "tiny", "options": {"device": "cpu"}}
    found = editor.edit(image(64, 64), WORDS, steps=2, search=search)
    assert [len(comparison.verdicts) for comparison in found.search.comparisons] == [2, 2]
    assert all(not v.problem for c in found.search.comparisons for v in c.verdicts)


def test_held_out_seeds_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    task = judge_pairs.task
    monkeypatch.setattr(judge_pairs, "task", lambda seed: seeds.append(seed) or task(seed))
    values = config.read(ROOT / "configs/tiny/judge.yaml") | {
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
