"""Files that the page keeps on disk, and the settings that a link holds."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import pytest
from PIL import Image

from demos import compare_form, serve, settings
from demos.kept import KEY, Kept
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.inference import provenance, speed
from editkit.inference.speed_settings import as_text
from editkit.sessions import store
from editkit.types import EditResult

RECIPE: dict[str, Any] = {
    "instruction": "make it red & blue",
    "task": None,
    "seed": 7,
    "steps": 4,
    "guidance": 2.5,
    "preserve": True,
    "method": "icedit",
    "options": {"template": "paper", "subject": "scene", "adapter": "default"},
    "source_sha256": "ab" * 32,
    "mask": False,
    "references": 0,
}
PICTURE = Image.new("RGB", (8, 8), "red")


def result(**changes: Any) -> EditResult:
    return EditResult(image=PICTURE, method="icedit", seed=7, recipe={**RECIPE, **changes})


def test_a_browser_sees_its_own_results_and_no_others(tmp_path: Path) -> None:
    kept, visit = Kept(tmp_path, personal=False), Visit()
    mine, other = copy.deepcopy(visit), copy.deepcopy(visit)  # as Gradio makes visitors' states
    assert KEY.fullmatch(mine.secret())
    assert mine.secret() == mine.key != other.secret()
    assert kept.add(mine, PICTURE, result()) == ()
    assert kept.add(mine, PICTURE, result(seed=8)) == ()
    newest, oldest = kept.results(mine)
    assert provenance.read_recipe(newest)["seed"] == 8
    assert provenance.read_recipe(oldest)["seed"] == 7
    assert kept.results(other) == ()
    assert kept.results(Visit(key=mine.key)) == (newest, oldest)
    assert mine.key not in str(newest)
    assert kept.source(mine, newest) is not None
    with zipfile.ZipFile(kept.packed(mine, tmp_path)) as packed:
        assert sorted(name.split("/")[0] for name in packed.namelist()) == ["results", "results", "sources"]
    with pytest.raises(EditkitError, match="no results to download yet"):
        kept.packed(other, tmp_path)
    kept.forget(mine)
    assert kept.results(mine) == ()


def test_a_page_for_several_people_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demos.kept.MOST_RESULTS", 2)
    monkeypatch.setattr("demos.kept.MOST_SESSIONS", 2)
    shared, own, visit = Kept(tmp_path / "shared", False), Kept(tmp_path / "own", True), Visit()
    for kept in (shared, own):
        for seed, source in ((1, "aa"), (2, "bb"), (3, "aa"), (4, "cc")):
            kept.add(visit, PICTURE, result(seed=seed, source_sha256=source))
        for _ in range(3):
            folder = kept.new_session(visit)
            folder.mkdir()
            (folder / store.FILE).write_text("{}")
    assert [provenance.read_recipe(file)["seed"] for file in shared.results(visit)] == [4, 3]
    assert sorted(file.stem for file in shared.room(visit).glob("sources/*")) == ["aa", "cc"]
    assert len(shared.sessions(visit)) == 2
    assert len(own.results(visit)) == 4
    assert len(own.sessions(visit)) == 3


def test_one_person_s_browsers_see_the_same(tmp_path: Path) -> None:
    kept = Kept(tmp_path, personal=True)
    kept.add(Visit(), PICTURE, result())
    assert len(kept.results(Visit())) == 1


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (said,) = Kept(tmp_path / "file", personal=True).add(Visit(), PICTURE, result())
    assert "not in Results" in said
    assert "give another --output" in said


@pytest.fixture(scope="module")
def form() -> compare_form.Form:
    with gr.Blocks():
        return compare_form.Form({}, None)


def test_a_recipe_s_link_sets_what_the_recipe_says(form: compare_form.Form) -> None:
    link = settings.link(settings.of_recipe(RECIPE, None))
    changes, notes = settings.applied(form.settable(), settings.from_link(dict(parse_qsl(link[1:]))))
    assert notes == []
    set_to = {name: changes[control]["value"] for name, control in form.settable().items()}
    given = {
        "instruction": "make it red & blue",
        "methods": ["icedit"],
        "seed": 7,
        "steps": "4",
        "preserve": True,
    }
    assert {name: set_to[name] for name in given} == given
    assert set_to["icedit_guidance"] == "2.5"
    assert set_to["icedit_template"] == "paper"
    assert set_to["kontext_guidance"] == ""
    assert "icedit_adapter" not in link


def test_a_link_holds_a_measured_speed(form: compare_form.Form) -> None:
    used = as_text(speed.resolve("fast", "tiny", "kontext"))
    fast = {**RECIPE, "method": "kontext", "options": {}, "speed": used}
    assert settings.of_recipe(fast, "tiny")["kontext_speed"] == "fast"
    assert "kontext_speed" not in settings.of_recipe({**fast, "speed": "exact"}, "tiny")
    changes, notes = settings.applied(form.settable(), settings.of_recipe(fast, None))
    assert any(f"kontext_speed={used}" in note for note in notes)
    assert changes[form.settable()["kontext_speed"]]["value"] == "exact"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("icedit_adapter", "/etc/passwd", "is none of default"),
        ("methods", "kontext,dream", "methods=dream is none of"),
        ("seed", "7?", "is not a whole number"),
        ("preserve", "yes", "is none of true, false"),
        ("painting", "/etc/passwd", "is no setting of this page"),
        ("instruction", "x" * 5000, "longer than 4000 characters"),
    ],
)
def test_what_a_link_may_not_set_is_said(name: str, value: str, said: str, form: compare_form.Form) -> None:
    changes, (note,) = settings.applied(form.settable(), {name: value})
    assert said in note
    assert all(value not in str(change) for change in changes.values())


def test_gradio_s_own_words_in_a_link_are_no_settings() -> None:
    assert settings.from_link({"__theme": "dark", "view": "api", "seed": "1"}) == {"seed": "1"}


def test_operators_offer_adapters(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.safetensors").write_bytes(b"")
    found = serve.offered([str(tmp_path), "owner/name", "hf://owner/name/c.safetensors"])
    assert list(found) == ["a", "deep/b", "owner/name", "hf://owner/name/c.safetensors"]
    with pytest.raises(EditkitError, match="a second adapter a"):
        serve.offered([str(tmp_path), str(tmp_path / "a.safetensors")])
    with pytest.raises(EditkitError, match="is no file or folder that exists"):
        serve.offered(["gone.safetensors"])
    (tmp_path / "none").mkdir()
    with pytest.raises(EditkitError, match="holds no"):
        serve.offered([str(tmp_path / "none")])


def test_only_offered_adapters_can_be_worn() -> None:
    from demos.compare import Compare

    page: Any = SimpleNamespace(place=SimpleNamespace(adapters={"a": "/trusted/a.safetensors"}))
    assert Compare._lora(page, ["a"], "0.5") == {"/trusted/a.safetensors": 0.5}
    assert Compare._lora(page, ["a"], "") == {"/trusted/a.safetensors": 1.0}
    with pytest.raises(EditkitError, match="not offered"):
        Compare._lora(page, ["/trusted/a.safetensors"], None)
