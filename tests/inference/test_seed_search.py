"""Seed search with any method, and the judge that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit.inference.progress import Progress
from editkit.judges import Case, Judge, Verdict
from editkit.judges.preserve import PreserveConfig, PreserveJudge
from tests.pictures import difference, image

WORDS = "make the red circle blue"


@pytest.fixture
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


class Prefers(Judge):
    """Prefers the brighter picture, or always the one in a place; `lead` where it tells how sure it is."""

    def __init__(self, place: str = "", leads: Sequence[float] = ()) -> None:
        self.place, self.leads, self.asked = place, leads, 0

    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        self.asked += 1
        bright = [sum(picture.convert("L").histogram()[128:]) for picture in (first, second)]
        better = self.place or ("first" if bright[0] >= bright[1] else "second")
        lead = self.leads[(self.asked - 1) % len(self.leads)] if self.leads else None
        return Verdict(better=better, reply="", seconds=0.0, lead=lead)


@pytest.fixture(params=editkit.methods(), ids=lambda record: record.name)
def method(request: pytest.FixtureRequest) -> str:
    return request.param.name


@pytest.mark.parametrize("mode", ["continue", "restart"])
def test_one_seed_is_a_plain_edit(editor: editkit.Editor, method: str, mode: str) -> None:
    plain = editor.edit(image(97, 61), WORDS, method, seed=5, steps=4)
    found = editor.edit(image(97, 61), WORDS, method, seed=5, steps=4, search={"seeds": 1, "mode": mode})
    assert found.image.tobytes() == plain.image.tobytes()
    assert found.seed == 5
    assert found.recipe == plain.recipe
    assert found.search.comparisons == ()


@pytest.mark.parametrize(("mode", "steps"), [("continue", 3 * 2 + 3), ("restart", 3 * 2 + 5)])
def test_the_winner_is_the_edit_of_its_seed(
    editor: editkit.Editor, method: str, mode: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editkit.inference.seed_search.load_judge", lambda name, options: Prefers())
    search = editkit.SeedSearch(seeds=3, mode=mode, preview_steps=2)
    found = editor.edit(image(97, 61), WORDS, method, seed=5, steps=5, search=search)
    report = found.search
    assert report.steps == steps
    rest = 3 if mode == "continue" else 5
    wanted = {str(seed): 2 + rest * (seed == found.seed) for seed in (5, 6, 7)}
    assert report.summary()["steps_by_seed"] == wanted
    assert found.timings["search"] > 0
    assert report.previews.keys() == {5, 6, 7}
    assert all(preview.size == (97, 61) for preview in report.previews.values())
    assert len(report.comparisons) == 2
    assert found.seed == report.seed == report.comparisons[-1].better
    plain = editor.edit(image(97, 61), WORDS, method, seed=found.seed, steps=5)
    assert difference(plain.image, found.image) <= 1
    brightest = max(
        report.previews, key=lambda seed: sum(report.previews[seed].convert("L").histogram()[128:])
    )
    assert found.seed == brightest


def test_a_judge_that_likes_a_place_says_nothing(
    editor: editkit.Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    biased = Prefers("second")
    monkeypatch.setattr("editkit.inference.seed_search.load_judge", lambda name, options: biased)
    found = editor.edit(image(64, 64), WORDS, seed=1, steps=2, search={"seeds": 3})
    assert found.seed == 1
    assert [comparison.better for comparison in found.search.comparisons] == [None, None]
    assert biased.asked == 4
    with pytest.warns(UserWarning, match="in one order only"):
        once = editor.edit(image(64, 64), WORDS, seed=1, steps=2, search={"seeds": 3, "both_orders": False})
    assert once.seed == 3
    assert any("in one order only" in note for note in once.notes)
    assert not any("in one order only" in note for note in found.notes)


@pytest.mark.parametrize(("leads", "seed"), [((2.0, 1.0), 1), ((1.0, 2.0), 2), ((1.5, 1.5), 1)])
def test_the_surer_answer_counts(
    editor: editkit.Editor, leads: tuple[float, float], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge says `first` in both orders, and is surer of one."""
    monkeypatch.setattr(
        "editkit.inference.seed_search.load_judge", lambda name, options: Prefers("first", leads)
    )
    found = editor.edit(image(64, 64), WORDS, seed=1, steps=2, search={"seeds": 2})
    assert found.seed == seed
    (told,) = found.search.summary()["comparisons"]
    assert told["leads"] == list(leads)
    assert told["better"] == (None if leads[0] == leads[1] else seed)


