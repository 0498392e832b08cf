"""A program that uses the page, for tests."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from tests import ROOT

RED = ROOT / "demos" / "samples" / "red_circle.png"
PASSWORD = "open sesame"
PIXELS = 40_000
FILE = {"_type": "gradio.FileData"}


def painted(path: Path, *layers: Path) -> dict[str, Any]:
    """A picture as the editor sends it."""
    return {"background": handle_file(path), "layers": [handle_file(p) for p in layers], "composite": None}


def words(html: str) -> str:
    """What a person reads of it."""
    return unescape(re.sub(r"<[^>]+>", " ", html)).strip()


def compared(client: Client, path: Path = RED, **asked: Any) -> dict[str, Any]:
    """The last state of the Compare tab after an edit in few steps, by the names of its outputs."""
    asked = {"instruction": "make the red circle blue", "methods": ["kontext"], "steps": 2} | asked
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
