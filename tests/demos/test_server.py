"""Behaviour of `editkit demo`: what clients get from a real server, and what they are refused."""

from __future__ import annotations

import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import editkit
from editkit.imaging import images
from editkit.inference import provenance
from tests import ROOT
from tests.command_line import Cli, one_sentence, refused
from tests.demos.page_server import Page, free_port, served
from tests.pictures import difference

SAMPLES = ROOT / "demos" / "samples"

RED = SAMPLES / "red_circle.png"

PASSWORD = "open sesame"

PIXELS = 40_000

FILE = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    adapters = ROOT / "methods" / "icedit" / "tiny" / "lora"
    with served(folder, "--max-pixels", PIXELS, "--adapter", adapters, EDITKIT_PASSWORD=PASSWORD) as found:
        yield found


@pytest.fixture
def client(page: Page, tmp_path: Path) -> Client:
    return Client(page.url, auth=("anybody", PASSWORD), verbose=False, download_files=tmp_path)


def painted(path: Path, *layers: Path) -> dict[str, Any]:
    """A picture as the editor sends it."""
    return {"background": handle_file(path), "layers": [handle_file(p) for p in layers], "composite": None}


def words(html: str) -> str:
    """What a person reads of it."""
    return unescape(re.sub(r"<[^>]+>", " ", html)).strip()


def compared(client: Client, path: Path = RED, **asked: Any) -> dict[str, Any]:
    """The last state of the Compare tab, by the names of its outputs."""
    asked = {"instruction": "make the red circle blue", "methods": ["kontext"]} | asked
    found = client.predict(picture=painted(path), api_name="/compare", **asked)
    return dict(zip(_outputs(client, "/compare"), found, strict=True))


def _outputs(client: Client, name: str) -> list[str]:
    """Names for the outputs: labels, with their place where one was there before; first how things stand."""
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"][name]
    labels = [each["label"] for each in endpoint["returns"]]
    told = [
        label if label not in labels[:place] else f"{label} {place}" for place, label in enumerate(labels)
    ]
    return ["status", *told[1:]]


def test_methods_are_compared_on_one_canvas_and_seed(client: Client) -> None:
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
    edited = editkit.load("tiny").edit(source, "make the red circle blue", seed=3).image
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