def test_contact_sheet(editor: editkit.Editor) -> None:
    found = editor.edit(image(64, 48), WORDS, steps=2, search={"seeds": 5})
    sheet = found.search.contact_sheet()
    assert sheet.width > 4 * 256, "previews of 64 pixels are shown four times as large"
    assert sheet.height > 2 * 192
    assert (50, 205, 50) in {color for _, color in sheet.getcolors(1 << 20)}


def test_preserve() -> None:
    source = image(96, 96)
    edited, worse = source.copy(), source.copy()
    edited.paste("blue", (20, 20, 60, 60))
    worse.paste("blue", (20, 20, 60, 60))
    worse = Image.blend(worse, Image.new("RGB", worse.size, "gray"), 0.05)
    judge, case = PreserveJudge(PreserveConfig()), Case(source=source, instruction=WORDS)
    assert judge.compare(case, edited, worse).better == "first"
    assert judge.compare(case, worse, edited).better == "second"
    assert judge.compare(case, edited, edited).better == ""
    assert judge.compare(case, edited, source).seen == (
        "the rest differs by 0.0 of 255 levels on average",
        "changed nothing",
    )
    inverted = Image.eval(source, lambda level: (level + 128) % 256)
    assert judge.compare(case, worse, inverted).seen[1] == "changed everything"
    assert judge.compare(case, source, worse).better == "second", "a copy of the source is no edit"


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"mode": "both"}, "mode must be continue or restart"),
        ({"judge": "preserve_"}, "did you mean 'preserve'"),
        ({"sedes": 3}, "Unknown key 'sedes'.*mean 'seeds'"),
        ({"preview_steps": 0}, "preview_steps must be at least 1"),
        ({"options": {"marign": 1}}, "mean 'margin'"),
        ({"judge": "openai"}, "set OPENAI_BASE_URL"),
        ("preserve", "give a SeedSearch or a dict"),
    ],
)
def test_bad_searches(
    editor: editkit.Editor, search: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(editkit.EditkitError, match=sentence):
        editor.edit(image(64, 64), WORDS, steps=1, search=search)


def test_nothing_to_preserve_in_text_to_image(editor: editkit.Editor) -> None:
    with pytest.raises(editkit.EditkitError, match="needs a source picture"):
        editor.edit(None, WORDS, steps=1, size=(64, 64), search={"seeds": 2})


def test_a_watcher_sees_each_step_and_can_end_the_edit(editor: editkit.Editor, method: str) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []

    def watch(progress: Progress) -> None:
        seen.append((progress.step, progress.steps, progress.seeds))
        assert [picture.size for picture in progress.preview()] == [(97, 61)] * len(progress.seeds)
        if len(seen) == 3 and seen[0][2] == (5,):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.edit(image(97, 61), WORDS, method, seed=5, steps=4, watch=watch)
    assert seen == [(1, 4, (5,)), (2, 4, (5,)), (3, 4, (5,))]
    seen.clear()
    search = {"seeds": 2, "preview_steps": 2}
    editor.edit(image(97, 61), WORDS, method, seed=5, steps=4, search=search, watch=watch)
    assert [step[:2] for step in seen] == [(1, 2), (2, 2), (3, 4), (4, 4)]
    assert [len(step[2]) for step in seen] == [2, 2, 1, 1]
