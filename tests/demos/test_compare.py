"""Behaviour of the Compare tab, as a program uses it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from PIL import Image

import editkit
from editkit.backbone import Backbone
from tests.command_line import one_sentence
from tests.demos.page_client import RED, compared, painted, words
from tests.pictures import difference


def test_methods_are_compared_on_one_canvas_and_seed(client: Client, tiny: Backbone) -> None:
    found = compared(client, methods=["icedit", "kontext"], seed=3)
    assert "2 of 2 done" in words(found["status"])
    recipes = {name: json.loads(found[f"{name}: recipe"]) for name in ("icedit", "kontext")}
    source = Image.open(RED).convert("RGB")
    for name, told in recipes.items():
        assert (told["method"], told["seed"]) == (name, 3)
        # The picture came through the page unharmed: the recipe holds the digest of its pixels.
        assert told["source_sha256"] == recipes["icedit"]["source_sha256"]
        before, after = (Image.open(path) for path in found[f"{name}: before and after"])
        assert before.resize(source.size, 0).tobytes() == source.tobytes()
        assert after.tobytes() != before.tobytes()
    edited = editkit.Editor(tiny).edit(source, "make the red circle blue", seed=3, steps=2).image
    shown = Image.open(found["kontext: before and after"][1])
    assert edited is not None
    # Another process may round otherwise.
    assert difference(shown.convert("RGB").resize(edited.size, 0), edited) <= 1


def test_paint_keeps_the_edit_inside(client: Client, tmp_path: Path) -> None:
    layer = Image.new("RGBA", (128, 128))
    layer.paste((255, 0, 128, 255), (10, 10, 70, 60))
    layer.save(tmp_path / "layer.png")
    found = client.predict(
        picture=painted(RED, tmp_path / "layer.png"),
        instruction="make the red circle blue",
        methods=["kontext"],
        steps=2,
        api_name="/compare",
    )
    (pair,) = (each for each in found if isinstance(each, list | tuple))
    before, after = (Image.open(path).convert("RGB").resize((128, 128), 0) for path in pair)
    outside = [(x, y) for x in range(128) for y in range(128) if not (10 <= x < 70 and 10 <= y < 60)]
    assert all(before.getpixel(place) == after.getpixel(place) for place in outside)
    assert before.getpixel((38, 34)) != after.getpixel((38, 34))


def test_unknown_words_are_noted(client: Client) -> None:
    found = compared(client, instruction="make the unicorn blue")
    assert "does not know the word unicorn" in words(found["status"])


def test_a_method_that_cannot_run_fails_alone(client: Client) -> None:
    found = compared(client, methods=["aceplus", "kontext"], aceplus_task="local_editing")
    assert "1 of 2 done" in words(found["status"])
    said = [words(each) for each in found.values() if isinstance(each, str) and "problem" in each]
    assert len(said) == 1
    assert "local_editing" in said[0]
    assert "mask" in said[0]
    assert found["kontext: before and after"] is not None


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"methods": []}, "No method is chosen"),
        ({"methods": ["dream"]}, "no method 'dream'"),
        ({"steps": 2000}, "steps=2000 is not allowed"),
        ({"seed": -1}, "seed=-1 is not allowed"),
        ({"kontext_area": -4}, "area must be at least 1"),
        ({"kontext_guidance": -1}, "guidance=-1 is not allowed"),
        ({"icedit_adapter": "/etc/passwd", "methods": ["icedit"]}, "adapter=/etc/passwd is not offered"),
        ({"adapters": ["/etc/passwd"]}, "The adapter /etc/passwd is not offered on this page"),
    ],
)
def test_what_cannot_be_done_is_said(client: Client, asked: dict[str, Any], problem: str) -> None:
    found = compared(client, **asked)
    said = [words(each) for each in found.values() if isinstance(each, str) and 'role="alert"' in each]
    assert len(said) == 1
    assert problem in said[0]
    one_sentence(said[0])


def test_files_that_are_no_pictures_are_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture at all")
    assert "bad.png is in no known picture format" in words(compared(client, tmp_path / "bad.png")["status"])
    Image.new("RGB", (400, 300)).save(tmp_path / "large.png")
    said = words(compared(client, tmp_path / "large.png")["status"])
    assert "400x300 pixels, where up to 40,000 are allowed" in said
    found = compared(client, references=[handle_file(tmp_path / "bad.png")])
    assert "bad.png is in no known picture format" in words(found["status"])
    assert str(tmp_path) not in found["status"]
    assert "editkit-demo" not in found["status"]


def test_every_output_of_compare_has_a_name(client: Client) -> None:
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/compare"]
    labels = [each["label"] for each in endpoint["returns"] if each["label"] != "Download"]
    assert not [label for label in labels if label.startswith("value")], labels
    assert len(set(labels)) == len(labels)


def test_stop_ends_the_edit_within_a_step(client: Client) -> None:
    job = client.submit(
        picture=painted(RED),
        instruction="make the red circle blue",
        methods=["kontext"],
        steps=1000,
        api_name="/compare",
    )
    deadline = time.monotonic() + 60
    while not any("step" in words(str(each[0])) for each in job.outputs()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    reached = int(re.findall(r"step (\d+) of 1000", str(job.outputs()[-1][0]))[0])
    assert reached < 900
    assert "Stopping" in client.predict(api_name="/compare_stop")
    assert words(job.result(timeout=30)[0]) == "Stopped."
    assert "Nothing is running" in client.predict(api_name="/compare_stop")
    assert "1 of 1 done" in words(compared(client)["status"])
