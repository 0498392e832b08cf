"""A question to the judge behind an endpoint, and what the endpoint was sent."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from editkit import judges
from editkit.judges import Case, Verdict
from tests.pictures import image

WORDS = "make the red circle blue"


def logged(server: str) -> list[dict[str, Any]]:
    return json.loads(urllib.request.urlopen(f"{server}/log", timeout=5).read())


def ask(url: str, **options: Any) -> Verdict:
    chosen = {"url": url, "timeout": 0.5, "retries": 2, "longest_wait": 0.2} | options
    case = Case(source=image(32, 32), instruction=WORDS)
    return judges.load_judge("openai", chosen).compare(case, image(32, 32, 1), image(32, 32, 2))
