"""Behaviour: numbers of NumPy are numbers, and what is none is told in one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit import EditkitError, EditRequest, config
from editkit.inference.inputs import check_seed, prepare

PLAIN: dict[str, Any] = {"seed": 5, "steps": 3, "guidance": 2.5, "size": (64, 32)}
GIVEN: dict[str, Any] = {
    "seed": np.int64(5),
    "steps": np.int32(3),
    "guidance": np.float32(2.5),
    "size": (np.uint16(64), np.int64(32)),
}


def request(**more: Any) -> EditRequest:
    return EditRequest(image=Image.new("RGB", (16, 16)), instruction="make it red", **more)


def test_numbers_of_numpy_are_plain_numbers_in_a_recipe() -> None:
    asked = prepare(request(**GIVEN))
    assert json.dumps(asked.recipe_settings()) == json.dumps(prepare(request(**PLAIN)).recipe_settings())
    assert [type(each) for each in (asked.request.seed, asked.request.steps, asked.request.guidance)] == [
        int,
        int,
        float,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", True),
        ("seed", np.True_),
        ("seed", 2**63),
        ("seed", 2**70),
        ("seed", np.int64(-1)),
        ("seed", np.float64(3)),
        ("steps", True),
        ("steps", np.int64(0)),
        ("guidance", True),
        ("guidance", np.float32("nan")),
        ("size", (True, 16)),
    ],
)
def test_what_is_no_such_number_is_told(name: str, value: Any) -> None:
    with pytest.raises(EditkitError, match=f"{name}=.* is not allowed") as caught:
        prepare(request(**{name: value}))
    assert "\n" not in str(caught.value)
    if name == "seed":
        with pytest.raises(EditkitError, match="seed="):
            check_seed(value)


@dataclass(frozen=True, kw_only=True)
class Options:
    count: int = 1
    scale: float = 1.0
    sizes: tuple[int, ...] = ()


def test_options_take_numbers_of_numpy() -> None:
    values = {"count": np.int64(3), "scale": np.float32(0.5), "sizes": (np.int16(1), 2)}
    assert config.build(Options, values) == Options(count=3, scale=0.5, sizes=(1, 2))