def turned(path: Path) -> None:
    """A picture that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(RED).convert("RGB").crop((0, 0, 128, 64)).save(path, exif=exif)


def deep(path: Path) -> None:
    """A picture of 16 bits a pixel."""
    Image.fromarray(np.linspace(0, 65535, 128 * 64).astype(np.uint16).reshape(64, 128)).save(path)


@pytest.mark.parametrize("make", [turned, deep])
def test_programs_edit_raw_files_as_the_command_line_does(make: Any, client: Client, tmp_path: Path) -> None:
    make(tmp_path / "raw.png")
    found = client.predict(
        picture=handle_file(tmp_path / "raw.png"), instruction="make the red circle blue", api_name="/edit"
    )
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/edit"]
    assert [each["label"] for each in endpoint["returns"]] == ["picture", "recipe", "notes", "seconds"]
    needed = [each["parameter_name"] for each in endpoint["parameters"] if not each["parameter_has_default"]]
    assert needed == ["picture", "instruction"]
    edited, recipe, notes, seconds = found
    read = images.load(tmp_path / "raw.png")
    assert recipe["source_sha256"] == provenance.pixels_sha256(read)
    assert Image.open(edited).size == read.size
    assert provenance.read(edited) == recipe
    assert seconds > 0
    assert all(isinstance(note, str) for note in notes)


def test_every_output_of_compare_has_a_name(client: Client) -> None:
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/compare"]
    labels = [each["label"] for each in endpoint["returns"] if each["label"] != "Download"]
    assert not [label for label in labels if label.startswith("value")], labels
    assert len(set(labels)) == len(labels)


def test_programs_get_problems_as_errors(client: Client) -> None:
    with pytest.raises(AppError, match="no method 'dream'"):
        client.predict(picture=handle_file(RED), instruction="x", method="dream", api_name="/edit")


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


def test_a_session_goes_back_and_forth(client: Client) -> None:
    def turn(name: str, **asked: Any) -> tuple[str, list[str], str]:
        found = client.predict(api_name=f"/session_{name}" if name else "/session", **asked)
        gallery, *_ = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
        captions = [each["caption"] for each in gallery]
        return words(found[0]), captions, next(words(part) for part in found if "Drift" in str(part))

    assert "no session yet" in words(client.predict(instruction="x", api_name="/session")[0])
    said, captions, _ = turn("", picture=handle_file(RED), instruction="make the red circle blue")
    assert "Turn 1 done" in said
    assert captions == ["0. original", "now: 1. make the red circle blue"]
    said, captions, _ = turn("", instruction="remove the purple star", preserve=False)
    assert "Turn 2 done" in said
    assert captions[2] == "now: 2. remove the purple star"
    assert turn("undo")[1][1] == "now: 1. make the red circle blue"
    assert turn("redo")[1][2] == "now: 2. remove the purple star"
    _, captions, drift = turn("anchor")
    assert captions[3].startswith("now: 3. anchor")
    assert "0.0 of 255" in drift
    for _ in range(3):
        turn("undo")
    assert "nothing to undo" in words(client.predict(api_name="/session_undo")[0])
    exported = client.predict(api_name="/session_export")
    folder, strip = (each for each in exported if str(each).endswith((".zip", "strip.png")))
    with zipfile.ZipFile(folder) as packed:
        assert {"session.json", "strip.png"} <= set(packed.namelist())
    assert len(provenance.read(strip)["session"]) == 1


def test_search_shows_previews_and_reasons(client: Client) -> None:
    found = client.predict(
        picture=handle_file(RED), instruction="make the red circle blue", seeds=3, seed=5, api_name="/search"
    )
    assert "Done: seed" in words(found[0])
    (previews,) = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
    assert [each["caption"].split(",")[0] for each in previews] == ["seed 5", "seed 6", "seed 7"]
    assert sum("the judge's" in each["caption"] for each in previews) == 1
    (reasons,) = (each for each in found if isinstance(each, str) and "<table" in each)
    assert reasons.count("error outside the change") == 2
    finished = client.predict(seed=7, api_name="/search_finish")
    assert words(finished[0]) == "Done: seed 7."
    refused = client.predict(picture=None, instruction="x", seeds=3, api_name="/search")
    assert "There is no picture yet" in words(refused[0])


def test_the_page_asks_for_its_password(page: Page) -> None:
    assert httpx.get(page.url + "config").status_code == 401
    with pytest.raises(Exception, match=r"[Cc]redentials|[Ll]ogin|auth"):
        Client(page.url, auth=("anybody", "wrong"), verbose=False)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(ROOT / "pyproject.toml"), "pyproject.toml", "../../etc/passwd"]
)
def test_only_the_page_own_files_are_served(client: Client, path: str) -> None:
    found = httpx.get(f"{client.src}gradio_api/file={path}", cookies=client.cookies)
    assert found.status_code in (403, 404)


def test_paths_of_the_server_are_no_pictures(client: Client) -> None:
    call, outside = f"{client.src}gradio_api/call/edit", {"path": str(RED), "meta": FILE}
    asked = [outside, "make it red", "kontext", 0, None, None, False, None, None]
    event = httpx.post(call, json={"data": asked}, cookies=client.cookies).json()["event_id"]
    said = httpx.get(f"{call}/{event}", cookies=client.cookies, timeout=60).text
    assert "event: error" in said
    assert "Traceback" not in said


def test_large_uploads_are_refused(client: Client) -> None:
    files = {"files": ("large.png", b"0" * (41 * 2**20))}
    sent = httpx.post(f"{client.src}gradio_api/upload", files=files, cookies=client.cookies, timeout=60)
    assert sent.status_code == 413


def test_bad_options_are_one_sentence(cli: Cli, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(page.url.split(":")[-1].strip("/"))
    refused(cli("demo", "--port", port), rf"127.0.0.1:{port} cannot be used \(.*in use\); give another")
    refused(cli("demo", "--host", "256.1.1.1", "--port", free_port()), "cannot be used")
    refused(cli("demo", "--max-pixels", 0), "--max-pixels 0 is not allowed")
    refused(cli("demo", "--load", "speed=9", "--port", free_port()), "speed")
    refused(cli("demo", "--dtype", "float3", "--port", free_port()), "float3")
    refused(cli("demo", "-b", "nonesuch", "--port", free_port()), "nonesuch")
    for name in [name for name in sys.modules if name.split(".")[0] == "demos"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(cli("demo", "--port", free_port()), r"pip install 'editkit\[demo\]'")


@pytest.mark.slow
def test_training_from_the_page(client: Client, page: Page) -> None:
    def status() -> str:
        return words(client.predict(api_name="/train_status")[0])

    assert "trains " in client.predict(steps=4, api_name="/train_plan")[0]
    assert "0 steps are not allowed" in words(client.predict(steps=0, api_name="/train_start")[0])
    client.predict(steps=4, api_name="/train_start")
    assert "already going on" in words(client.predict(steps=4, api_name="/train_start")[0])
    deadline = time.monotonic() + 300
    while "done at step 4" not in status():
        assert time.monotonic() < deadline, status()
        time.sleep(1)
    note, said = client.predict(api_name="/train_try")
    assert "kontext uses" in words(note)
    assert "active in Compare" in words(said)
    told = json.loads(compared(client)["kontext: recipe"])
    assert any(name.startswith("adapter") for name in told["weights"]), told["weights"]
    other = Client(page.url, auth=("another", PASSWORD), verbose=False)
    told = json.loads(compared(other)["kontext: recipe"])
    assert not any(name.startswith("adapter") for name in told["weights"])
