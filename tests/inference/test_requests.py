"""Requests of the API that are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import editkit
from editkit.errors import EditkitError
from editkit.types import EditRequest
from tests.command_line import one_sentence
from tests.pictures import image as colourful


@pytest.fixture(scope="module")
def editor(random_pipeline: Path) -> editkit.Editor:
    return editkit.load(str(random_pipeline), "cpu")


SOURCE = colourful(40, 24)

BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "mask without image": ({"image": None, "mask": SOURCE}, "mask needs an image"),
    "number as image": ({"image": 7}, "image is of type int"),
    "bytes as image": ({"image": b"png"}, "image is of type bytes"),
    "null byte in path": ({"image": "a\0b.png"}, "null"),
    "number as mask": ({"mask": 7}, "mask is of type int"),
    "number as reference": ({"references": [7]}, "reference is of type int"),
    "path as references": ({"references": "reference.png"}, "references"),
    "mask of another size": ({"mask": Image.new("L", (24, 40), 255)}, "24x40 pixels, the image 40x24"),
    "no instruction": ({"instruction": None}, "instruction is empty"),
    "number as instruction": ({"instruction": 5}, "instruction"),
    "number as negative": ({"negative": 5}, "negative"),
    "text as steps": ({"steps": "4"}, "steps=4"),
    "fraction of steps": ({"steps": 1.5}, "steps=1.5"),
    "text as guidance": ({"guidance": "3"}, "guidance=3"),
    "infinite guidance": ({"guidance": float("inf")}, "guidance=inf"),
    "no seed": ({"seed": None}, "seed=None"),
    "fractional seed": ({"seed": 0.5}, "seed=0.5"),
    "text as size": ({"size": "64x64"}, "size=64x64"),
    "number as size": ({"size": 64}, "size=64"),
    "three sides": ({"size": (64, 64, 64)}, "size="),
    "fractional size": ({"size": (64.0, 64)}, "size="),
    "empty size": ({"size": (0, 64)}, "size="),
    "huge size": ({"size": (64, 8193)}, "too large"),
    "no method": ({"method": None}, "no method None"),
    "unknown method": ({"method": "kontekst"}, "did you mean 'kontext'"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests(case: str, editor: editkit.Editor) -> None:
    values, words = BAD_REQUESTS[case]
    given = {"image": SOURCE, "instruction": "make it blue", "steps": 1} | values
    with pytest.raises(EditkitError, match=words) as caught:
        editor.edit(**given)
    one_sentence(str(caught.value))


def test_bad_requests_fail_alone(editor: editkit.Editor) -> None:
    """Among good ones, each where it was; nothing is raised."""
    good = {"image": SOURCE, "instruction": "make it blue", "steps": 1}
    cases = list(BAD_REQUESTS.values())
    requests = [
        EditRequest(**good),
        *(EditRequest(**(good | values)) for values, _ in cases),
        EditRequest(**good),
    ]
    first, *failed, last = editor.edit_many(requests)
    assert first.image is not None
    assert last.image is not None
    for result, (_, words) in zip(failed, cases, strict=True):
        assert result.image is None
        assert re.search(words, str(result.error))
