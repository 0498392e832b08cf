"""Scoring under a rubric: behind an endpoint, and by models on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from editkit import judges
from editkit.errors import EditkitError
from editkit.judges.replies import Replies
from editkit.judges.rubrics import load_rubric
from editkit.judges.scoring import RubricScorer
from editkit.shapesworld.recipes import judge_model
from tests.judges.rubric_endpoint import Served, options, serving
from tests.judges.small import SMALL, WORDS
from tests.pictures import image


def good(text: str, number: int) -> str:
    if "naturalness" in text:
        return '{"reason": "clean", "naturalness": 9, "cleanness": 9}'
    return '{"reason": "blue", "success": 8, "restraint": 4}'


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(good) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision-language model with random weights."""
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("judge")
    model, processor = judge_model.create_model(judge_model.ModelConfig(**SMALL), ["answer", "attempt"])
    model.save_pretrained(made)
    processor.save_pretrained(made)
    return made


def pictures() -> dict[str, Image.Image]:
    return {"source": image(48, 32), "result": image(48, 32, 1)}


def scorer(folder: Path, name: str, chosen: dict[str, Any], passes: int = 1, rubric: str = "viescore") -> Any:
    return RubricScorer(
        judge=judges.load_judge(name, chosen),
        rubric=load_rubric(rubric),
        replies=Replies(folder / "replies"),
        passes=passes,
    )


def test_an_endpoint_scores(served: Served, tmp_path: Path) -> None:
    found = scorer(tmp_path, "openai", options(served)).score(pictures(), WORDS)
    assert found.values == {"sc": 4, "pq": 9, "overall": pytest.approx(6)}
    assert not found.problems
    kinds = [[part["type"] for part in body["messages"][0]["content"]] for body in served.asked]
    assert kinds == [["image_url"] * 2 + ["text"], ["image_url", "text"]]
    assert WORDS in served.texts[0]


def test_every_reply_is_kept_with_what_was_asked(served: Served, tmp_path: Path) -> None:
    found = scorer(tmp_path, "openai", options(served)).score(pictures(), WORDS)
    kept = json.loads((tmp_path / "replies" / f"{found.answers[0].key}.json").read_text())
    assert kept["reply"] == good("", 1)
    assert kept["model"] == "eyes-2026-01-01"
    assert kept["judge"]["model"] == "eyes"
    assert kept["question"] == served.texts[0]
    assert set(kept["pictures"]) == {"source", "result"}


def test_a_question_is_asked_once(served: Served, tmp_path: Path) -> None:
    """Replies are kept by content: another picture, instruction or model asks anew; the same does not."""
    one = scorer(tmp_path, "openai", options(served))
    first = one.score(pictures(), WORDS)
    assert scorer(tmp_path, "openai", options(served)).score(pictures(), WORDS) == first
    assert len(served.asked) == 2
    one.score(pictures(), "make it red")  # its quality does not depend on the instruction
    assert len(served.asked) == 3
    one.score({**pictures(), "result": image(48, 32, 2)}, WORDS)
    assert len(served.asked) == 5
    scorer(tmp_path, "openai", options(served, model="ears")).score(pictures(), WORDS)
    assert len(served.asked) == 7


def test_a_damaged_file_of_a_reply_is_asked_again(served: Served, tmp_path: Path) -> None:
    one = scorer(tmp_path, "openai", options(served))
    first = one.score(pictures(), WORDS)
    (tmp_path / "replies" / f"{first.answers[0].key}.json").write_text('{"reply"')
    assert one.score(pictures(), WORDS) == first
    assert len(served.asked) == 3


def test_passes_are_averaged(served: Served, tmp_path: Path) -> None:
    served.answer = lambda text, number: (
        "naturalness: 9 cleanness: 9" if "natural" in text else f"success: {number} restraint: 10"
    )
    found = scorer(tmp_path, "openai", options(served, temperature=0.7), passes=3).score(pictures(), WORDS)
    assert found.values["sc"] == 2  # 1, 2, 3
    assert found.values["overall"] == pytest.approx(18**0.5)
    assert len(found.answers) == len(served.asked) == 6


def test_unreadable_passes_are_counted_and_left_out(served: Served, tmp_path: Path) -> None:
    def half(text: str, number: int) -> str:
        return "Sorry, I cannot." if number == 1 else good(text, number)

    served.answer = half
    one = scorer(tmp_path, "openai", options(served, temperature=0.7), passes=2)
    found = one.score(pictures(), WORDS)
    assert found.values["sc"] == 4
    assert found.problems == {"unreadable reply": 1}
    assert not found.again
    assert one.score(pictures(), WORDS) == found  # kept rubbish is not asked again
    assert len(served.asked) == 4


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate limit"), (504, "time-out"), (401, "refusal"), (400, "refusal")]
)
def test_failures_have_names(served: Served, tmp_path: Path, status: int, kind: str) -> None:
    served.answer = lambda text, number: status
    one = scorer(tmp_path, "openai", options(served))
    found = one.score(pictures(), WORDS)
    assert found.values == {}
    assert found.problems == {kind: 2}
    assert found.again
    served.answer = good
    assert one.score(pictures(), WORDS).values["overall"] == pytest.approx(6)


