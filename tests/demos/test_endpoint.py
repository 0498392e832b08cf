"""Behaviour of the page's endpoint for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from editkit.imaging import images
from editkit.inference import provenance
from tests.demos.page_client import FILE, RED


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
    read = images.load_image(tmp_path / "raw.png")
    assert recipe["source_sha256"] == provenance.pixels_sha256(read)
    assert Image.open(edited).size == read.size
    assert provenance.read_recipe(edited) == recipe
    assert seconds > 0
    assert all(isinstance(note, str) for note in notes)


def test_programs_get_problems_as_errors(client: Client) -> None:
    with pytest.raises(AppError, match="no method 'dream'"):
        client.predict(picture=handle_file(RED), instruction="x", method="dream", api_name="/edit")


def test_paths_of_the_server_are_no_pictures(client: Client) -> None:
    call, outside = f"{client.src}gradio_api/call/edit", {"path": str(RED), "meta": FILE}
    asked = [outside, "make it red", "kontext", 0, None, None, False, None, None]
    event = httpx.post(call, json={"data": asked}, cookies=client.cookies).json()["event_id"]
    said = httpx.get(f"{call}/{event}", cookies=client.cookies, timeout=60).text
    assert "event: error" in said
    assert "Traceback" not in said
