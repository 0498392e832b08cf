"""lmms-eval finds editkit as a model, and its editing tasks can read the answers."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit import api
from editkit.errors import EditkitError
from editkit.evaluation.records import Item
from tests import ROOT
from tests.evaluation.samples import picture

registry = pytest.importorskip(
    "lmms_eval.models.registry_v2", reason="lmms-eval is not installed; it is no requirement of editkit"
)
TASK, SPLIT = "gedit_bench", "train"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model as lmms-eval makes it: by its name, through the entry point, from its arguments."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (value,) = project["entry-points"]["lmms_eval.models"].values()
    found = registry.ModelRegistryV2()
    found.register_manifest(EntryPoint("editkit", value, "lmms_eval.models").load()())
    out = tmp_path_factory.mktemp("answers")
    made = found.get_model_class("editkit").create_from_arg_string(
        f"method=kontext,backbone=tiny,steps=2,out={out}", {"batch_size": 2, "device": "cpu"}
    )
    documents = [{"image": picture(number, (64, 64)), "instruction": "make it red"} for number in range(3)]
    documents.append({"instruction": "no picture"})
    made.task_dict = {TASK: {SPLIT: documents}}
    return made


def request(doc: int, text: str = "make it red") -> Any:
    def visuals(document: dict[str, Any]) -> list[Image.Image]:
        return [document["image"]] if "image" in document else []

    return SimpleNamespace(args=(text, {"temperature": 0}, visuals, doc, TASK, SPLIT))


def test_answers_name_pictures_of_the_right_documents(model: Any) -> None:
    answers = [json.loads(answer) for answer in model.generate_until([request(doc) for doc in range(3)])]
    for doc, answer in enumerate(answers):
        (path,) = answer["images"]
        assert Path(path).parts[-2:] == (TASK, f"{doc}.png")
    editor = api.load("tiny", "cpu")
    asked = dict(instruction="make it red", method="kontext", steps=2)
    alone = editor.edit(
        image=picture(2, (64, 64)), seed=Item(id=f"{TASK} 2", instruction="").seed(), **asked
    ).image
    np.testing.assert_allclose(
        np.asarray(Image.open(answers[2]["images"][0]), int), np.asarray(alone, int), atol=1
    )


def test_failures_are_answers_without_a_picture(model: Any) -> None:
    first, second = map(json.loads, model.generate_until([request(3), request(0)]))
    assert first == {"text": "The request has no picture to edit.", "images": []}
    assert len(second["images"]) == 1


def test_what_an_editor_cannot_do_is_refused(model: Any) -> None:
    with pytest.raises(EditkitError, match="editkit edits pictures"):
        model.loglikelihood([])
    with pytest.raises(EditkitError, match="editkit edits pictures"):
        model.generate_until_multi_round([])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("backbone=tiny", "needs method=NAME"),
        ("method=kontext,stepz=3", "has 'stepz'; give method"),
        ("method=kontext,batch_size=0", "--batch_size 0 is not allowed"),
    ],
)
def test_bad_arguments_are_refused(model: Any, arguments: str, told: str) -> None:
    with pytest.raises(EditkitError, match=told):
        type(model).create_from_arg_string(arguments)