def test_an_endpoint_that_is_slow_or_gone(served: Served, tmp_path: Path) -> None:
    import time

    def slow(text: str, number: int) -> str:
        time.sleep(0.4)
        return "success: 1"

    served.answer = slow
    chosen = options(served, timeout=0.1, retries=0)
    assert scorer(tmp_path, "openai", chosen).score(pictures(), WORDS).problems == {"time-out": 2}
    gone = {**chosen, "url": "http://127.0.0.1:9/v1"}
    assert scorer(tmp_path, "openai", gone).score(pictures(), WORDS).problems == {"no connection": 2}


def test_questions_without_their_pictures_are_not_asked(served: Served, tmp_path: Path) -> None:
    found = scorer(tmp_path, "openai", options(served)).score({"result": image(48, 32)}, WORDS)
    assert found.values == {"pq": 9}


def test_text_to_image_asks_for_typography_where_words_are_wanted(served: Served, tmp_path: Path) -> None:
    served.answer = lambda text, number: text.splitlines()[-1].replace("a number from 0 to 10", "7")
    one = scorer(tmp_path, "openai", options(served), rubric="text-to-image")
    plain = one.score({"result": image(48, 32)}, "a cat")
    assert plain.values == {"prompt_following": 7, "aesthetic": 7, "realism": 7}
    assert one.score({"result": image(48, 32)}, 'a sign "open"', words=True).values["typography"] == 7


def test_a_local_model_answers_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    """Random weights give rubbish, which is counted; what is checked is that asking works."""
    chosen = {"model": str(folder), "device": "cpu", "max_new_tokens": 4}
    one, two = (scorer(tmp_path / name, "qwen-vl", chosen) for name in "ab")
    found = one.score(pictures(), WORDS)
    assert found == two.score(pictures(), WORDS)
    assert found.problems == {"unreadable reply": 2}
    identity = one.judge.identity()
    assert identity["revision"].startswith("sha256 ")
    assert identity["temperature"] == 0


def test_a_local_model_draws_each_pass_from_its_own_seed(folder: Path, tmp_path: Path) -> None:
    chosen = {"model": str(folder), "device": "cpu", "max_new_tokens": 6, "temperature": 5.0}
    torch.manual_seed(1)
    one = scorer(tmp_path / "a", "qwen-vl", chosen, passes=3).score(pictures(), WORDS)
    torch.manual_seed(2)
    two = scorer(tmp_path / "b", "qwen-vl", chosen, passes=3).score(pictures(), WORDS)
    assert [answer.reply for answer in one.answers] == [answer.reply for answer in two.answers]
    assert len({answer.reply for answer in one.answers[:3]}) == 3


def test_a_lora_changes_a_local_model(folder: Path, tmp_path: Path) -> None:
    """A LoRA by PEFT is added; its replies and its revision are another judge's."""
    import peft
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(3)
    base = AutoModelForImageTextToText.from_pretrained(folder)
    wanted = peft.LoraConfig(
        r=4, lora_alpha=256, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    peft.get_peft_model(base, wanted).save_pretrained(tmp_path / "lora")
    chosen = {"model": str(folder), "device": "cpu", "max_new_tokens": 8, "temperature": 1.0}
    plain = judges.load_judge("qwen-vl", chosen)
    tuned = judges.load_judge("qwen-vl", {**chosen, "lora": str(tmp_path / "lora")})
    shown = list(pictures().values())
    assert plain.ask(WORDS, shown).text != tuned.ask(WORDS, shown).text
    assert tuned.identity()["lora revision"].startswith("sha256 ")
    assert plain.identity() != tuned.identity()


def test_loras_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    chosen = {"model": str(folder), "device": "cpu", "lora": str(tmp_path)}
    with pytest.raises(EditkitError, match=r"has no adapter_config\.json"):
        judges.load_judge("qwen-vl", chosen)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "target_modules": ["nowhere"], "r": 4})
    )
    (tmp_path / "adapter_model.bin").write_bytes(b"pickled")
    with pytest.raises(EditkitError, match=r"has no adapter_model\.safetensors"):
        judges.load_judge("qwen-vl", chosen)
    from safetensors.torch import save_file

    save_file({"base_model.model.x.lora_A.weight": torch.zeros(4, 4)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(EditkitError, match="does not fit its model"):
        judges.load_judge("qwen-vl", chosen)


@pytest.mark.parametrize("name", ["tiny", "preserve"])
def test_judges_of_pairs_say_so(name: str) -> None:
    with pytest.raises(EditkitError, match=f"'{name}' only compares pairs .* use qwen-vl or openai"):
        judges.check_rubric_judge(name, {}, 1)


def test_several_passes_need_a_temperature() -> None:
    with pytest.raises(EditkitError, match="3 passes would give one reply"):
        judges.check_rubric_judge("openai", {}, 3)
    judges.check_rubric_judge("openai", {"temperature": 0.7}, 3)
    judges.check_rubric_judge("openai", {"temperature": None}, 3)
