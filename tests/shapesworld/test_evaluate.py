"""Behaviour: what the shipped weights do on held-out scenes; bars lie below what docs/tiny.md reports."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import editkit
from editkit import shapesworld as world
from editkit.backbone import Backbone
from editkit.cli.evaluate import edits_table
from editkit.shapesworld import evaluate, evaluate_masked

FEW, DIPTYCHS, SESSIONS, STEPS = 20, 12, 1, 4
"""As many edits in half the default's steps, which score alike."""
KONTEXT, CEILING, ICEDIT = 0.65, 0.93, 0.35
LOCAL, FULL, RECOLOURED, REFERENCED = 0.5, 0.3, 0.6, 0.4


@pytest.fixture(scope="module")
def editor(tiny: Backbone) -> editkit.Editor:
    return editkit.Editor(tiny)


@pytest.fixture(scope="module")
def report(editor: editkit.Editor) -> dict[str, Any]:
    return evaluate.evaluate(editor, "kontext", n=FEW, sessions=SESSIONS, compound=2, steps=STEPS)


def test_edits_succeed_on_held_out_scenes(report: dict[str, Any]) -> None:
    assert report["overall"]["success"] >= KONTEXT


def test_the_autoencoder_leaves_room(report: dict[str, Any]) -> None:
    assert report["overall"]["ceiling"] >= CEILING
    assert report["compound"]["ceiling"] == 1


def test_copying_the_source_is_no_edit(report: dict[str, Any]) -> None:
    assert report["overall"]["copy"] <= 0.05


def test_untouched_pixels_stay_over_five_turns(report: dict[str, Any]) -> None:
    assert len(report["sessions"]["drift"]) == 5
    assert report["sessions"]["drift"][-1] <= 0.06


def icedit(tiny: Backbone, n: int = FEW, **options: Any) -> float:
    """Success of ICEdit on the first few held-out examples."""
    editor = editkit.Editor(tiny, {"icedit": options})
    found: float = evaluate.evaluate(editor, "icedit", n=n, steps=STEPS)["overall"]["success"]
    return found


def test_icedit_edits(tiny: Backbone) -> None:
    assert icedit(tiny, DIPTYCHS) >= ICEDIT


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", None])
def test_icedit_edits_with_another_adapter(tiny: Backbone, adapter: str | None) -> None:
    assert icedit(tiny, adapter=adapter) >= ICEDIT


def aceplus(tiny: Backbone, *kinds: str, n: int, **options: Any) -> dict[str, Any]:
    """ACE++'s figures on the first few held-out examples of each kind."""
    editor = editkit.Editor(tiny, {"aceplus": options})
    found: dict[str, Any] = evaluate_masked.evaluate(editor, "aceplus", kinds, n=n, steps=STEPS)["kinds"]
    return found


def test_aceplus_edits_under_masks_and_leaves_the_rest(tiny: Backbone) -> None:
    found = aceplus(tiny, "local editing", n=DIPTYCHS)["local editing"]
    assert found["success"] >= LOCAL
    assert found["moved"] == 0


@pytest.mark.slow
def test_aceplus_recolours(tiny: Backbone) -> None:
    assert aceplus(tiny, "recolouring", n=FEW)["recolouring"]["success"] >= RECOLOURED


@pytest.mark.slow
def test_aceplus_edits_by_the_full_model(tiny: Backbone) -> None:
    found = aceplus(tiny, "local editing", n=FEW, model="full")["local editing"]
    assert found["success"] >= FULL
    assert found["moved"] == 0


@pytest.mark.slow
def test_aceplus_paints_from_references(tiny: Backbone) -> None:
    found = aceplus(tiny, "style", "local reference", n=16)
    assert found["style"]["success"] >= REFERENCED
    assert found["local reference"]["moved"] == 0


@pytest.mark.slow
def test_kontext_on_more_scenes(editor: editkit.Editor) -> None:
    found = evaluate.evaluate(editor, "kontext", n=64, sessions=6, steps=STEPS)
    assert found["overall"]["success"] >= KONTEXT
    assert found["overall"]["ceiling"] >= CEILING
    assert found["sessions"]["drift"][-1] <= 0.06


def test_scores_under_a_negative_prompt(editor: editkit.Editor) -> None:
    """Of two edits, which it changes."""
    for scored, method, more in (
        (evaluate.evaluate, "kontext", {}),
        (evaluate_masked.evaluate, "aceplus", {"names": ["local editing"]}),
    ):
        plain, pushed = (
            scored(editor, method, n=2, steps=2, negative=negative, **more)
            for negative in (None, "a red star")
        )
        assert (plain.pop("negative"), pushed.pop("negative")) == (None, "a red star")
        inside = [
            each["kinds"]["local editing"]["inside"] if more else each["overall"]["inside"]
            for each in (plain, pushed)
        ]
        assert inside[0] != inside[1]


def test_report_is_written_and_read_by_people(report: dict[str, Any], tmp_path: Path) -> None:
    evaluate.write(report, tmp_path)
    assert (tmp_path / "report.json").is_file()
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (6 * world.SIZE, len(world.KINDS) * world.SIZE)
    table = edits_table(report)
    assert "five turns in a row" in table
    assert all(kind in table for kind in world.KINDS)


def test_unknown_words_are_named(editor: editkit.Editor) -> None:
    source = Image.fromarray(world.render(world.draw_scene(random.Random(0))))
    with pytest.warns(UserWarning, match=r"does not know the words? giraffe.*flux1-dev"):
        editor.edit(source, "make the giraffe blue", steps=1)
