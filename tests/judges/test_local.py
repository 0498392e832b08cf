"""Judges that see: how they ask and read, and what they refuse."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.generation import GenerateDecoderOnlyOutput

import editkit
from editkit import judges
from editkit.judges import Case
from editkit.judges.vlm.local import VisionLanguageJudge, _lead
from editkit.judges.vlm.prompt import QUESTION, question
from editkit.shapesworld.recipes import judge_model
from tests.judges.small import SMALL, WORDS, case
from tests.pictures import image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, in transformers' layout."""
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("judge")
    model, processor = judge_model.create_model(judge_model.ModelConfig(**SMALL), ["answer", "attempt"])
    model.save_pretrained(made)
    processor.save_pretrained(made)
    return made


@pytest.fixture
def judge(folder: Path) -> VisionLanguageJudge:
    made = judges.load_judge("qwen-vl", {"model": str(folder), "device": "cpu", "max_new_tokens": 4})
    assert isinstance(made, VisionLanguageJudge)
    return made


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
        judges.load_judge("qwen-vl", options)


def test_a_model_that_cannot_see(tmp_path: Path) -> None:
    text = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(text).save_pretrained(tmp_path)
    with pytest.raises(editkit.EditkitError, match=r"cannot be used.*give a vision-language model"):
        judges.load_judge("qwen-vl", {"model": str(tmp_path), "device": "cpu"})


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
        judges.load_judge("qwen-vl", {"model": str(copy), "device": "cpu"})


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
        judges.load_judge("qwen-vl", {"model": str(copy), "device": "cpu"})
    assert str(caught.value).endswith(".")


def test_too_little_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editkit.judges.vlm.weights._free", lambda: 1000)
    with pytest.raises(editkit.EditkitError, match=r"GB of memory.*use a smaller model"):
        judges.load_judge("qwen-vl", {"model": str(folder), "device": "cpu"})
